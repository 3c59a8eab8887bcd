// Tests of policy changes in a running proxy: by file, by call, and under load.

package networkproxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// startFile runs a proxy with configuration files.
func startFile(t testing.TB, change func(*networkproxy.Builder), paths ...string) *lab {
	return startSource(t, func(b *networkproxy.Builder) { b.ConfigFiles(paths...) }, change)
}

// reason returns the reason of the refusal of url, or "" if it is allowed.
func (l *lab) reason(url string) networkproxy.Reason {
	l.t.Helper()
	x, err := l.ExplainURL(context.Background(), url, "", false)
	if err != nil {
		l.t.Fatal(err)
	}
	return x.Reason
}

func TestReloadNoticesEveryKindOfEdit(t *testing.T) {
	t.Parallel()
	const before, after = `policy.allowed_domains = ["a.example"]`, `policy.allowed_domains = ["b.example"]`
	for _, test := range []struct {
		name string
		edit func(f *configFile, old os.FileInfo) error
	}{
		{"an atomic rename", func(f *configFile, _ os.FileInfo) error { f.replace(after); return nil }},
		{"a rewrite in place", func(f *configFile, _ os.FileInfo) error { return os.WriteFile(f.path, tomlFile(after), 0o600) }},
		{"an older modification time", func(f *configFile, old os.FileInfo) error {
			f.replace(after)
			return os.Chtimes(f.path, time.Time{}, old.ModTime().Add(-time.Hour))
		}},
		{"the same size and modification time", func(f *configFile, old os.FileInfo) error {
			f.replace(after)
			return os.Chtimes(f.path, time.Time{}, old.ModTime())
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newConfigFile(t, before)
			l := startFile(t, nil, f.path)
			old, err := os.Stat(f.path)
			if err != nil {
				t.Fatal(err)
			}
			if err := test.edit(f, old); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the edit takes effect", func() bool { return l.reason("http://b.example/") == "" })
			if got := l.reason("http://a.example/"); got != networkproxy.ReasonNotAllowed {
				t.Errorf("after the edit, a.example: reason %q, want %q", got, networkproxy.ReasonNotAllowed)
			}
		})
	}
}

func TestReloadKeepsTheLastGoodConfiguration(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `policy.allowed_domains = ["good.example"]`)
	l := startFile(t, nil, f.path)

	for _, test := range []struct{ name, broken string }{
		{"a syntax error", "policy.allowed_domains = ["},
		{"an unknown key", "policy.alowed_domains = []"},
		{"a bad pattern", `policy.allowed_domains = ["*.example", "https://x/"]`},
		{"a bad mode", `mode = "off"`},
		{"the wrong table", "\n[network-proxy]\nenabled = true"},
	} {
		f.replace(test.broken)
		err := l.Reload(context.Background())
		if err == nil {
			t.Errorf("%s: Reload succeeded, want an error", test.name)
			continue
		}
		if !strings.Contains(err.Error(), f.path+":") {
			t.Errorf("%s: the error lacks the position: %v", test.name, err)
		}
		if got := l.reason("http://good.example/"); got != "" {
			t.Errorf("%s: the last good policy is not in force: good.example is refused for %q", test.name, got)
		}
		if got := l.admin("GET", "/health", ""); !strings.Contains(got.body, `"degraded"`) || !strings.Contains(got.body, filepath.Base(f.path)) {
			t.Errorf("%s: /health does not report the error: got %s", test.name, got.body)
		}
	}
	f.replace(`policy.allowed_domains = ["other.example"]`)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := l.admin("GET", "/health", ""); !strings.Contains(got.body, `"ok"`) {
		t.Errorf("/health after the repair: got %s", got.body)
	}
}

func TestReloadKeepsWhatIsNotConfiguration(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, "")
	l := startFile(t, nil, f.path)
	l.get("http://refused.example/")
	f.replace(`policy.allowed_domains = ["x.example"]`)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := l.Blocked(); len(got) != 1 || got[0].Host != "refused.example" {
		t.Errorf("after a reload: got the records %+v", got)
	}
}

