// The laboratory that the tests of this package share: a running proxy whose
// names are answered by a script, and whose connections to public addresses
// end at listeners on loopback.

package networkproxy_test

import (
	"context"
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

// lab is one proxy under test.
type lab struct {
	*networkproxy.Handle
	t   testing.TB
	dns *testnet.Resolver
	net *testnet.Dialer
	log *testnet.Buffer
}

// serve carries name:port to a TCP server.
func (l *lab) serve(name string, port uint16, handle func(*net.TCPConn)) *testnet.Origin {
	o := testnet.Serve(l.t, handle)
	l.mapHost(name, port, o.Addr())
	return o
}

// waitLogged waits until the log has a text: an answer may be out before the line
// about it is.
func (l *lab) waitLogged(t testing.TB, text string) {
	t.Helper()
	eventually(t, "a log line with "+text, func() bool { return strings.Contains(l.log.String(), text) })
}

// publicAddr is what names resolve to unless a test says otherwise.
const publicAddr = "93.184.215.14"

// start runs a proxy over a configuration. change, if not nil, has a last
// word on the builder. The proxy is closed at the end of the test.
func start(t testing.TB, config networkproxy.Config, change func(*networkproxy.Builder)) *lab {
	t.Helper()
	config.Enabled = true
	return startSource(t, func(b *networkproxy.Builder) { b.Config(config) }, change)
}

func newLab(t testing.TB) *lab {
	return &lab{t: t, dns: new(testnet.Resolver), net: new(testnet.Dialer), log: new(testnet.Buffer)}
}

// run builds and runs the proxy, on ports of its own.
func (l *lab) run(b *networkproxy.Builder, change func(*networkproxy.Builder)) {
	l.t.Helper()
	b.HTTPAddr("127.0.0.1:0").
		AdminAddr("127.0.0.1:0").
		SOCKSAddr("127.0.0.1:0").
		Resolver(l.dns).
		Logger(slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	networkproxy.SetQuiet(b, 10*time.Millisecond) // tests of half-written files set another
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
	l.t.Cleanup(func() { l.Close() })
}

// allow is a configuration that allows some hosts.
func allow(patterns ...string) networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Policy.AllowedDomains = patterns
	return c
}

// mapHost makes a name resolve to the public address and that address, at a
// port, lead to a listener on loopback.
func (l *lab) mapHost(name string, port uint16, to net.Addr) {
	l.dns.Set(name, testnet.Addrs(publicAddr))
	l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port), to)
}

// origin serves name:port over HTTP.
func (l *lab) origin(name string, port uint16, handler http.HandlerFunc) *httptest.Server {
	s := httptest.NewServer(handler)
	l.t.Cleanup(s.Close)
	l.mapHost(name, port, s.Listener.Addr())
	return s
}

// source is a host's own configuration, which a test changes.
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

// builder has a proxy take its configuration from s.
func (s *source) builder(b *networkproxy.Builder) { b.ConfigSource(s.load) }

func (s *source) load(context.Context) (networkproxy.Config, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config, s.err
}

// client is an HTTP client that goes through the proxy and keeps its
// connections for itself.
func (l *lab) client() *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: l.HTTPAddr()})}
	l.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// startSource is start over a configuration from elsewhere.
func startSource(t testing.TB, source, change func(*networkproxy.Builder)) *lab {
	t.Helper()
	l := newLab(t)
	b := networkproxy.NewBuilder()
	source(b)
	l.run(b, change)
	return l
}

// response is what came back to a request.
type response struct {
	status int
	header http.Header
	body   string
}

// doRequest makes a request with a client of its own.
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

// get forwards a GET through the proxy.
func (l *lab) get(url string) response {
	l.t.Helper()
	return doRequest(l.t, l.client(), "GET", url, "")
}

// admin makes a request of the admin API.
func (l *lab) admin(method, path, body string) response {
	l.t.Helper()
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	return doRequest(l.t, &http.Client{Transport: tr}, method, "http://"+l.AdminAddr()+path, body)
}

// connect opens a tunnel by CONNECT.
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
		l.t.Fatalf("CONNECT %s: %q, %v", target, head, err)
	}
	return conn
}
