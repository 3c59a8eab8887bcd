// Flags and builder shared by the commands that read a configuration.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/domain"
)

// configFlags holds the flags of the commands that read a configuration.
type configFlags struct {
	files        list
	defaultFile  bool // files is the user's configuration file
	allow, deny  []string
	presets      []string
	requirements string
	learned      string
	observe      bool
	tokenFile    string
	audit        *auditFile // nil without -audit
	mitm         bool
	limits       networkproxy.Limits
	logLevel     *choice

	// Of run and serve.
	ask        optional
	askTimeout time.Duration

	// Of run only.
	limited    bool
	credential []string                   // names of credentialPresets
	decider    networkproxy.PolicyDecider // nil: none
	handle     *networkproxy.Handle       // of run, once the proxy runs
}

// addConfigFlags defines the flags of every command that reads a configuration.
func addConfigFlags(p *program, f *flag.FlagSet) *configFlags {
	c := new(configFlags)
	f.Var(&c.files, "config", "TOML `file` with the [network_proxy] table (default: $XDG_CONFIG_HOME/networkproxy/config.toml, or ~/.config/networkproxy/config.toml, if it exists); may be repeated, and later files override earlier ones")
	f.Func("allow", "`pattern` of hosts to allow, such as api.example.com or '*.npmjs.org', in addition to the files; may be repeated", c.domain(&c.allow))
	f.Var(presetFlag(&c.presets), "preset", "`name` of a list of hosts to allow, see docs/program.md; may be repeated")
	f.Func("deny", "`pattern` of hosts to deny, even if something else allows them; may be repeated", c.domain(&c.deny))
	f.StringVar(&c.learned, "learned", "", "TOML `file` with the hosts that are allowed or denied for good, which only networkproxy writes; it may be missing")
	f.StringVar(&c.requirements, "requirements", "", "TOML `file` with managed limits, which no configuration may exceed")
	f.BoolVar(&c.observe, "observe", false, "allow and record allowlist misses; GET /suggest, or run at its end, prints an allowlist that covers them")
	f.BoolVar(&c.mitm, "mitm", false, "open TLS where the policy must see the requests inside, as with mitm = true; clients must trust the certificate that GET /ca.pem returns")
	c.logLevel = addLogFlags(p, f)
	return c
}

// addLimitFlag defines the flag of commands that run a proxy.
func (c *configFlags) addLimitFlag(f *flag.FlagSet) {
	f.Func("limit", "`name=value` of a limit in docs/limits.md, such as tunnel_idle=5m; may be repeated", func(s string) error {
		name, value, _ := strings.Cut(s, "=")
		return c.limits.Set(name, value)
	})
}

// addTokenFlag defines the flag of commands with an admin API that others use.
func (c *configFlags) addTokenFlag(f *flag.FlagSet) {
	f.StringVar(&c.tokenFile, "admin-token-file", "", "`file` with the bearer token that the admin API requires")
}

// domain returns the function of a flag that adds a pattern to list. Build
// reports other mistakes, such as a pattern that only the allowlist may have.
func (c *configFlags) domain(list *[]string) func(string) error {
	return func(pattern string) error {
		if _, err := domain.Parse(pattern); err != nil {
			return err
		}
		*list = append(*list, pattern)
		return nil
	}
}

// source describes the source of the configuration.
func (c *configFlags) source() string {
	if len(c.files) == 0 {
		return "the flags"
	}
	return c.files.String()
}