func TestReloadTellsWhatNeedsARestart(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, "")
	l := startFile(t, nil, f.path)
	f.replace("proxy_url = \"http://127.0.0.1:9\"\nenable_socks5 = true\npolicy.allowed_domains = [\"now.example\"]")
	got := l.admin("POST", "/reload", "")
	if got.status != 200 || !strings.Contains(got.body, "network_proxy.proxy_url") || !strings.Contains(got.body, "network_proxy.enable_socks5") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := l.reason("http://now.example/"); got != "" {
		t.Errorf("the other changes are not in force: got %q", got)
	}
}

func TestModeSetAtRunTime(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `mode = "full"`)
	l := startFile(t, nil, f.path)
	steps := []struct {
		name string
		do   func() error
		want networkproxy.Mode
	}{
		{"set", func() error { return l.SetMode(networkproxy.ModeLimited) }, networkproxy.ModeLimited},
		{"a reload that leaves the mode alone", func() error {
			f.replace("mode = \"full\"\npolicy.allowed_domains = [\"x.example\"]")
			return l.Reload(context.Background())
		}, networkproxy.ModeLimited},
		{"the file's mode changes", func() error {
			f.replace(`mode = "limited"`)
			return l.Reload(context.Background())
		}, networkproxy.ModeLimited},
		{"and back", func() error {
			f.replace(`mode = "full"`)
			return l.Reload(context.Background())
		}, networkproxy.ModeFull},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := l.Mode(); got != s.want {
			t.Errorf("%s: got the mode %s, want %s", s.name, got, s.want)
		}
	}
	if err := l.SetMode("open"); err == nil {
		t.Error("an unknown mode: got no error")
	}
}

func TestTurningOffRefusesAndCuts(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `policy.allowed_domains = ["echo.example"]`)
	l := startFile(t, nil, f.path)
	l.mapHost("echo.example", 7, testnet.Echo(t).Addr())
	conn := l.connect("echo.example:7")
	if err := os.WriteFile(f.path, []byte("[network_proxy]\nenabled = false\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil && !isReset(err) {
		t.Errorf("the tunnel ended with %v", err)
	}
	if got := l.get("http://echo.example/"); got.status != 503 || !strings.Contains(got.body, `"proxy_disabled"`) {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// The file allows a and denies b, or the reverse. Every request gets 200, or 403
// with the reason denied. A mixture of both policies would allow both hosts or
// refuse one with another reason.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	const workers = 16
	requests, replacements := int64(scaled(10_000)), int64(scaled(200))
	policies := [2]string{
		"policy.allowed_domains = [\"a.example\", \"both.example\"]\npolicy.denied_domains = [\"b.example\"]",
		"policy.allowed_domains = [\"b.example\", \"both.example\"]\npolicy.denied_domains = [\"a.example\"]",
	}
	f := newConfigFile(t, policies[0])
	l := startFile(t, func(b *networkproxy.Builder) { networkproxy.SetQuiet(b, time.Millisecond) }, f.path)
	hello := func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) }
	for _, host := range []string{"a.example", "b.example", "both.example"} {
		l.origin(host, 80, hello)
	}

	var done, allowed, denied atomic.Int64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			client := l.client()
			host := []string{"a.example", "b.example", "both.example"}[w%3]
			for done.Add(1) <= requests {
				resp, err := client.Get("http://" + host + "/")
				if err != nil {
					t.Errorf("%s: %v", host, err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				switch {
				case err != nil:
					t.Errorf("%s: %v", host, err)
				case resp.StatusCode == 200 && string(body) == host:
					allowed.Add(1)
				case resp.StatusCode == 403 && host != "both.example" && strings.Contains(string(body), `"denied"`):
					// Both policies deny what they do not allow. The reason
					// not_allowed would mean a mixture.
					denied.Add(1)
				default:
					t.Errorf("%s: %s %s", host, resp.Status, body)
				}
			}
		})
	}
	for i := range replacements {
		if i%2 == 1 {
			f.replace("policy.allowed_domains = [\"*\", 3]") // broken
			if err := l.Reload(context.Background()); err == nil {
				t.Error("a broken file was loaded")
			}
			continue
		}
		f.replace(policies[(i/2+1)%2])
		if err := l.Reload(context.Background()); err != nil {
			t.Error(err)
		}
		// Let some requests use each policy.
		for start := done.Load(); done.Load() < min(start+requests/replacements, requests); {
			select {
			case <-l.Done():
				t.Fatal("the proxy ended")
			case <-time.After(time.Millisecond):
			}
		}
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	if a, d := allowed.Load(), denied.Load(); a+d != requests || a == 0 || d == 0 {
		t.Errorf("got %d allowed and %d denied, want %d in all", a, d, requests)
	}
}

