// Tests of the flags -allow and -deny, and of the user's configuration file.

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// checkTarget runs check and returns its exit status and everything that it
// printed.
func checkTarget(t *testing.T, env map[string]string, args ...string) (int, string) {
	t.Helper()
	var out bytes.Buffer
	p := program{stdout: &out, stderr: &out, getenv: func(name string) string { return env[name] }}
	return p.main(context.Background(), append([]string{"check"}, args...)), out.String()
}

// TestCheckPrintsNoControlCharacters checks that a target cannot change the terminal.
func TestCheckPrintsNoControlCharacters(t *testing.T) {
	t.Parallel()
	for _, target := range []string{"http://\x1b[2J/", "a\u202eb.example:80", "x.example:80\r\nx.example:80: allowed", "\u009b2J:1"} {
		status, out := checkTarget(t, nil, "-allow", "x.example", target)
		if status != exitRefused || strings.ContainsAny(out, "\x1b\u202e\r\u009b") || strings.Contains(out, "\nx.example") {
			t.Errorf("%q: exit %d, %q", target, status, out)
		}
	}
}

func TestDomainFlags(t *testing.T) {
	t.Parallel()
	path := configText(t, "[network_proxy.policy]\nallowed_domains = [\"a.example\"]\ndenied_domains = [\"d.example\"]\n")
	limits := configText(t, "[network_proxy]\n[network_proxy.policy]\nallowed_domains = [\"*.b.example\"]\n")
	learned := filepath.Join(t.TempDir(), "learned.toml")
	if err := os.WriteFile(learned, []byte("# networkproxy: learned hosts\n[network_proxy.policy]\nallowed_domains = [\n  \"l.example\",\n  \"d.example\",\n]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"flags alone", []string{"-allow", "b.example", "-allow", "*.c.example", "x.c.example:443"}, 0, `"*.c.example" in allowed_domains (the flag -allow)`},
		{"a deny wins", []string{"-allow", "**.b.example", "-deny", "x.b.example", "x.b.example:443"}, 3, `"x.b.example" in denied_domains (the flag -deny)`},
		{"only a deny", []string{"-deny", "x.example", "a.example:443"}, 3, "not_allowed"},
		{"over a file", []string{"-config", path, "-allow", "b.example", "b.example:443"}, 0, "(the flag -allow)"},
		{"the file's entries stay", []string{"-config", path, "-allow", "b.example", "a.example:443"}, 0, path + ":6:20"},
		{"the file denies", []string{"-config", path, "-allow", "d.example", "d.example:443"}, 3, path + ":7:19"},
		{"the flag denies", []string{"-config", path, "-deny", "a.example", "a.example:443"}, 3, "(the flag -deny)"},
		{"within a managed limit", []string{"-requirements", limits, "-allow", "x.b.example", "x.b.example:443"}, 0, "allowed"},
		{"over a managed limit", []string{"-requirements", limits, "-allow", "a.example", "a.example:443"}, 1, "the flag -allow: network_proxy.policy.allowed_domains[0] = \"a.example\": exceeds a managed limit"},
		{"learned", []string{"-learned", learned, "l.example:443"}, 0, `"l.example" in allowed_domains (` + learned + `:4:3)`},
		{"learned, over a file", []string{"-config", path, "-learned", learned, "a.example:443"}, 0, path + ":6:20"},
		{"learned, denied by the file", []string{"-config", path, "-learned", learned, "d.example:443"}, 3, path + ":7:19"},
		{"learned, over a managed limit", []string{"-requirements", limits, "-learned", learned, "l.example:443"}, 3, "managed limits"},
		{"learned, but missing", []string{"-learned", learned + ".none", "l.example:443"}, 3, "not_allowed"},
		{"learned, but a configuration", []string{"-config", path, "-learned", path, "a.example:443"}, 1, "cannot be the learned file"},
		{"a URL", []string{"-allow", "https://b.example/x", "b.example:443"}, 2, `for flag -allow: `},
		{"what to write", []string{"-deny", "https://b.example/x", "b.example:443"}, 2, `write "b.example"`},
		{"a star to deny", []string{"-deny", "*", "b.example:443"}, 1, "the flag -deny: "},
	} {
		if status, out := checkTarget(t, nil, tt.args...); status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", tt.name, status, tt.status, tt.want, out)
		}
	}
}

func TestDefaultConfigFile(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, ".config", "networkproxy")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.toml")
	writeConfig(t, path, "[network_proxy.policy]\nallowed_domains = [\"a.example\"]\n")
	other := configText(t, "")
	start := "networkproxy: configuration from " + path + "\n"
	for _, tt := range []struct {
		name   string
		env    map[string]string
		args   []string
		status int
		reads  bool
	}{
		{"HOME", map[string]string{"HOME": home}, nil, 0, true},
		{"XDG_CONFIG_HOME", map[string]string{"XDG_CONFIG_HOME": filepath.Join(home, ".config"), "HOME": "/none"}, nil, 0, true},
		{"a relative path", map[string]string{"XDG_CONFIG_HOME": "x", "HOME": home}, nil, 0, true},
		{"with a flag", map[string]string{"HOME": home}, []string{"-allow", "b.example"}, 0, true},
		{"denied by a flag", map[string]string{"HOME": home}, []string{"-deny", "a.example"}, 3, true},
		{"with -config", map[string]string{"HOME": home}, []string{"-config", other}, 3, false},
		{"no file", map[string]string{"HOME": t.TempDir()}, nil, 2, false},
		{"no file, but a flag", map[string]string{"HOME": t.TempDir()}, []string{"-allow", "a.example"}, 0, false},
		{"empty environment", nil, nil, 2, false},
	} {
		status, out := checkTarget(t, tt.env, append(tt.args, "a.example:443")...)
		if status != tt.status || strings.Contains(out, start) != tt.reads {
			t.Errorf("%s: exit %d, want %d; reads the file: want %t\n%s", tt.name, status, tt.status, tt.reads, out)
		}
	}
}

// TestDomainFlagsStayAfterReload checks that a reload of the file keeps the
// entries of the flags.
func TestDomainFlagsStayAfterReload(t *testing.T) {
	t.Parallel()
	path := configText(t, "")
	p := start(t, "-config", path, "-allow", "flag.example", "-deny", "no.example")
	admin := "http://" + p.stderr.await(t, `admin API  on http://(\S+)`)
	writeConfig(t, path, "[network_proxy.policy]\nallowed_domains = [\"file.example\"]\n")
	p.hangup <- syscall.SIGHUP
	p.stderr.await(t, "reloaded")
	_, body := get(t, "", admin+"/config", "")
	for _, want := range []string{"file.example", "flag.example", "no.example", path + ":6:19, the flag -allow\"", "\"the flag -deny\""} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in %s", want, body)
		}
	}
	p.stop()
	p.status(t)
}
