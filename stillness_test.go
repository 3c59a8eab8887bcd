// Configuration files that are written in place while the proxy runs. Only
// complete contents take effect.

package networkproxy_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// denylistAtEnd returns a file that allows every host except one. The denylist
// comes last, so that a file that is cut short is valid and allows that host.
func denylistAtEnd() string {
	var b strings.Builder
	b.WriteString("[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = [\"*\"]\n")
	for i := range 20 {
		fmt.Fprintf(&b, "# comment %d\n", i)
	}
	b.WriteString("denied_domains = [\"bad.example\"]\n")
	return b.String()
}

// writeInPlace truncates a file and writes it again line by line, with a pause before
// each line. It calls look after each line.
func writeInPlace(t testing.TB, path, content string, pause time.Duration, look func()) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for line := range strings.Lines(content) {
		<-tick.C
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		look()
	}
}

func TestWatcherIgnoresHalfWrittenFiles(t *testing.T) {
	t.Parallel()
	padding := strings.Repeat("# comment\n", 20)
	limits := "[network_proxy]\nmode = \"full\"\n" + padding + "[network_proxy.policy]\nallowed_domains = [\"**.example\"]\n"
	narrow := "[network_proxy]\nenabled = true\npolicy.allowed_domains = [\"good.example\"]\n"
	denied := func(l *lab) bool { return l.reason("http://bad.example/") == networkproxy.ReasonDenied }
	for _, test := range []struct {
		name   string
		files  []string // the configuration
		limits string
		file   string // the file to write
		holds  func(l *lab) bool
	}{
		{"the configuration", []string{denylistAtEnd()}, "", "0.toml", denied},
		{"the second layer",
			[]string{"[network_proxy]\nenabled = true\npolicy.allowed_domains = [\"*\"]\n", denylistAtEnd()}, "", "1.toml", denied,
		},
		{"the mode",
			[]string{"[network_proxy]\nenabled = true\n" + padding + "mode = \"limited\"\n"}, "", "0.toml",
			func(l *lab) bool { return l.Mode() == networkproxy.ModeLimited },
		},
		{"the managed limits",
			[]string{narrow}, limits, "limits.toml",
			func(l *lab) bool { return l.AllowDomain("elsewhere.test") != nil },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, dir := startDir(t, test.files, test.limits)
			if !test.holds(l) {
				t.Fatal("the condition does not hold before the write")
			}
			path := filepath.Join(dir, test.file)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pause := 100 * time.Millisecond
			if testing.Short() {
				pause /= 2
			}
			writeInPlace(t, path, string(whole), pause, func() {
				if !test.holds(l) {
					t.Error("a half-written file is in force")
				}
			})
			// No error remains.
			eventually(t, "/health is ok", func() bool {
				return strings.Contains(l.admin("GET", "/health", "").body, `"ok"`)
			})
		})
	}
}