func TestDenyCutsOpenTunnels(t *testing.T) {
	t.Parallel()
	const tunnels = 50
	f := newConfigFile(t, `policy.allowed_domains = ["bad.example", "good.example"]`)
	l := startFile(t, nil, f.path)
	echo := testnet.Echo(t).Addr()
	l.mapHost("bad.example", 7, echo)
	l.mapHost("good.example", 7, echo)
	var conns []net.Conn
	for range tunnels {
		conns = append(conns, l.connect("bad.example:7"))
	}
	good := l.connect("good.example:7")

	start := time.Now()
	f.replace("policy.allowed_domains = [\"good.example\"]\npolicy.denied_domains = [\"bad.example\"]")
	for _, c := range conns {
		c.SetReadDeadline(start.Add(testTimeout))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a denied tunnel is still open: %v", err)
		}
	}
	t.Logf("%d tunnels cut %v after the edit", tunnels, time.Since(start).Round(time.Millisecond))
	if got := l.admin("GET", "/health", ""); !strings.Contains(got.body, fmt.Sprintf(`"cut": %d,`, tunnels)) && !strings.Contains(got.body, fmt.Sprintf("\"cut\": %d\n", tunnels)) {
		t.Errorf("the cut is not counted: got %s", got.body)
	}
	if err := echoes(good); err != nil {
		t.Errorf("a tunnel that is still allowed: %v", err)
	}
}

func TestDenyCutsPooledConnections(t *testing.T) {
	t.Parallel()
	l := start(t, allow("pooled.example"), nil)
	l.origin("pooled.example", 80, func(http.ResponseWriter, *http.Request) {})
	for range 2 {
		l.get("http://pooled.example/")
	}
	if got := len(l.net.Dialed()); got != 1 {
		t.Fatalf("%d connections for two requests", got)
	}
	if err := l.DenyDomain("pooled.example"); err != nil {
		t.Fatal(err)
	}
	if got := l.get("http://pooled.example/"); got.status != 403 {
		t.Errorf("denied: got %d, want 403", got.status)
	}
	if err := l.RemoveDomain("pooled.example"); err != nil {
		t.Fatal(err)
	}
	if got := l.get("http://pooled.example/"); got.status != 200 {
		t.Errorf("allowed again: got %d %s", got.status, got.body)
	}
	if got := len(l.net.Dialed()); got != 2 {
		t.Errorf("%d connections in all: the denied one was reused", got)
	}
}

