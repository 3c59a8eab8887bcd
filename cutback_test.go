// Tests of managed limits that are tightened while the proxy runs: they take
// effect at once, even if the configuration exceeds them.

package networkproxy_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// managedLab is a lab with managed limits that a test changes.
type managedLab struct {
	*lab
	config, limits string // the paths
}

// startManaged runs a proxy with a configuration and managed limits.
func startManaged(t testing.TB, config, limits string, change func(*networkproxy.Builder)) *managedLab {
	t.Helper()
	dir := t.TempDir()
	l := &managedLab{config: filepath.Join(dir, "config.toml"), limits: filepath.Join(dir, "limits.toml")}
	l.write(t, l.config, config)
	l.write(t, l.limits, limits)
	l.lab = startFile(t, func(b *networkproxy.Builder) {
		networkproxy.SetQuiet(b, 10*time.Millisecond)
		b.Requirements(l.limits)
		if change != nil {
			change(b)
		}
	}, l.config)
	return l
}

func (l *managedLab) write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte("[network_proxy]\n"+content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestTightenedLimitsCutBack(t *testing.T) {
	t.Parallel()
	const open = "enabled = true\nenable_socks5 = true\nenable_socks5_udp = true\nsni_check = \"off\"\nallow_upstream_proxy = true\n" +
		"[network_proxy.policy]\nallowed_domains = [\"in.corp.example\", \"out.example\", \"10.0.0.1\"]\ndenied_domains = [\"own.example\"]\n" +
		"allow_local_binding = true\nask_local = true\nallow_unix_sockets = [\"/run/a.sock\", \"/run/b.sock\"]\n"
	for _, test := range []struct {
		name   string
		limits string
		key    string
		check  func(t *testing.T, l *managedLab)
	}{
		{"allowed_domains", "policy.allowed_domains = [\"**.corp.example\"]\n", "allowed_domains[1]", func(t *testing.T, l *managedLab) {
			for _, row := range []struct {
				url  string
				want networkproxy.Reason
			}{
				{"http://in.corp.example/", ""}, {"http://out.example/", networkproxy.ReasonNotAllowed}, {"http://10.0.0.1/", networkproxy.ReasonNotAllowed},
			} {
				if got := l.reason(row.url); got != row.want {
					t.Errorf("%s: %q, want %q", row.url, got, row.want)
				}
			}
			if got := l.Config().Policy.AllowedDomains; !slices.Equal(got, []string{"in.corp.example"}) {
				t.Errorf("Config: %q", got)
			}
			if l.AllowDomain("other.example") == nil {
				t.Error("AllowDomain exceeds the new limits")
			}
		}},
		{"allowed_domains, none", "policy.allowed_domains = []\n", "allowed_domains[0]", func(t *testing.T, l *managedLab) {
			if got := l.reason("http://in.corp.example/"); got != networkproxy.ReasonNotAllowed {
				t.Errorf("got %q", got)
			}
		}},
		{"denied_domains", "policy.denied_domains = [\"own.example\", \"out.example\"]\n", "denied_domains", func(t *testing.T, l *managedLab) {
			x, err := l.ExplainURL(context.Background(), "http://out.example/", "", false)
			if err != nil || x.Reason != networkproxy.ReasonDenied || x.Rule.Position.File != l.limits || x.Rule.Position.Line != 2 {
				t.Errorf("got %+v, %v", x, err)
			}
			x, err = l.ExplainURL(context.Background(), "http://own.example/", "", false)
			if err != nil || x.Reason != networkproxy.ReasonDenied || x.Rule.Position.File != l.config {
				t.Errorf("the configuration's own entry: got %+v, %v", x, err)
			}
		}},
		{"mode", "mode = \"limited\"\n", "network_proxy.mode", func(t *testing.T, l *managedLab) {
			if l.Mode() != networkproxy.ModeLimited || l.Config().Mode != networkproxy.ModeLimited {
				t.Errorf("got %s, %s", l.Mode(), l.Config().Mode)
			}
			if l.SetMode(networkproxy.ModeFull) == nil {
				t.Error("SetMode exceeds the new limits")
			}
		}},
		{"sni_check", "sni_check = \"enforce\"\n", "network_proxy.sni_check", func(t *testing.T, l *managedLab) {
			if got := l.Config().SNICheck; got != networkproxy.SNIEnforce {
				t.Error(got)
			}
		}},
		{"allow_local_binding", "policy.allow_local_binding = false\n", "allow_local_binding", func(t *testing.T, l *managedLab) {
			if l.Config().Policy.AllowLocalBinding {
				t.Error("allow_local_binding is still on")
			}
		}},
		{"ask_local", "policy.ask_local = false\n", "ask_local", func(t *testing.T, l *managedLab) {
			if l.Config().Policy.AskLocal {
				t.Error("ask_local is still on")
			}
		}},
		{"allow_upstream_proxy", "allow_upstream_proxy = false\n", "allow_upstream_proxy", func(t *testing.T, l *managedLab) {
			if l.Config().AllowUpstreamProxy {
				t.Error("allow_upstream_proxy is still on")
			}
		}},
		{"allow_unix_sockets", "policy.allow_unix_sockets = [\"/run/b.sock\"]\n", "allow_unix_sockets[0]", func(t *testing.T, l *managedLab) {
			if got := l.Config().Policy.AllowUnixSockets; !slices.Equal(got, []string{"/run/b.sock"}) {
				t.Errorf("got %q", got)
			}
			if got := l.admin("GET", "/patterns", "").body; strings.Contains(got, "/run/a.sock") {
				t.Errorf("in force: %s", got)
			}
		}},
		{"admin_read_only", "admin_read_only = true\n", "admin_read_only", func(t *testing.T, l *managedLab) {
			if got := l.admin("POST", "/reload", ""); got.status != 403 {
				t.Errorf("got %d, want 403", got.status)
			}
		}},
		{"enabled", "enabled = false\n", "network_proxy.enabled", func(t *testing.T, l *managedLab) {
			if got := l.reason("http://in.corp.example/"); got != networkproxy.ReasonProxyDisabled {
				t.Errorf("got %q", got)
			}
		}},
		{"enable_socks5", "enable_socks5 = false\n", "enable_socks5", func(t *testing.T, l *managedLab) {
			for _, row := range []struct {
				url  string
				want networkproxy.Reason
			}{
				{"socks5://in.corp.example:80", networkproxy.ReasonProxyDisabled}, {"udp://in.corp.example:80", networkproxy.ReasonProxyDisabled}, {"http://in.corp.example/", ""},
			} {
				if got := l.reason(row.url); got != row.want {
					t.Errorf("%s: %q, want %q", row.url, got, row.want)
				}
			}
		}},
		{"enable_socks5_udp", "enable_socks5_udp = false\n", "enable_socks5_udp", func(t *testing.T, l *managedLab) {
			for _, row := range []struct {
				url  string
				want networkproxy.Reason
			}{
				{"socks5://in.corp.example:80", ""}, {"udp://in.corp.example:80", networkproxy.ReasonProxyDisabled},
			} {
				if got := l.reason(row.url); got != row.want {
					t.Errorf("%s: %q, want %q", row.url, got, row.want)
				}
			}
		}},
	} {
		for _, broken := range []bool{false, true} {
			t.Run(test.name+map[bool]string{false: "", true: ", and the configuration is broken"}[broken], func(t *testing.T) {
				t.Parallel()
				l := startManaged(t, open, "", func(b *networkproxy.Builder) { b.UpstreamEnviron(nil) })
				l.write(t, l.limits, test.limits)
				if broken {
					l.write(t, l.config, "mode = ")
				}
				err := l.Reload(context.Background())
				if (err != nil) != broken {
					t.Errorf("Reload: got the error %v, want an error: %t", err, broken)
				}
				test.check(t, l)
				health := l.admin("GET", "/health", "").body
				warnings := strings.Join(l.Warnings(), "\n")
				for _, report := range []struct{ where, text string }{{"/health", health}, {"Warnings", warnings}} {
					if !strings.Contains(report.text, test.key) || !strings.Contains(report.text, "limits.toml:2") {
						t.Errorf("%s does not report %s: %s", report.where, test.key, report.text)
					}
				}
				if !strings.Contains(health, `"degraded"`) && test.name != "enabled" {
					t.Errorf("/health is not degraded: %s", health)
				}
				l.waitLogged(t, test.key)

				// Loosened limits restore the configuration.
				l.write(t, l.limits, "mode = \"full\"\n")
				if broken {
					l.write(t, l.config, open)
				}
				if err := l.Reload(context.Background()); err != nil {
					t.Fatal(err)
				}
				if got := l.Config().Policy; len(got.AllowedDomains) != 3 || len(got.DeniedDomains) != 1 || len(got.AllowUnixSockets) != 2 || !got.AllowLocalBinding {
					t.Errorf("after the limits were loosened: %+v", got)
				}
				if got := l.Mode(); got != networkproxy.ModeFull {
					t.Errorf("after the limits were loosened: mode %s", got)
				}
			})
		}
	}
}

// Run-time settings that exceed the new limits are removed.
func TestTightenedLimitsDropWhatWasSetAtRunTime(t *testing.T) {
	t.Parallel()
	l := startManaged(t, "enabled = true\nmode = \"limited\"\npolicy.allowed_domains = [\"base.example\"]\n", "", nil)
	if err := errors.Join(l.SetMode(networkproxy.ModeFull), l.AllowDomain("added.example")); err != nil {
		t.Fatal(err)
	}
	session := l.open(networkproxy.SessionConfig{AllowedDomains: []string{"overlay.example"}})
	l.write(t, l.limits, "mode = \"limited\"\npolicy.allowed_domains = [\"base.example\"]\n")
	l.write(t, l.config, "this is broken")
	if err := l.Reload(context.Background()); err == nil {
		t.Error("a broken configuration: got no error")
	}
	if l.Mode() != networkproxy.ModeLimited {
		t.Error("the run-time mode exceeds the limits")
	}
	for host, want := range map[string]networkproxy.Reason{"base.example": "", "added.example": networkproxy.ReasonNotAllowed} {
		if got := l.reason("http://" + host + "/"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if got := doRequest(t, clientThrough(t, session.ProxyURL()), "GET", "http://overlay.example/", ""); got.status != 403 {
		t.Errorf("the session's own rule: got %d, want 403", got.status)
	}
	l.waitLogged(t, "added.example")
	l.waitLogged(t, "the mode set at run time")
}

// A new configuration that exceeds the limits is refused, and the last good one
// stays in force within the limits.
func TestTightenedLimitsRefuseANewExcess(t *testing.T) {
	t.Parallel()
	l := startManaged(t, "enabled = true\npolicy.allowed_domains = [\"a.example\", \"b.example\"]\n", "", nil)
	l.write(t, l.limits, "policy.allowed_domains = [\"a.example\"]\n")
	l.write(t, l.config, "enabled = true\npolicy.allowed_domains = [\"a.example\", \"c.example\"]\n")
	err := l.Reload(context.Background())
	var limit *networkproxy.LimitError
	if !errors.As(err, &limit) || !strings.Contains(err.Error(), "c.example") {
		t.Errorf("Reload: %v", err)
	}
	for _, test := range []struct {
		host string
		want networkproxy.Reason
	}{
		{"a.example", ""}, {"b.example", networkproxy.ReasonNotAllowed}, {"c.example", networkproxy.ReasonNotAllowed},
	} {
		if got := l.reason("http://" + test.host + "/"); got != test.want {
			t.Errorf("%s: %q, want %q", test.host, got, test.want)
		}
	}
}

// With a broken limits file, the last good limits stay in force.
func TestBrokenLimitsKeepTheLastGood(t *testing.T) {
	t.Parallel()
	l := startManaged(t, "enabled = true\npolicy.allowed_domains = [\"a.example\"]\n", "policy.allowed_domains = [\"a.example\"]\n", nil)
	for _, test := range []struct{ name, content string }{
		{"no TOML", "mode = "}, {"an unknown key", "modus = 1\n"}, {"a bad pattern", "policy.allowed_domains = [\"https://x/\"]\n"},
	} {
		l.write(t, l.limits, test.content)
		if err := l.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), l.limits) {
			t.Errorf("%s: got the error %v, want one about the limits file", test.name, err)
		}
		if l.AllowDomain("b.example") == nil {
			t.Errorf("%s: the last good limits are not in force", test.name)
		}
	}
}

// The watcher puts tightened limits in force even if the configuration source
// hangs, and more than once.
func TestTightenedLimitsDoNotWaitForTheSource(t *testing.T) {
	t.Parallel()
	config := allow("a.example", "b.example")
	config.Enabled = true
	limits := filepath.Join(t.TempDir(), "limits.toml")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(limits, []byte("[network_proxy]\n"+content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	release := make(chan struct{})
	first := true
	l := startSource(t, func(b *networkproxy.Builder) {
		b.Requirements(limits).ConfigSource(func(context.Context) (networkproxy.Config, error) {
			if !first {
				<-release
			}
			first = false
			return config, nil
		})
	}, nil)
	t.Cleanup(func() { close(release) })
	entries := []string{"a.example", "b.example"}
	if testing.Short() {
		entries = entries[:1]
	}
	for _, entry := range entries {
		write("policy.allowed_domains = [\"" + entry + "\"]\n")
		eventually(t, "the limits are in force", func() bool {
			return l.reason("http://"+entry+"/") == "" && len(l.Config().Policy.AllowedDomains) == 1
		})
	}
}

// The managed allowed_domains limit the decider, its grants, and the observer.
func TestLimitsBoundTheDeciderAndTheObserver(t *testing.T) {
	t.Parallel()
	const limits = "policy.allowed_domains = [\"**.corp.example\", \"localhost:7\"]\n"
	asked := make(chan string, 64) // used by the subtest of the decider only
	decide := func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- req.Host
			return networkproxy.Allow().ForSession(), nil
		})
	}
	observe := func(b *networkproxy.Builder) { b.Observe() }
	for _, test := range []struct {
		name   string
		change func(*networkproxy.Builder)
	}{{"decider", decide}, {"observer", observe}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := startManaged(t, "enabled = true\n", limits, test.change)
			echo := testnet.Echo(t).Addr()
			for _, host := range []string{"x.corp.example", "elsewhere.example"} {
				l.mapHost(host, 7, echo)
			}
			conn := l.connect("x.corp.example:7")
			if err := echoes(conn); err != nil {
				t.Fatal(err)
			}
			if test.name == "decider" {
				<-asked
			}
			for target, want := range map[string]int{"elsewhere.example:7": 403, "93.184.216.34:7": 403} {
				if got, _ := l.tryConnect(target); got != want {
					t.Errorf("%s: %d, want %d", target, got, want)
				}
			}
			if test.name == "decider" && len(asked) > 0 {
				t.Errorf("the decider was called for %s", <-asked)
			}
			x, err := l.ExplainURL(context.Background(), "https://elsewhere.example:7/", "", false)
			if err != nil || x.Allowed || x.Decider || x.Reason != networkproxy.ReasonNotAllowed || !strings.Contains(x.Message, "managed limits") {
				t.Errorf("got %+v, %v", x, err)
			}
			// Tightened limits cut connections that were allowed before.
			l.write(t, l.limits, "policy.allowed_domains = []\n")
			if err := l.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(20 * time.Second))
			if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the tunnel is still open: %v", err)
			}
		})
	}
}
