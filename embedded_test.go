// The preset for hosts, and proxies without an admin API.

package networkproxy_test

import (
	"bufio"
	"encoding/base64"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// runBuilt builds and runs a proxy until the end of the test.
func runBuilt(t *testing.T, b *networkproxy.Builder) *networkproxy.Handle {
	t.Helper()
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return runProxy(t, p)
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The zero Config needs nothing else: commands in sessions pass what the lists
// allow, and nobody else can use the proxy.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	config := networkproxy.Config{EnableSOCKS5: true}
	config.Policy.AllowedDomains = []string{"127.0.0.1"}
	h := runBuilt(t, networkproxy.NewBuilder().Config(config).Embedded())
	for _, addr := range []string{h.HTTPAddr(), h.SOCKSAddr()} {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host != "127.0.0.1" || slices.Contains([]string{"3128", "8081"}, port) {
			t.Errorf("a shared listener is on %q, want a free port of 127.0.0.1", addr)
		}
	}
	if got := len(networkproxy.ListenersOf(h)); h.AdminAddr() != "" || got != 2 {
		t.Errorf("the admin API is on %q, and %d listeners are open; want none, and 2", h.AdminAddr(), got)
	}
	if w := h.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %q", w)
	}

	origin := testnet.Echo(t).Addr().String()
	for _, test := range []struct {
		proxy string
		want  int
	}{
		{"http://" + h.HTTPAddr(), http.StatusProxyAuthRequired},
		{"http://session:" + strings.Repeat("a", 52) + "@" + h.HTTPAddr(), http.StatusProxyAuthRequired},
		{openSession(t, h, networkproxy.SessionConfig{}).ProxyURL(), http.StatusOK},
		{openSession(t, h, networkproxy.SessionConfig{SharedPort: true}).ProxyURL(), http.StatusOK},
	} {
		if got := connectStatus(t, test.proxy, origin); got != test.want {
			t.Errorf("CONNECT by %s: status %d, want %d", test.proxy, got, test.want)
		}
	}
	results, err := h.SelfTest(t.Context())
	if err != nil || len(results) == 0 {
		t.Fatalf("the self-test: %d results, %v", len(results), err)
	}
	for _, r := range results {
		if !r.OK || strings.Contains(r.Promise, "admin") || r.Target == "" {
			t.Errorf("the self-test: %+v", r)
		}
	}
}

