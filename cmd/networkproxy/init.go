// The init command writes a configuration to start from.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func (p *program) initConfig(f *flag.FlagSet) func(context.Context) error {
	var names []string
	f.Var(presetFlag(&names), "preset", "`name` of a list of hosts to allow; may be repeated")
	force := f.Bool("force", false, "replace the file if it exists")
	return func(context.Context) error {
		if f.NArg() > 1 {
			return usagef("unexpected argument %s", quote(f.Arg(1)))
		}
		text := starterConfig(names)
		path, isDefault := f.Arg(0), false
		switch path {
		case "-":
			_, err := io.WriteString(p.stdout, text)
			return err
		case "":
			if path = p.configPath(); path == "" {
				return usagef("name the FILE to write, because neither XDG_CONFIG_HOME nor HOME is an absolute path")
			}
			isDefault = true
			// The XDG Base Directory Specification requires this mode.
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return err
			}
		}
		if err := writeNew(path, text, *force); err != nil {
			return err
		}
		_, err := io.WriteString(p.stdout, nextSteps(path, isDefault))
		return err
	}
}

// writeNew writes text to a new file that only the user can read. With force, it
// replaces an existing file as a whole.
func writeNew(path, text string, force bool) error {
	if !force {
		// O_EXCL also fails for a symbolic link to a missing file.
		file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s exists and was not changed: use -force to replace it, or name another file", path)
		}
		if err != nil {
			return err
		}
		return finish(file, text)
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // replace the file, not the link
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file, and was not changed", path)
	}
	// A proxy that watches the file must not read half of it.
	file, err := os.CreateTemp(filepath.Dir(path), ".networkproxy-*.toml")
	if err != nil {
		return err
	}
	if err := finish(file, text); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		os.Remove(file.Name())
		return err
	}
	return nil
}

// finish writes and closes a new file, and removes it if that fails.
func finish(file *os.File, text string) error {
	_, err := file.WriteString(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		os.Remove(file.Name())
	}
	return err
}

// nextSteps says what to do with a new configuration.
func nextSteps(path string, isDefault bool) string {
	flag := ""
	if !isDefault {
		flag = " -config " + shellWord(path)
	}
	return "wrote " + path + "\n\nNext, list in it the hosts that commands may reach. Then:\n\n" +
		"  networkproxy check" + flag + " https://api.example.com/   # is this URL allowed, and why?\n" +
		"  networkproxy run" + flag + " -- COMMAND                   # run a command under it\n" +
		"  networkproxy run" + flag + " -observe -- COMMAND          # learn what a command needs\n"
}

// starterConfig returns a commented configuration that allows the hosts of
// presets. Its comments show the default of every other key.
func starterConfig(names []string) string {
	var allowed strings.Builder
	for _, p := range selectPresets(names) {
		fmt.Fprintf(&allowed, "  # preset %s: %s\n", p.name, p.purpose)
		for _, host := range p.hosts {
			fmt.Fprintf(&allowed, "  %q,\n", host)
		}
	}
	return strings.Replace(starterText, "  # HOSTS\n", allowed.String(), 1)
}

const starterText = `# The configuration of networkproxy. Check it with "networkproxy -check". A running
# proxy applies an edit within two seconds; keys marked (restart) wait for the
# next start. A misspelt key is an error. A line that begins with "# key =" shows
# the default of a key: remove the # to change it.

[network_proxy]

# false turns the proxy off.
enabled = true

# Where "networkproxy serve" listens; "networkproxy run" takes free ports. (restart)
# proxy_url = "http://127.0.0.1:3128"
# admin_url = "http://127.0.0.1:8080"
# admin_read_only = false

# SOCKS5 for clients that do not speak HTTP, and datagrams over it. (restart)
# enable_socks5 = false
# socks_url = "http://127.0.0.1:8081"
# enable_socks5_udp = false

# true: send allowed requests through the proxy of HTTP_PROXY, HTTPS_PROXY,
# ALL_PROXY and NO_PROXY, which then looks up the names.
# allow_upstream_proxy = false

# true: let other machines use the listeners. (restart)
# dangerously_allow_non_loopback_proxy = false
# dangerously_allow_non_loopback_admin = false

# "limited": only reads, which are GET, HEAD, OPTIONS and git fetch. With mitm =
# true also over HTTPS.
# mode = "full"

# "off": TLS clients need not name the host that was allowed.
# sni_check = "enforce"

# true: open TLS where the requests inside must be seen: in limited mode, for hosts
# with mitm_hooks, and for mitm_domains. Clients must trust a certificate then;
# "networkproxy run" sees to it.
# mitm = false
# mitm_domains = []
# mitm_exempt_domains = []

# The files of a certificate authority of your own, from "networkproxy ca"; without
# them, each start makes a new one in memory. (restart)
# mitm_ca_cert = "/path/to/ca.pem"
# mitm_ca_key = "/path/to/ca-key.pem"

# true: commands get placeholders in place of the secrets of credential_providers, in
# the tables [network_proxy.credential_providers.NAME]: see docs/credentials.md.
# credential_broker = false
# credential_providers = {}
# dangerously_allow_plaintext_credential_injection = false

# Request rules, in the tables [[network_proxy.mitm_hooks]]: see docs/rules.md.
# mitm_hooks = []

[network_proxy.policy]

# The hosts that commands may reach. All others are refused. Patterns:
#   example.com         that host          example.com:8443   on that port only
#   *.example.com       hosts below it     **.example.com     it and hosts below it
#   203.0.113.7         an address         203.0.113.0/24     a block of addresses
#   localhost:3000      a server on this machine, which only such an entry allows
allowed_domains = [
  # HOSTS
]

# The hosts that are refused even if something else allows them. Patterns as above.
denied_domains = []

# true: allowed_domains may allow local addresses with wildcards and names as well.
# allow_local_binding = false

# true: "networkproxy run -ask", or a program that embeds the proxy, asks about
# servers on this machine that allowed_domains does not name.
# ask_local = false

# Absolute paths of the unix sockets that requests may name (macOS).
# allow_unix_sockets = []
`