func TestRunTimeRules(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, `policy.allowed_domains = ["file.example"]`)
	l := startFile(t, nil, f.path)
	check := func(when string, want map[string]networkproxy.Reason) {
		t.Helper()
		for host, reason := range want {
			if got := l.reason("http://" + host + "/"); got != reason {
				t.Errorf("%s: %s: got the reason %q, want %q", when, host, got, reason)
			}
		}
	}
	if err := errors.Join(l.AllowDomain("*.added.example"), l.DenyDomain("bad.added.example"), l.DenyDomain("file.example")); err != nil {
		t.Fatal(err)
	}
	added := map[string]networkproxy.Reason{
		"x.added.example": "", "bad.added.example": networkproxy.ReasonDenied,
		"file.example": networkproxy.ReasonDenied, "other.example": networkproxy.ReasonNotAllowed,
	}
	check("added", added)
	if err := l.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	check("after a reload", added)
	if got := l.admin("GET", "/patterns", "").body; !strings.Contains(got, "*.added.example") || !strings.Contains(got, "run time") {
		t.Errorf("/patterns: %s", got)
	}
	if err := errors.Join(l.RemoveDomain("*.ADDED.example"), l.RemoveDomain("file.example")); err != nil {
		t.Fatal(err)
	}
	check("removed", map[string]networkproxy.Reason{"x.added.example": networkproxy.ReasonNotAllowed, "file.example": ""})

	for _, test := range []struct{ entry, want string }{
		{"file.example", f.path},
		{"never.example", "not added at run time"},
		{"https://x/", "https"},
	} {
		if err := l.RemoveDomain(test.entry); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("RemoveDomain(%q): %v; want %q in it", test.entry, err, test.want)
		}
	}
	if l.DenyDomain("*") == nil || l.AllowDomain("0.0.0.0/0") == nil || l.AllowDomain("a b") == nil {
		t.Error("an invalid entry: got no error")
	}
}