// configPath returns the path of the user's configuration file, or "" if the
// environment determines none.
func (p *program) configPath() string {
	dir := p.env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the XDG specification ignores relative paths
		home := p.env("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "networkproxy", "config.toml")
}

// defaultConfig returns configPath, or "" if there is no such file. A file that
// cannot be read is an error when it is loaded, because it may deny hosts.
func (p *program) defaultConfig() string {
	path := p.configPath()
	if _, err := os.Stat(path); path == "" || errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	return path
}

// saysNothing reports whether neither files nor flags configure the proxy.
func (c *configFlags) saysNothing() bool {
	return len(c.files) == 0 && len(c.allow) == 0 && len(c.deny) == 0 && len(c.presets) == 0 && len(c.credential) == 0 && c.learned == ""
}

// withoutFile returns the configuration if there is no file. With -ask, the user
// decides about servers on this machine as well, unless an administrator limits the
// configuration.
func (c *configFlags) withoutFile() networkproxy.Config {
	return networkproxy.Config{Enabled: true, Policy: networkproxy.PolicyConfig{AskLocal: c.ask.value != "" && c.requirements == ""}}
}

// builder returns a builder configured from the flags.
func (p *program) builder(c *configFlags) (*networkproxy.Builder, error) {
	if len(c.files) == 0 {
		if path := p.defaultConfig(); path != "" {
			c.files, c.defaultFile = list{path}, true
			p.report(slog.LevelInfo, "configuration from "+path)
		}
	}
	if c.saysNothing() && c.ask.value == "" {
		return nil, usagef("-config is missing: name a configuration file, allow hosts with -allow or -preset, or write a file with networkproxy init")
	}
	b := networkproxy.NewBuilder().Limits(c.limits).Logger(p.logger(c.logLevel.value)).
		AllowDomains("the flag -allow", c.allow...).DenyDomains("the flag -deny", c.deny...)
	addPresets(b, c.presets)
	if err := addCredentials(b, c.credential); err != nil {
		return nil, err
	}
	if len(c.files) > 0 {
		b.ConfigFiles(c.files...)
	} else {
		b.Config(c.withoutFile())
	}
	if c.learned != "" {
		b.LearnedFile(c.learned)
	}
	if c.requirements != "" {
		b.Requirements(c.requirements)
	}
	if c.observe {
		b.Observe()
	}
	if c.mitm || c.limited {
		b.MITM()
	}
	if c.ask.value == askPage {
		if err := c.checkAsk(); err != nil {
			return nil, err
		}
		b.AskOnPage().DeciderTimeout(c.askTimeout)
	}
	if c.decider != nil {
		b.PolicyDecider(c.decider).DeciderTimeout(0) // the asker has a timeout of its own
	}
	if c.audit != nil {
		if err := p.checkOutput(c, "-audit", c.audit.path); err != nil {
			return nil, err
		}
		b.AuditLog(c.audit)
	}
	if c.tokenFile != "" {
		token, err := os.ReadFile(c.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("-admin-token-file: %w", err)
		}
		b.AdminToken(strings.TrimSpace(string(token)))
	}
	return b, nil
}

// checkOutput returns a usageError if a file that the program is to write is one
// that it reads, or another one that it writes. flag and path name the file.
func (p *program) checkOutput(c *configFlags, flag, path string) error {
	info, _ := os.Stat(path) // may be missing
	if info != nil && !info.Mode().IsRegular() {
		return nil
	}
	others := append(slices.Clone(c.files), c.learned, c.requirements, c.tokenFile)
	if len(c.files) == 0 {
		others = append(others, p.defaultConfig())
	}
	if flag != "-audit" && c.audit != nil {
		others = append(others, c.audit.path)
	}
	for _, other := range others {
		if file, err := os.Stat(other); path == other || err == nil && os.SameFile(info, file) {
			return usagef("%s would overwrite %s, which another flag or the configuration uses: name another file", flag, quote(path))
		}
	}
	return nil
}

// build calls b.Build and returns early when ctx ends. Build takes no context and
// blocks while a configuration file is a pipe without a writer, so its goroutine
// may be left behind.
func build(ctx context.Context, b *networkproxy.Builder) (*networkproxy.NetworkProxy, error) {
	type built struct {
		proxy *networkproxy.NetworkProxy
		err   error
	}
	done := make(chan built, 1)
	go func() {
		proxy, err := b.Build()
		done <- built{proxy, err}
	}()
	select {
	case r := <-done:
		return r.proxy, r.err
	case <-ctx.Done():
		return nil, errors.New("stopped while reading the configuration; if it is a pipe, check that something writes to it")
	}
}