// startDir starts a proxy with configuration files 0.toml, 1.toml and so on in a
// directory, and with limits.toml unless limits is empty.
func startDir(t testing.TB, files []string, limits string) (*lab, string) {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for i, content := range files {
		paths = append(paths, filepath.Join(dir, fmt.Sprintf("%d.toml", i)))
		if err := os.WriteFile(paths[i], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return startFile(t, func(b *networkproxy.Builder) {
		networkproxy.SetQuiet(b, 20*time.Millisecond)
		if limits != "" {
			path := filepath.Join(dir, "limits.toml")
			if err := os.WriteFile(path, []byte(limits), 0o600); err != nil {
				t.Fatal(err)
			}
			b.Requirements(path)
		}
	}, paths...), dir
}

// A file that looks half-written is an error, however long it stays that way, and
// the last good policy remains in force. This applies to every file, and to
// reloads by the watcher, by a call and by the admin API.
func TestReloadRefusesWhatIsCutShort(t *testing.T) {
	t.Parallel()
	const (
		base   = "[network_proxy]\nenabled = true\n[network_proxy.policy]\nallowed_domains = [\"*\"]\n"
		over   = "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]\ndenied_domains = [\"bad.example\"]\n"
		limits = "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]\ndenied_domains = [\"bad.example\"]\n"
	)
	ways := []struct {
		name   string
		reload func(l *lab) string
	}{
		{"Reload", func(l *lab) string {
			if err := l.Reload(context.Background()); err != nil {
				return err.Error()
			}
			return ""
		}},
		{"POST /reload", func(l *lab) string {
			if got := l.admin("POST", "/reload", ""); got.status != 200 {
				return got.body
			}
			return ""
		}},
		{"the watcher", func(l *lab) string {
			var health string
			eventually(l.t, "/health reports the error", func() bool {
				health = l.admin("GET", "/health", "").body
				return strings.Contains(health, "degraded")
			})
			return health
		}},
	}
	for row, test := range []struct{ name, file, content, want string }{
		{"the second layer, empty", "1.toml", "", "had a [network_proxy] table"},
		{"the second layer, blank", "1.toml", "\n\n", "had a [network_proxy] table"},
		{"the second layer, a comment", "1.toml", "# configuration\n", "had a [network_proxy] table"},
		{"the second layer, other tables", "1.toml", "[other]\nx = 1\n", "had a [network_proxy] table"},
		{"the second layer, first header", "1.toml", "[network_proxy]\n", "ends in the header [network_proxy]"},
		{"the second layer, last header", "1.toml", "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]\n", "ends in the header [network_proxy.policy]"},
		{"the second layer, a header and no newline", "1.toml", "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]", "ends in the header [network_proxy.policy]"},
		{"the second layer, a header and a comment", "1.toml", "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]\n# the hosts\n", "ends in the header [network_proxy.policy]"},
		{"the second layer, no TOML", "1.toml", "[network_proxy]\nmode = \"fu", "1.toml:2"},
		{"the first layer, empty", "0.toml", "", "had a [network_proxy] table"},
		{"the first layer, last header", "0.toml", "[network_proxy]\nenabled = true\n[network_proxy.policy]\n", "ends in the header [network_proxy.policy]"},
		{"the managed limits, empty", "limits.toml", "", "limits.toml"},
		{"the managed limits, first header", "limits.toml", "[network_proxy]\n", "ends in the header [network_proxy]"},
		{"the managed limits, last header", "limits.toml", "[network_proxy]\nmode = \"full\"\n[network_proxy.policy]\n", "ends in the header [network_proxy.policy]"},
	} {
		for i, way := range ways {
			if !testnet.Chosen(row, i, len(ways)) {
				continue
			}
			if way.name == "the watcher" && !strings.HasSuffix(test.name, "empty") && !strings.HasSuffix(test.name, "last header") {
				continue // the watcher is slow, and reads in the same way
			}
			t.Run(test.name+", "+way.name, func(t *testing.T) {
				t.Parallel()
				l, dir := startDir(t, []string{base, over}, limits)
				path := filepath.Join(dir, test.file)
				whole, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
					t.Fatal(err)
				}
				if got := way.reload(l); !strings.Contains(got, test.want) || !strings.Contains(got, test.file) {
					t.Errorf("the error is %q; want %s and %q in it", got, test.file, test.want)
				}
				for url, want := range map[string]networkproxy.Reason{"http://bad.example/": networkproxy.ReasonDenied, "http://good.example/": ""} {
					if got := l.reason(url); got != want {
						t.Errorf("%s: %q, want %q: the last good policy is not in force", url, got, want)
					}
				}
				if err := os.WriteFile(path, whole, 0o600); err != nil {
					t.Fatal(err)
				}
				if err := l.Reload(context.Background()); err != nil {
					t.Errorf("reload of the whole file: %v", err)
				}
			})
		}
	}
}

// Deleting a line on purpose is an ordinary edit.
func TestReloadTakesDeletedKeys(t *testing.T) {
	t.Parallel()
	const whole = "[network_proxy]\nenabled = true\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"*\"]\ndenied_domains = [\"bad.example\"]\n"
	for _, test := range []struct{ name, content string }{
		{"the denylist", strings.Replace(whole, "denied_domains = [\"bad.example\"]\n", "", 1)},
		{"the mode", strings.Replace(whole, "mode = \"limited\"\n", "", 1)},
		{"the last newline", strings.TrimSuffix(whole, "\n")},
		{"the policy", "[network_proxy]\nenabled = true\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l, dir := startDir(t, []string{whole}, "")
			if err := os.WriteFile(filepath.Join(dir, "0.toml"), []byte(test.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := l.Reload(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// A reload that starts in the middle of a write waits for the end of the write.
func TestReloadWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	l, dir := startDir(t, []string{denylistAtEnd()}, "")
	path := filepath.Join(dir, "0.toml")
	content := strings.Replace(denylistAtEnd(), "bad.example", "worse.example", 1)
	lines := strings.SplitAfterN(content, "\n", 5) // the last part begins after allowed_domains
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(strings.Join(lines[:4], "")); err != nil {
		t.Fatal(err)
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- l.Reload(context.Background()) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for line := range strings.Lines(lines[4]) {
		<-tick.C
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		if got := l.reason("http://bad.example/"); got != networkproxy.ReasonDenied {
			t.Fatalf("half of the file is in force: %q", got)
		}
	}
	if err := <-reloaded; err != nil {
		t.Fatal(err)
	}
	if got := l.reason("http://worse.example/"); got != networkproxy.ReasonDenied {
		t.Errorf("the complete file is not in force: %q", got)
	}
}

// A file that is written all the time is an error after a bounded time.
func TestReloadOfAFileThatIsBeingWritten(t *testing.T) {
	t.Parallel()
	quiet := quietOfWriters()
	for {
		f := newConfigFile(t, `policy.allowed_domains = ["a.example"]`)
		l := startFile(t, func(b *networkproxy.Builder) { networkproxy.SetQuiet(b, quiet) }, f.path)
		stop, paused := make(chan struct{}), make(chan time.Duration)
		began := time.Now()
		go func() { paused <- f.keepWriting(t, began, stop) }()
		err := l.Reload(context.Background())
		close(stop)
		if <-paused >= quiet/2 {
			continue // the machine was so busy that the file became still
		}
		if err == nil || !strings.Contains(err.Error(), "being written") || !strings.Contains(err.Error(), f.path) {
			t.Errorf("Reload: %v", err)
		}
		if got := l.reason("http://a.example/"); got != "" {
			t.Errorf("the last good policy is not in force: %q", got)
		}
		return
	}
}

// quietOfWriters returns how long files must be still in tests that write to a
// file all the time. The machine must not pause for half as long.
func quietOfWriters() time.Duration {
	if testing.Short() {
		return 200 * time.Millisecond
	}
	return 400 * time.Millisecond
}

// keepWriting changes the file again and again until stop is closed. It returns
// the longest time without a change since last.
func (f *configFile) keepWriting(t *testing.T, last time.Time, stop <-chan struct{}) (longest time.Duration) {
	content := tomlFile(`policy.allowed_domains = ["b.example"]` + "\n")
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for {
		content = append(content, '#', '\n')
		if err := os.WriteFile(f.path, content[:min(len(content), 1<<16)], 0o600); err != nil {
			t.Error(err)
			return 0
		}
		now := time.Now()
		longest = max(longest, now.Sub(last))
		last = now
		select {
		case <-stop:
			return longest
		case <-pace.C:
		}
	}
}

// Managed limits take effect even if the configuration file is written all the
// time.
func TestLimitsWhileTheConfigurationIsBeingWritten(t *testing.T) {
	t.Parallel()
	quiet := quietOfWriters()
	for {
		l := startManaged(t, "enabled = true\n", "", func(b *networkproxy.Builder) { networkproxy.SetQuiet(b, quiet) })
		l.write(t, l.limits, "policy.allowed_domains = []\n")
		stop, paused := make(chan struct{}), make(chan time.Duration)
		began := time.Now()
		go func() { paused <- (&configFile{path: l.config}).keepWriting(t, began, stop) }()
		err := l.Reload(context.Background())
		close(stop)
		if <-paused >= quiet/2 {
			continue // the machine was so busy that the file became still
		}
		if err == nil || !strings.Contains(err.Error(), "being written") || strings.Contains(err.Error(), l.limits) {
			t.Errorf("Reload: %v", err)
		}
		if l.AllowDomain("a.example") == nil {
			t.Error("AllowDomain still follows the old limits")
		}
		return
	}
}

// Half-written limits do not take effect, even if the configuration cannot be
// read.
func TestHalfWrittenLimitsOverABrokenConfiguration(t *testing.T) {
	t.Parallel()
	const quiet = 800 * time.Millisecond
	for {
		l := startManaged(t, "enabled = true\n", "", func(b *networkproxy.Builder) { networkproxy.SetQuiet(b, quiet) })
		if err := os.Remove(l.config); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(l.limits, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		reloaded := make(chan error, 1)
		reload := sync.OnceFunc(func() { go func() { reloaded <- l.Reload(context.Background()) }() })
		began := time.Now()
		writeInPlace(t, l.limits, "[network_proxy]\nmode = \"full\"\n# more\n[network_proxy.policy]\n# more\nallowed_domains = []\n", 5*time.Millisecond, reload)
		slow := time.Since(began) >= quiet/2
		if err := <-reloaded; err == nil || !strings.Contains(err.Error(), "create the file") {
			t.Errorf("Reload: %v", err)
		}
		if slow {
			continue // the machine was so busy that the file may have become still
		}
		if l.AllowDomain("a.example") == nil {
			t.Error("the complete limits are not in force")
		}
		return
	}
}
