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
	"strings"
	"syscall"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/domain"
)

// configFlags holds the flags of every command that reads a configuration.
type configFlags struct {
	files        fileList
	allow, deny  []string
	requirements *string
	observe      *bool
	tokenFile    *string
	limits       networkproxy.Limits
	logs         logOptions
}

// fileList is a flag that may be given more than once.
type fileList []string

func (l *fileList) String() string { return strings.Join(*l, ", ") }

func (l *fileList) Set(path string) error {
	*l = append(*l, path)
	return nil
}

func addConfigFlags(f *flag.FlagSet) *configFlags {
	c := new(configFlags)
	f.Var(&c.files, "config", "TOML `file` with the [network_proxy] table (default: $XDG_CONFIG_HOME/networkproxy/config.toml, or ~/.config/networkproxy/config.toml, if it exists); may be repeated, and later files override earlier ones")
	f.Func("allow", "`pattern` of hosts to allow, such as api.example.com or '*.npmjs.org', in addition to the files; may be repeated", c.domain(&c.allow))
	f.Func("deny", "`pattern` of hosts to deny, whatever allows them; may be repeated", c.domain(&c.deny))
	c.requirements = f.String("requirements", "", "TOML `file` with managed limits, which no configuration may exceed")
	c.observe = f.Bool("observe", false, "allow and record allowlist misses; GET /suggest, or run at its end, prints an allowlist that covers them")
	c.tokenFile = f.String("admin-token-file", "", "`file` with the bearer token that the admin API requires")
	f.Func("limit", "`name=value` of a limit in docs/limits.md, such as tunnel_idle=5m; may be repeated", func(s string) error {
		name, value, _ := strings.Cut(s, "=")
		return c.limits.Set(name, value)
	})
	c.logs = logFlags(f)
	return c
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

// defaultConfig returns the path of the user's configuration file, or "" if there
// is none. A file that cannot be read is an error when it is loaded, because
// it may deny hosts.
func (p *program) defaultConfig() string {
	if p.getenv == nil {
		return ""
	}
	dir := p.getenv("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) { // the XDG specification ignores relative paths
		home := p.getenv("HOME")
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(home, ".config")
	}
	path := filepath.Join(dir, "networkproxy", "config.toml")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return ""
	}
	return path
}

// builder returns a builder configured from the flags. It returns errUsage after
// printing what is wrong with the flags themselves.
func (p *program) builder(f *flag.FlagSet, c *configFlags) (*networkproxy.Builder, error) {
	if len(c.files) == 0 {
		if path := p.defaultConfig(); path != "" {
			c.files = fileList{path}
			fmt.Fprintf(p.stderr, "networkproxy: configuration from %s\n", path)
		}
	}
	if len(c.files) == 0 && len(c.allow) == 0 && len(c.deny) == 0 {
		return nil, p.usageError(f, "-config is missing: name the TOML file with the [network_proxy] table, or allow hosts with -allow")
	}
	log, err := c.logs.logger(&p.log)
	if err != nil {
		return nil, p.usageError(f, err.Error())
	}
	log = slog.New(p.held.handler(log.Handler()))
	b := networkproxy.NewBuilder().Limits(c.limits).Logger(log).
		AllowDomains("the flag -allow", c.allow...).DenyDomains("the flag -deny", c.deny...)
	if len(c.files) > 0 {
		b.ConfigFiles(c.files...)
	} else {
		b.Config(networkproxy.Config{Enabled: true})
	}
	if *c.requirements != "" {
		b.Requirements(*c.requirements)
	}
	if *c.observe {
		b.Observe()
	}
	if *c.tokenFile != "" {
		token, err := os.ReadFile(*c.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("-admin-token-file: %w", err)
		}
		b.AdminToken(strings.TrimSpace(string(token)))
	}
	return b, nil
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

// usageError prints a problem with the arguments and the usage of f, and returns
// errUsage.
func (p *program) usageError(f *flag.FlagSet, problem string) error {
	fmt.Fprintf(p.stderr, "networkproxy: %s\n", problem)
	f.Usage()
	return errUsage
}