func TestManagedLimitsHoldAtRunTime(t *testing.T) {
	t.Parallel()
	f := newConfigFile(t, "mode = \"limited\"\npolicy.allowed_domains = [\"x.corp.example\"]")
	limits := filepath.Join(t.TempDir(), "limits.toml")
	if err := os.WriteFile(limits, []byte("[network_proxy]\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"**.corp.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := startFile(t, func(b *networkproxy.Builder) { b.Requirements(limits) }, f.path)

	over := func(name string, err error) {
		t.Helper()
		var limit *networkproxy.LimitError
		if !errors.As(err, &limit) || !strings.Contains(err.Error(), limits) {
			t.Errorf("%s: %v; want an error that names %s", name, err, limits)
		}
	}
	over("SetMode", l.SetMode(networkproxy.ModeFull))
	over("AllowDomain", l.AllowDomain("elsewhere.example"))
	if got := l.admin("POST", "/mode", `{"mode":"full"}`); got.status != 409 || !strings.Contains(got.body, limits) {
		t.Errorf("/mode: got %d %s", got.status, got.body)
	}
	f.replace(`policy.allowed_domains = ["elsewhere.example"]`)
	err := l.Reload(context.Background())
	over("Reload", err)
	for _, want := range []string{f.path + ":", "network_proxy.policy.allowed_domains[0]", "elsewhere.example", "network_proxy.mode"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if err := l.AllowDomain("y.corp.example"); err != nil {
		t.Errorf("within the limits: %v", err)
	}
	// A tighter limit removes the run-time rule and takes effect like any edit.
	f.replace("mode = \"limited\"\npolicy.allowed_domains = [\"x.corp.example\"]")
	if err := os.WriteFile(limits, []byte("[network_proxy]\nmode = \"limited\"\n[network_proxy.policy]\nallowed_domains = [\"x.corp.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the tighter limit removes the rule", func() bool {
		return l.reason("http://y.corp.example/") == networkproxy.ReasonNotAllowed
	})
}

func TestConfigTellsWhereValuesComeFrom(t *testing.T) {
	t.Parallel()
	base := newConfigFile(t, "mode = \"limited\"\npolicy.allowed_domains = [\"base.example\"]")
	over := newConfigFile(t, "mitm = true\nmitm_hooks = [{ host = \"a.example\", access = \"git-fetch\" }]\n"+`policy.allowed_domains = ["over.example"]`)
	l := startFile(t, nil, base.path, over.path)
	got := l.admin("GET", "/config", "").body
	for _, want := range []string{
		`"network_proxy.mode": "` + base.path + `:3:8"`,
		`"network_proxy.policy.allowed_domains": "` + over.path + `:5:`,
		`"network_proxy.mitm": "` + over.path + `:3:8"`,
		`"network_proxy.mitm_hooks": "` + over.path + `:4:14"`,
		`"access": "git-fetch"`,
		`"network_proxy.socks_url": "default"`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("/config lacks %s:\n%s", want, got)
		}
	}
	if c := l.Config(); !slices.Equal(c.Policy.AllowedDomains, []string{"over.example"}) || c.Mode != networkproxy.ModeLimited {
		t.Errorf("Config: %+v", c)
	}
}

// A reload that never ends does not delay requests.
func TestReloadDoesNotStallRequests(t *testing.T) {
	t.Parallel()
	reading, goOn := make(chan struct{}), make(chan struct{})
	loads := 0
	config := allow("origin.example")
	config.Enabled = true
	l := startSource(t, func(b *networkproxy.Builder) {
		b.ConfigSource(func(context.Context) (networkproxy.Config, error) {
			if loads++; loads > 1 {
				close(reading)
				<-goOn
			}
			return config, nil
		})
	}, nil)
	l.origin("origin.example", 80, func(http.ResponseWriter, *http.Request) {})
	reloaded := make(chan error, 1)
	go func() { reloaded <- l.Reload(context.Background()) }()
	<-reading
	for range 3 {
		if got := l.get("http://origin.example/"); got.status != 200 {
			t.Errorf("during a reload: got %d %s", got.status, got.body)
		}
		if got := l.get("http://refused.example/"); got.status != 403 {
			t.Errorf("during a reload: got %d %s", got.status, got.body)
		}
	}
	close(goOn)
	if err := <-reloaded; err != nil {
		t.Error(err)
	}
}

// silentListener is a listener without connections, for proxies in a synctest
// bubble.
type silentListener struct{ closed chan struct{} }

func newSilentListener() *silentListener { return &silentListener{make(chan struct{})} }

func (l *silentListener) Accept() (net.Conn, error) { <-l.closed; return nil, net.ErrClosed }
func (l *silentListener) Close() error              { close(l.closed); return nil }
func (l *silentListener) Addr() net.Addr            { return &net.UnixAddr{Name: "silent", Net: "unix"} }

// Many callers ask for a reload while one reads the files. They share one further
// reload, which reads the files after they asked. The caller that was the first of
// them leaves.
func TestReloadsAreShared(t *testing.T) {
	t.Parallel()
	const callers = 10
	synctest.Test(t, func(t *testing.T) {
		f := newConfigFile(t, `policy.allowed_domains = ["a.example"]`)
		p, err := networkproxy.NewBuilder().ConfigFile(f.path).
			HTTPListener(newSilentListener()).AdminListener(newSilentListener()).Build()
		if err != nil {
			t.Fatal(err)
		}
		h := runProxy(t, p)
		defer h.Close()
		done := make(chan error, callers)
		reload := func(ctx context.Context) {
			go func() { done <- h.Reload(ctx) }()
			synctest.Wait() // it reads the files, or waits for the reload that does
		}
		reload(t.Context())
		f.replace(`policy.allowed_domains = ["b.example"]`)
		leaving, leave := context.WithCancel(t.Context())
		reload(leaving)
		for range callers - 2 {
			reload(t.Context())
		}
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left: got the error %v, want %v", err, context.Canceled)
		}
		for range callers - 1 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		x, err := h.Explain(t.Context(), request{Host: "b.example", Port: 80})
		if err != nil || !x.Allowed || x.Generation != 3 {
			t.Errorf("got allowed = %v in generation %d, %v; want true in generation 3, after two reloads", x.Allowed, x.Generation, err)
		}
	})
}

// BenchmarkReload reads and compiles a file of 100,000 patterns, and puts it in
// force.
func BenchmarkReload(b *testing.B) {
	var policy strings.Builder
	policy.WriteString("policy.allowed_domains = [\n")
	for i := range 100_000 {
		fmt.Fprintf(&policy, "  %q,\n", fmt.Sprintf("%shost-%d.domain-%d.example", []string{"", "*."}[i%2], i, i%1000))
	}
	policy.WriteString("]\n")
	l := startFile(b, nil, newConfigFile(b, policy.String()).path)
	for b.Loop() {
		if err := l.Reload(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