func openSession(t *testing.T, h *networkproxy.Handle, c networkproxy.SessionConfig) *networkproxy.Session {
	t.Helper()
	s, err := h.OpenSession(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// connectStatus returns the status of a CONNECT request through proxy.
func connectStatus(t *testing.T, proxy, target string) int {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := "CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n"
	if u.User != nil {
		request += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.String())) + "\r\n"
	}
	if _, err := io.WriteString(c, request+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// Settings that follow Embedded replace its own.
func TestEmbeddedCanBeChanged(t *testing.T) {
	t.Parallel()
	front, admin := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	h := runBuilt(t, networkproxy.NewBuilder().Config(networkproxy.Config{}).
		HTTPAddr("127.0.0.1:1"). // before Embedded: without effect
		Embedded().HTTPListener(front).AdminListener(admin))
	if h.HTTPAddr() != front.Addr().String() || h.AdminAddr() != admin.Addr().String() {
		t.Errorf("got %s and %s, want the addresses of the listeners", h.HTTPAddr(), h.AdminAddr())
	}
	h = runBuilt(t, networkproxy.NewBuilder().Config(networkproxy.Config{}).Embedded().HTTPAddr("[::1]:0").AdminAddr("127.0.0.1:0"))
	if !strings.HasPrefix(h.HTTPAddr(), "[::1]:") || h.AdminAddr() == "" {
		t.Errorf("got %q and %q, want addresses on [::1] and 127.0.0.1", h.HTTPAddr(), h.AdminAddr())
	}
}

// A file that turns the proxy off has the last word. Its addresses do not matter,
// so that several hosts can use it.
func TestEmbeddedWithAFile(t *testing.T) {
	t.Parallel()
	off := runBuilt(t, networkproxy.NewBuilder().ConfigFile(writeFile(t, "[network_proxy]\nenabled = false\n")).Embedded())
	if off.HTTPAddr() != "" {
		t.Error("the proxy runs although the file has enabled = false")
	}
	taken := listen(t, "127.0.0.1:0").Addr().String()
	for _, text := range []string{"", "[network_proxy]\nproxy_url = \"" + taken + "\"\nadmin_url = \"" + taken + "\"\n"} {
		if h := runBuilt(t, networkproxy.NewBuilder().ConfigFile(writeFile(t, text)).Embedded()); h.HTTPAddr() == "" || !h.Config().Enabled {
			t.Errorf("the proxy does not run with the file %q", text)
		}
	}
	limits := writeFile(t, "[network_proxy]\nenabled = false\n")
	if _, err := networkproxy.NewBuilder().Config(networkproxy.Config{}).Embedded().Requirements(limits).Build(); err == nil {
		t.Error("Build succeeded although the managed limits have enabled = false")
	}
}

// Without an admin API nothing listens on admin_url, and its address is free for
// others and as a target.
func TestNoAdmin(t *testing.T) {
	t.Parallel()
	config := enabled()
	config.AdminURL = listen(t, "127.0.0.1:0").Addr().String()
	config.ProxyURL = config.AdminURL // collides with nothing
	config.Policy.AllowedDomains = []string{"127.0.0.1"}
	b := networkproxy.NewBuilder().Config(config).NoAdmin()
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	port := netip.MustParseAddrPort(config.AdminURL).Port()
	x, err := p.Explain(t.Context(), request{Host: "127.0.0.1", Port: port})
	if err != nil || x.Allowed {
		t.Errorf("proxy_url is allowed as a target: %+v, %v", x, err)
	}
	h := runBuilt(t, b.HTTPAddr("127.0.0.1:0"))
	if got := len(networkproxy.ListenersOf(h)); h.AdminAddr() != "" || got != 1 {
		t.Errorf("the admin API is on %q, and %d listeners are open; want none, and 1", h.AdminAddr(), got)
	}
	if x, err := h.Explain(t.Context(), request{Host: "127.0.0.1", Port: port}); err != nil || !x.Allowed {
		t.Errorf("admin_url is refused as if it were open: %+v, %v", x, err)
	}
	if _, err := networkproxy.NewBuilder().Config(config).AdminListener(listen(t, "127.0.0.1:0")).NoAdmin().Build(); err == nil ||
		!strings.Contains(err.Error(), "NoAdmin and AdminListener exclude each other") {
		t.Errorf("AdminListener with NoAdmin: got the error %v", err)
	}
}

// A proxy that is off says so, with the remedy, in its warnings and in the log. The
// tests with real clients check that its environment lets none of them connect.
func TestProxyThatIsOff(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "[network_proxy]\nenabled = false\n")
	for _, test := range []struct {
		name, remedy string
		b            *networkproxy.Builder
	}{
		{"the zero Config", "set Enabled in the Config, or use Builder.Embedded", networkproxy.NewBuilder().Config(networkproxy.Config{})},
		{"a file", "set enabled = true in the table [network_proxy] of " + path, networkproxy.NewBuilder().ConfigFile(path)},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var log testnet.Buffer
			h := runBuilt(t, test.b.Logger(slog.New(slog.NewTextHandler(&log, nil))))
			if w := strings.Join(h.Warnings(), "\n"); !strings.Contains(w, test.remedy) {
				t.Errorf("the warnings do not say what to do: %q", w)
			}
			networkproxy.FlushLog(h)
			if got := log.String(); !strings.Contains(got, test.remedy) {
				t.Errorf("the log does not say what to do: %s", got)
			}
		})
	}
}
