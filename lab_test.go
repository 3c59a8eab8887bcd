// lab, which most tests use: a running proxy whose name server is scripted, and
// whose connections to public addresses lead to listeners on loopback.

package networkproxy_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestMain runs more tests at once than there are processors, unless -parallel
// is given, because most tests wait. -short runs still more at once.
func TestMain(m *testing.M) {
	if targets := os.Getenv(connectVariable); targets != "" {
		os.Exit(connectAll(strings.Fields(targets)))
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		parallel := 8
		if testing.Short() {
			parallel = 48
		}
		flag.Set("test.parallel", strconv.Itoa(max(parallel, runtime.GOMAXPROCS(0))))
	}
	os.Exit(m.Run())
}

// lab is a proxy under test.
type lab struct {
	*networkproxy.Handle
	t   testing.TB
	dns *testnet.Resolver
	net *testnet.Dialer
	log *testnet.Buffer
}

// serve makes name:port lead to a TCP server that calls handle for each
// connection.
func (l *lab) serve(name string, port uint16, handle func(*net.TCPConn)) *testnet.Origin {
	o := testnet.Serve(l.t, handle)
	l.mapHost(name, port, o.Addr())
	return o
}

// waitLogged waits until the log contains text. A response may be sent before its
// line is logged.
func (l *lab) waitLogged(t testing.TB, text string) {
	t.Helper()
	eventually(t, "a log line with "+text, func() bool { return strings.Contains(l.log.String(), text) })
}

// publicAddr is the address of names unless a test sets another.
const publicAddr = "93.184.215.14"

// start runs a proxy with config until the end of the test. change, if not nil,
// changes the builder last.
func start(t testing.TB, config networkproxy.Config, change func(*networkproxy.Builder)) *lab {
	t.Helper()
	config.Enabled = true
	return startSource(t, func(b *networkproxy.Builder) { b.Config(config) }, change)
}

func newLab(t testing.TB) *lab {
	return &lab{t: t, dns: new(testnet.Resolver), net: new(testnet.Dialer), log: new(testnet.Buffer)}
}

// run builds and runs the proxy on free ports.
func (l *lab) run(b *networkproxy.Builder, change func(*networkproxy.Builder)) {
	l.t.Helper()
	b.HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		SOCKSAddr("127.0.0.1:0").
		Resolver(l.dns).
		Logger(slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	networkproxy.SetQuiet(b, 10*time.Millisecond) // tests of half-written files set a longer time
	networkproxy.SetConnect(b, l.net.Connect)
	networkproxy.SetConnectUDP(b, l.net.ConnectUDP)
	if change != nil {
		change(b)
	}
	proxy, err := b.Build()
	if err != nil {
		l.t.Fatal(err)
	}
	l.Handle, err = proxy.Run(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	l.log.Flush = func() { networkproxy.FlushLog(l.Handle) }
	l.t.Cleanup(func() {
		if errors.Is(l.Close(), networkproxy.ErrCallbackRunning) { // then requests may still be in progress
			eventually(l.t, "the last request is over", func() bool { return l.LiveEntries() == 0 })
		}
		if n := l.LiveEntries(); n != 0 {
			l.t.Errorf("%d entries are left in the set of open requests", n)
		}
	})
}

// allow returns a configuration whose allowlist is patterns.
func allow(patterns ...string) networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Policy.AllowedDomains = patterns
	return c
}

// mapHost makes name resolve to publicAddr, and publicAddr:port lead to the
// listener at to.
func (l *lab) mapHost(name string, port uint16, to net.Addr) {
	l.dns.Set(name, testnet.Addrs(publicAddr))
	l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port), to)
}

// origin makes name:port lead to an HTTP server.
func (l *lab) origin(name string, port uint16, handler http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(handler)
	l.t.Cleanup(s.Close)
	l.mapHost(name, port, s.Listener.Addr())
	return s
}

// source is a ConfigSource whose configuration a test changes.
type source struct {
	mu     sync.Mutex
	config networkproxy.Config
	err    error
}

func newSource(c networkproxy.Config) *source {
	c.Enabled = true
	return &source{config: c}
}

func (s *source) set(change func(*networkproxy.Config)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.config)
}

// fail makes every later load fail.
func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// builder makes s the configuration source of b.
func (s *source) builder(b *networkproxy.Builder) { b.ConfigSource(s.load) }

func (s *source) load(context.Context) (networkproxy.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config, s.err
}

// client returns an HTTP client that uses the proxy and has its own connections.
func (l *lab) client() *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.HTTPAddr()})}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// startSource is like start, with a configuration that source sets.
func startSource(t testing.TB, source, change func(*networkproxy.Builder)) *lab {
	t.Helper()
	l := newLab(t)
	b := networkproxy.NewBuilder()
	source(b)
	l.run(b, change)
	return l
}

// response is a response with its complete body.
type response struct {
	status int
	header http.Header
	body   string
}

// doRequest makes one request with c.
func doRequest(t testing.TB, c *http.Client, method, url, body string) response {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(b)}
}

// get makes a GET request through the proxy.
func (l *lab) get(url string) response {
	l.t.Helper()
	return doRequest(l.t, l.client(), "GET", url, "")
}

// admin makes a request to the admin API.
func (l *lab) admin(method, path, body string) response {
	l.t.Helper()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	return doRequest(l.t, &http.Client{Transport: tr}, method, "http://"+l.AdminAddr()+path, body)
}

// connect opens a tunnel with CONNECT.
func (l *lab) connect(target string) net.Conn {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	head := make([]byte, len(established))
	if _, err := io.ReadFull(conn, head); err != nil || string(head) != established {
		l.t.Fatalf("CONNECT %s: got %q, %v; want %q", target, head, err, established)
	}
	return conn
}
