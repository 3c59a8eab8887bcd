// The laboratory that the tests of this package share: a running proxy whose
// names are answered by a script, and whose connections to public addresses
// end at listeners on loopback.

package networkproxy_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// lab is one proxy under test.
type lab struct {
	*networkproxy.Handle
	t   testing.TB
	dns *testnet.Resolver
	net *testnet.Rewrite
	log *logBuffer
}

// publicAddr is what names resolve to unless a test says otherwise.
const publicAddr = "93.184.215.14"

// start runs a proxy over a configuration. change, if not nil, has a last
// word on the builder. The proxy is closed at the end of the test.
func start(t testing.TB, config networkproxy.Config, change func(*networkproxy.Builder)) *lab {
	t.Helper()
	l := &lab{t: t, dns: new(testnet.Resolver), net: new(testnet.Rewrite), log: new(logBuffer)}
	config.Enabled = true
	b := networkproxy.NewBuilder().
		Config(config).
		HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		Resolver(l.dns).
		Logger(slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	networkproxy.SetConnect(b, l.net.Connect)
	if change != nil {
		change(b)
	}
	proxy, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	l.Handle, err = proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// allow is a configuration that allows some hosts.
func allow(patterns ...string) networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Policy.AllowedDomains = patterns
	return c
}

// host makes a name resolve to the public address and that address, at a
// port, lead to a listener on loopback.
func (l *lab) host(name string, port uint16, to net.Addr) {
	l.dns.Set(name, testnet.Addrs(publicAddr))
	l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port), to)
}

// origin serves name:port over HTTP.
func (l *lab) origin(name string, port uint16, handler http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(handler)
	l.t.Cleanup(s.Close)
	l.host(name, port, s.Listener.Addr())
	return s
}

// client is an HTTP client that goes through the proxy and keeps its
// connections for itself.
func (l *lab) client() *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.HTTPAddr()})}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// logBuffer is a log that may be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
