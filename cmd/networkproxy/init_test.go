// Tests of the init command and of the presets.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/domain"
)

// runProgram runs the program with an environment and returns its exit status and
// output.
func runProgram(env map[string]string, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	p := program{stdout: &out, stderr: &errs, getenv: func(name string) string { return env[name] }}
	status = p.main(context.Background(), args)
	return status, out.String(), errs.String()
}

// loaded returns the configuration that a file describes.
func loaded(t *testing.T, path string) networkproxy.Config {
	t.Helper()
	p, err := networkproxy.NewBuilder().ConfigFile(path).HTTPAddr("127.0.0.1:0").AdminAddr("127.0.0.1:0").Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := p.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	return h.Config()
}

// The written file is valid. It allows the hosts of its presets and nothing else,
// and its comments show the defaults of all other keys.
func TestInitWritesAConfiguration(t *testing.T) {
	t.Parallel()
	var all []string
	for _, p := range presets() {
		all = append(all, "-preset", p.name)
	}
	for _, args := range [][]string{nil, {"-preset", "npm"}, {"-preset=github", "-preset", "npm", "-preset", "npm"}, all} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			t.Parallel()
			want := networkproxy.DefaultConfig()
			want.Enabled = true
			for _, p := range presets() {
				if strings.Contains(fmt.Sprint(args), p.name) {
					want.Policy.AllowedDomains = append(want.Policy.AllowedDomains, p.hosts...)
				}
			}
			path := filepath.Join(t.TempDir(), "new.toml")
			status, stdout, stderr := runProgram(nil, append(append([]string{"init"}, args...), path)...)
			if status != 0 || stderr != "" || !strings.Contains(stdout, "wrote "+path+"\n") || !strings.Contains(stdout, "networkproxy run -config "+path+" -- COMMAND") {
				t.Fatalf("exit status %d, output %q, %q", status, stdout, stderr)
			}
			if got := loaded(t, path); !reflect.DeepEqual(got, want) {
				t.Errorf("the file says\n%+v\nwant\n%+v", got, want)
			}
			if status, _, stderr := runProgram(nil, "serve", "-config", path, "-check"); status != 0 {
				t.Errorf("serve -check: exit status %d, %s", status, stderr)
			}
			if _, onStdout, _ := runProgram(nil, append(append([]string{"init"}, args...), "-")...); onStdout != read(t, path) {
				t.Errorf("init - prints\n%s", onStdout)
			}

			// The defaults in the comments.
			shown := regexp.MustCompile(`(?m)^# ([a-z0-9_]+ = .*)$`).ReplaceAllString(read(t, path), "$1")
			withoutFiles := regexp.MustCompile(`(?m)^mitm_ca_.*\n`).ReplaceAllString(shown, "") // have no default
			writeConfig(t, path, withoutFiles)
			if got := loaded(t, path); !reflect.DeepEqual(got, want) {
				t.Errorf("the comments say\n%+v\nwant\n%+v", got, want)
			}
			for _, key := range keysOf(t, want) {
				if n := len(regexp.MustCompile(`(?m)^`+key+` = `).FindAllString(shown, -1)); n != 1 {
					t.Errorf("the file shows the key %s %d times", key, n)
				}
			}
		})
	}
}

// keysOf returns the keys of a configuration that are not tables.
func keysOf(t *testing.T, c networkproxy.Config) []string {
	t.Helper()
	var table map[string]any
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &table); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, part := range []map[string]any{table, table["policy"].(map[string]any)} {
		for key := range part {
			if key != "policy" {
				keys = append(keys, key)
			}
		}
	}
	if len(keys) < 17 {
		t.Fatalf("got only the keys %q", keys)
	}
	return keys
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Without FILE, init writes the file that the other commands read.
func TestInitDefaultFile(t *testing.T) {
	t.Parallel()
	for _, env := range []map[string]string{{"HOME": t.TempDir()}, {"XDG_CONFIG_HOME": filepath.Join(t.TempDir(), "not yet"), "HOME": "/none"}} {
		status, stdout, stderr := runProgram(env, "init", "-preset", "pypi")
		if status != 0 || stderr != "" || strings.Contains(stdout, "-config") {
			t.Errorf("%v: exit status %d, output %q, %q", env, status, stdout, stderr)
		}
		if status, stdout, stderr := runProgram(env, "check", "https://pypi.org/simple/"); status != 0 {
			t.Errorf("%v: check: exit status %d, %s%s", env, status, stdout, stderr)
		}
		path, _, _ := strings.Cut(strings.TrimPrefix(stdout, "wrote "), "\n")
		for p, want := range map[string]fs.FileMode{path: 0o600, filepath.Dir(path): fs.ModeDir | 0o700} {
			if info, err := os.Stat(p); err != nil || info.Mode() != want && runtime.GOOS != "windows" {
				t.Errorf("%s: %v, %v, want the mode %v", p, info, err, want)
			}
		}
		if status, _, stderr := runProgram(env, "init"); status != 1 || !strings.Contains(stderr, "exists and was not changed") {
			t.Errorf("%v: a second time: exit status %d, %q", env, status, stderr)
		}
	}
	if status, _, stderr := runProgram(nil, "init"); status != 2 || !strings.Contains(stderr, "name the FILE") {
		t.Errorf("without HOME: exit status %d, %q", status, stderr)
	}
}

func TestInitKeepsFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"a.toml", "b.toml", "linked.toml"} {
		if err := os.WriteFile(path(name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("linked.toml", path("link.toml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("missing.toml", path("dangling.toml")); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		args   []string
		status int
		stderr string
		kept   string // a file that must be as before
	}{
		{"a file", []string{path("a.toml")}, 1, "exists and was not changed", "a.toml"},
		{"a link", []string{path("link.toml")}, 1, "exists and was not changed", "linked.toml"},
		{"a link to nothing", []string{path("dangling.toml")}, 1, "exists and was not changed", ""},
		{"a directory", []string{dir}, 1, "exists and was not changed", ""},
		{"a directory, by force", []string{"-force", dir}, 1, "not a regular file", ""},
		{"in no directory", []string{path("no/such/file.toml")}, 1, "no/such/file.toml", ""},
		{"in no directory, by force", []string{"-force", path("no/such/file.toml")}, 1, "no/such", ""},
		{"two files", []string{path("x.toml"), path("y.toml")}, 2, "unexpected argument", ""},
		{"an unknown preset", []string{"-preset", "all", path("x.toml")}, 2, "use github, npm, pypi, go, cargo or debian", ""},
		{"a file, by force", []string{"-force", path("b.toml")}, 0, "", ""},
		{"a link, by force", []string{"-force", path("link.toml")}, 0, "", ""},
		{"a new file, by force", []string{"-force", path("new.toml")}, 0, "", ""},
	} {
		status, _, stderr := runProgram(nil, append([]string{"init"}, test.args...)...)
		if status != test.status || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%s: exit status %d, %q; want %d, %q", test.name, status, stderr, test.status, test.stderr)
		}
		if test.kept != "" && read(t, path(test.kept)) != "mine" {
			t.Errorf("%s: %s was changed", test.name, test.kept)
		}
	}
	for _, name := range []string{"b.toml", "linked.toml", "new.toml"} {
		if got := read(t, path(name)); got != starterConfig(nil) {
			t.Errorf("%s was not replaced: %q", name, got)
		}
	}
	if info, err := os.Lstat(path("link.toml")); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 6 {
		t.Errorf("%d files, want 6: %v, %v", len(entries), entries, err)
	}
}

// The command lines that init prints survive any file name.
func TestNextStepsQuote(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/etc/np.toml":    "-config /etc/np.toml ",
		"my file.toml":    "-config 'my file.toml' ",
		"it's;rm -r.toml": `-config 'it'\''s;rm -r.toml' `,
		"$(id).toml":      "-config '$(id).toml' ",
	} {
		if got := nextSteps(path, false); strings.Count(got, want) != 3 {
			t.Errorf("got %q, want %q in each command line", got, want)
		}
	}
}

// Presets name single public hosts with a port, and docs/program.md lists them.
func TestPresets(t *testing.T) {
	t.Parallel()
	var rows []string
	for _, p := range presets() {
		var hosts []string
		for _, host := range p.hosts {
			pattern, err := domain.Parse(host)
			if err != nil || pattern.Kind() != domain.Exact || !regexp.MustCompile(`\.[a-z]+:\d+$`).MatchString(host) {
				t.Errorf("%s: %s is no host with a port: %v", p.name, host, err)
			}
			hosts = append(hosts, "`"+host+"`")
		}
		if len(slices.Compact(slices.Sorted(slices.Values(hosts)))) != len(hosts) || len(hosts) == 0 {
			t.Errorf("%s: the hosts are %q", p.name, hosts)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", p.name, p.purpose, strings.Join(hosts, ", ")))
	}
	_, section, _ := strings.Cut(page(t, "docs/program.md"), "| preset | for | hosts |\n|---|---|---|\n")
	section, _, _ = strings.Cut(section, "\n\n")
	if want := strings.Join(rows, "\n"); section != want {
		t.Errorf("docs/program.md has the presets\n%s\nwant\n%s", section, want)
	}
}

func TestPresetFlag(t *testing.T) {
	t.Parallel()
	limits := configText(t, "[network_proxy]\n[network_proxy.policy]\nallowed_domains = [\"*.npmjs.org\"]\n")
	config := configText(t, "[network_proxy.policy]\nallowed_domains = [\"own.example\"]\ndenied_domains = [\"pypi.org\"]\n")
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"without a file", []string{"-preset", "npm", "https://registry.npmjs.org/left-pad"}, 0, `"registry.npmjs.org:443" in allowed_domains (the flag -preset npm)`},
		{"another port", []string{"-preset", "npm", "http://registry.npmjs.org/"}, 3, "not_allowed"},
		{"two presets", []string{"-preset", "npm", "-preset", "debian", "http://deb.debian.org/debian/"}, 0, "(the flag -preset debian)"},
		{"over a file", []string{"-config", config, "-preset", "npm", "https://own.example/"}, 0, config},
		{"the file denies", []string{"-config", config, "-preset", "pypi", "https://pypi.org/"}, 3, config},
		{"a flag denies", []string{"-preset", "pypi", "-deny", "pypi.org", "https://pypi.org/"}, 3, "the flag -deny"},
		{"over a managed limit", []string{"-requirements", limits, "-preset", "npm", "https://registry.npmjs.org/"}, 1, `the flag -preset npm: network_proxy.policy.allowed_domains[1] = "registry.yarnpkg.com:443": exceeds a managed limit`},
		{"unknown", []string{"-preset", "rubygems", "https://rubygems.org/"}, 2, "use github, npm, pypi, go, cargo or debian"},
	} {
		if status, out := checkTarget(t, nil, tt.args...); status != tt.status || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit %d, want %d and %q:\n%s", tt.name, status, tt.status, tt.want, out)
		}
	}
	if status, stdout, stderr := runProgram(nil, "serve", "-preset", "go", "-check"); status != 0 || stdout != "the flags: ok\n" {
		t.Errorf("serve: exit status %d, %q, %q", status, stdout, stderr)
	}
}
