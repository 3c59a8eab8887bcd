// Tests of upstream proxies from the environment: what they get, what they must not
// get, and their failures.

package networkproxy_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
	"example.com/networkproxy/internal/tunnel"
)

// upstreamProxy is an upstream proxy of a test. It responds to forwarded requests
// itself, and its tunnels send a greeting and then echo.
type upstreamProxy struct {
	*httptest.Server
	leads  map[string]net.Addr       // the servers behind tunnels to some targets
	refuse func(r *http.Request) int // the status of a refusal; nil or 0: none

	mu   sync.Mutex
	seen []*http.Request
}

// greeting is sent at the start of a tunnel, together with the proxy's response.
const greeting = "SSH-2.0-test\r\n"

func newUpstreamProxy(t testing.TB, refuse func(r *http.Request) int) *upstreamProxy {
	c := &upstreamProxy{refuse: refuse}
	c.Server = httptest.NewUnstartedServer(c)
	c.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(c.Close)
	return c
}

func (c *upstreamProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	c.seen = append(c.seen, r.Clone(context.Background()))
	c.mu.Unlock()
	if c.refuse != nil {
		if status := c.refuse(r); status != 0 {
			w.Header().Set("Proxy-Authenticate", `Basic realm="corporate"`)
			w.WriteHeader(status)
			return
		}
	}
	if r.Method != http.MethodConnect {
		fmt.Fprintf(w, "forwarded %s", r.RequestURI)
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	if lead := c.leads[r.RequestURI]; lead != nil {
		to, err := net.Dial("tcp", lead.String())
		if err != nil {
			return
		}
		io.WriteString(conn, established)
		tunnel.Relay(conn, to, tunnel.Options{})
		return
	}
	io.WriteString(conn, established+greeting)
	io.Copy(conn, rw)
}

// requests returns the requests so far, as "METHOD target".
func (c *upstreamProxy) requests() (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.seen {
		list = append(list, r.Method+" "+r.RequestURI)
	}
	return list
}

// last returns the newest request.
func (c *upstreamProxy) last(t testing.TB) *http.Request {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 {
		t.Fatal("the upstream proxy got no request")
	}
	return c.seen[len(c.seen)-1]
}

const (
	upstreamName = "proxy.corp.example"
	upstreamAddr = "10.0.0.5" // such proxies have private addresses
)

// startWithUpstream runs a proxy whose upstream proxy is c, at port 3128 of its
// name. Without env, ALL_PROXY names it with credentials.
func startWithUpstream(t testing.TB, c *upstreamProxy, config networkproxy.Config, env ...string) *lab {
	t.Helper()
	if len(env) == 0 {
		env = []string{"ALL_PROXY=http://user:secret@" + upstreamName + ":3128"}
	}
	c.Start()
	config.AllowUpstreamProxy = true
	l := start(t, config, func(b *networkproxy.Builder) { b.UpstreamEnviron(env) })
	l.mapUpstream(c)
	return l
}

func (l *lab) mapUpstream(c *upstreamProxy) {
	l.dns.Set(upstreamName, testnet.Addrs(upstreamAddr))
	l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(upstreamAddr), 3128), c.Listener.Addr())
}

// basic has the credentials in the default environment of startWithUpstream.
var basic = "Basic " + base64.StdEncoding.EncodeToString([]byte("user:secret"))

func TestUpstreamForwards(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("origin.example"))

	for _, url := range []string{
		"http://origin.example/a%2Fb//c?q=1%20;2&u=http://x/",
		"http://origin.example:8080/",
		"http://origin.example/?",
		"http://origin.example//x",
	} {
		if got := l.get(url); got.status != 200 || got.body != "forwarded "+url {
			t.Errorf("%s: got %d %q", url, got.status, got.body)
		}
	}
	// An empty path is sent as "/" (RFC 9110 section 4.2.3), except in a request
	// that the last proxy sends as "OPTIONS *" (RFC 9112 section 3.2.4).
	for _, test := range []struct{ line, want string }{
		{"GET http://origin.example", "http://origin.example/"},
		{"GET http://origin.example?q=/", "http://origin.example/?q=/"},
		{"OPTIONS http://origin.example:8080", "http://origin.example:8080"},
		{"OPTIONS http://origin.example:8080?", "http://origin.example:8080/?"},
	} {
		conn, err := net.Dial("tcp", l.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", test.line)
		if got, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(got), "\r\nforwarded "+test.want) {
			t.Errorf("%s: %q, %v; want %q", test.line, got, err, test.want)
		}
	}
	l.get("http://origin.example/")
	r := c.last(t)
	if r.Host != "origin.example" || r.Header.Get("Proxy-Authorization") != basic {
		t.Errorf("got Host %q and Proxy-Authorization %q", r.Host, r.Header.Get("Proxy-Authorization"))
	}
	// The upstream proxy looks up the name.
	for _, name := range l.dns.Queries() {
		if name != upstreamName {
			t.Errorf("looked up %s, which the upstream proxy should do", name)
		}
	}
	if text := l.log.String(); strings.Contains(text, "secret") || strings.Contains(text, basic) {
		t.Error("the log contains credentials")
	}
}

// Fields that a client sends to a proxy are not forwarded, and fields for the
// upstream proxy are not sent to origin servers.
func TestUpstreamCredentialsStayOnTheirHop(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("*"), "HTTP_PROXY=http://user:secret@"+upstreamName+":3128", "NO_PROXY=direct.example")
	seen := make(chan http.Header, 1)
	l.origin("direct.example", 80, func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })

	// with gets a URL with a password for the proxy. An empty password means the
	// token of a session.
	with := func(l *lab, url, password string) {
		t.Helper()
		if password == "" {
			session, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{SharedPort: true})
			if err != nil {
				t.Fatal(err)
			}
			password = session.Token()
		}
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("session:"+password)))
		r.Header.Set("Proxy-Connection", "keep-alive")
		resp, err := l.client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: got %s, want 200", url, resp.Status)
		}
	}
	for _, password := range []string{"", "of something else"} {
		with(l, "http://origin.example/", password)
		with(l, "http://direct.example/", password)
		if got := c.last(t).Header; !slices.Equal(got["Proxy-Authorization"], []string{basic}) || got.Get("Proxy-Connection") != "" {
			t.Errorf("the upstream proxy got %v", got)
		}
		if got := <-seen; got.Get("Proxy-Authorization") != "" {
			t.Errorf("the origin server got %v", got)
		}
	}

	// An upstream proxy without credentials gets none, not even the client's.
	c = newUpstreamProxy(t, nil)
	l = startWithUpstream(t, c, allow("*"), "HTTP_PROXY="+upstreamName+":3128")
	for _, password := range []string{"", "of something else"} {
		with(l, "http://origin.example/", password)
		if got := c.last(t).Header; got.Get("Proxy-Authorization") != "" {
			t.Errorf("the upstream proxy got the client's credentials: %v", got)
		}
	}
}

func TestUpstreamTunnels(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			c := newUpstreamProxy(t, nil)
			if scheme == "https" {
				c.StartTLS()
			} else {
				c.Start()
			}
			config := allow("origin.example")
			config.AllowUpstreamProxy = true
			l := start(t, config, func(b *networkproxy.Builder) {
				// The certificate of httptest is for example.com.
				b.UpstreamEnviron([]string{"HTTPS_PROXY=" + scheme + "://user:secret@example.com:3128"})
				if scheme == "https" {
					roots := x509.NewCertPool()
					roots.AddCert(c.Certificate())
					networkproxy.SetUpstreamRoots(b, roots)
				}
			})
			l.mapHost("example.com", 3128, c.Listener.Addr())

			conn := l.connect("origin.example:22")
			got := make([]byte, len(greeting))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != greeting {
				t.Fatalf("got the greeting %q, %v", got, err)
			}
			if err := echoes(conn); err != nil {
				t.Error(err)
			}
			conn.Close()
			if got := c.requests(); !slices.Equal(got, []string{"CONNECT origin.example:22"}) {
				t.Errorf("the upstream proxy got %q", got)
			}
			if got := c.last(t).Header.Get("Proxy-Authorization"); got != basic {
				t.Errorf("got Proxy-Authorization %q", got)
			}
			if got := l.dns.Queries(); !slices.Equal(got, []string{"example.com"}) {
				t.Errorf("looked up %q, which the upstream proxy should do", got)
			}
		})
	}
}

// An upgrade goes through a tunnel of the upstream proxy, because proxies do not
// forward Upgrade.
func TestUpstreamUpgrade(t *testing.T) {
	t.Parallel()
	origin := testnet.Serve(t, func(conn *net.TCPConn) {
		in := bufio.NewReader(conn)
		r, err := http.ReadRequest(in)
		if err != nil || r.RequestURI != "/chat?x=1" || r.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("the origin server got %v, %v", r, err)
			return
		}
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello")
		io.Copy(conn, in)
	})
	c := newUpstreamProxy(t, nil)
	c.leads = map[string]net.Addr{"origin.example:80": origin.Addr()}
	l := startWithUpstream(t, c, allow("origin.example"))

	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, "GET http://origin.example/chat?x=1 HTTP/1.1\r\nHost: origin.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if got := make([]byte, 5); must(io.ReadFull(in, got)) != 5 || string(got) != "hello" {
		t.Fatalf("got %q after the upgrade", got)
	}
	io.WriteString(conn, "ping")
	if got := make([]byte, 4); must(io.ReadFull(in, got)) != 4 || string(got) != "ping" {
		t.Errorf("got the echo %q", got)
	}
	if got := c.requests(); !slices.Equal(got, []string{"CONNECT origin.example:80"}) {
		t.Errorf("the upstream proxy got %q", got)
	}
}

func must(n int, _ error) int { return n }

func TestUpstreamSOCKS(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, func(r *http.Request) int {
		if r.RequestURI == "refused.example:22" {
			return 403
		}
		return 0
	})
	config := allow("*", "10.0.0.8")
	config = withSOCKS(config)
	config.Policy.DeniedDomains = []string{"denied.example"}
	config.AllowUpstreamProxy = true
	c.Start()
	l := start(t, config, func(b *networkproxy.Builder) {
		b.SOCKSAddr("127.0.0.1:0").UpstreamEnviron([]string{"HTTPS_PROXY=http://user:secret@" + upstreamName + ":3128"})
	})
	l.mapUpstream(c)

	for _, dst := range [][]byte{socksDest("origin.example", 22), socksDest("8.8.8.8", 22), socksDest("10.0.0.8", 22)} {
		conn, code, _ := l.socksRequest(socksConnect, dst)
		got := make([]byte, len(greeting))
		if n, err := io.ReadFull(conn, got); code != 0 || err != nil || string(got) != greeting {
			t.Errorf("% x: got the reply %d, %q, %v", dst, code, got[:n], err)
			continue
		}
		if err := echoes(conn); err != nil {
			t.Error(err)
		}
	}
	if got, want := c.requests(), []string{"CONNECT origin.example:22", "CONNECT 8.8.8.8:22", "CONNECT 10.0.0.8:22"}; !slices.Equal(got, want) {
		t.Errorf("the upstream proxy got %q", got)
	}
	for name, want := range map[string]byte{"denied.example": 2, "localhost": 2, "refused.example": 1} {
		if _, code, _ := l.socksRequest(socksConnect, socksDest(name, 22)); code != want {
			t.Errorf("%s: got the reply %d, want %d", name, code, want)
		}
	}
	if got := l.dns.Queries(); slices.ContainsFunc(got, func(name string) bool { return name != upstreamName }) {
		t.Errorf("looked up %q, which the upstream proxy should do", got)
	}
	// A failed connection to the upstream proxy says nothing about the target.
	l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(upstreamAddr), 3128), nil)
	if _, code, _ := l.socksRequest(socksConnect, socksDest("origin.example", 22)); code != 1 {
		t.Errorf("without a listener: got the reply %d, want 1", code)
	}
}

// The host's own requests use the upstream proxy, too, with a tunnel even for plain
// HTTP.
func TestUpstreamInProcess(t *testing.T) {
	t.Parallel()
	const allowed = "\npolicy.allowed_domains = [\"example.com\"]"
	f := newConfigFile(t, "allow_upstream_proxy = true"+allowed)
	c := newUpstreamProxy(t, nil)
	l := startFile(t, func(b *networkproxy.Builder) {
		b.UpstreamEnviron([]string{"ALL_PROXY=http://user:secret@" + upstreamName + ":3128"})
	}, f.path)
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" || strings.Contains(r.RequestURI, "://") {
			t.Errorf("the origin server got %s with the header %v", r.RequestURI, r.Header)
		}
		io.WriteString(w, "the origin")
	}
	plain := l.origin("example.com", 80, handler)
	secure := httptest.NewTLSServer(http.HandlerFunc(handler)) // with a certificate for example.com
	t.Cleanup(secure.Close)
	l.mapHost("example.com", 443, secure.Listener.Addr())
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	c.leads = map[string]net.Addr{"example.com:80": plain.Listener.Addr(), "example.com:443": secure.Listener.Addr()}
	c.Start()
	l.mapUpstream(c)

	client := l.inProcess(networkproxy.Attribution{}, roots)
	for _, upstream := range []bool{true, false, true} {
		f.replace(fmt.Sprintf("allow_upstream_proxy = %t", upstream) + allowed)
		if err := l.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		before := len(c.requests())
		for _, url := range []string{"http://example.com/a", "https://example.com/b", "http://example.com/c", "https://example.com/d"} {
			if got := doRequest(t, client, "GET", url, ""); got.body != "the origin" {
				t.Errorf("%s: got %d %s", url, got.status, got.body)
			}
		}
		want := 0
		if upstream {
			want = 2 // a tunnel for each of the two schemes, which is reused
		}
		if got := len(c.requests()) - before; got != want {
			t.Errorf("allow_upstream_proxy = %t: the upstream proxy got %d requests, want %d", upstream, got, want)
		}
	}
}

// The environment has no effect unless the configuration allows it.
func TestUpstreamIsOffByDefault(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	c.Start()
	l := start(t, allow("origin.example"), func(b *networkproxy.Builder) {
		b.UpstreamEnviron([]string{"ALL_PROXY=" + upstreamName + ":3128"})
	})
	l.mapUpstream(c)
	origin := testnet.Echo(t)
	l.origin("origin.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "the origin") })
	l.mapHost("origin.example", 443, origin.Addr())
	if got := l.get("http://origin.example/"); got.body != "the origin" {
		t.Errorf("forwarded: got %d %q", got.status, got.body)
	}
	if err := echoes(l.connect("origin.example:443")); err != nil {
		t.Error(err)
	}
	if got := c.requests(); len(got) != 0 {
		t.Errorf("the upstream proxy got %q", got)
	}
	if got := l.dns.Queries(); slices.Contains(got, upstreamName) {
		t.Errorf("looked up %q", got)
	}
}

// Requests that are refused without an upstream proxy are refused with one, and do
// not reach it.
func TestUpstreamChangesNoVerdict(t *testing.T) {
	t.Parallel()
	config := allow("*", "10.0.0.8", "8.8.4.4", "rebound.example")
	config.Policy.DeniedDomains = []string{"denied.example", "8.8.8.0/24"}
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, config)
	l.dns.Set("rebound.example", testnet.Addrs("127.0.0.1"))

	_, adminPort, _ := net.SplitHostPort(l.AdminAddr())
	for _, test := range []struct{ target, want string }{
		{"denied.example:80", "denied"},
		{"8.8.8.8:80", "denied"},
		{"10.0.0.7:80", "not_allowed_local"},
		{"127.0.0.1:80", "not_allowed_local"},
		{"localhost:80", "not_allowed_local"},
		{"app.localhost:80", "not_allowed_local"},
		{"169.254.169.254:80", "not_allowed_local"},
		{"0.0.0.0:80", "not_allowed_local"},
		{"[::ffff:10.0.0.7]:80", "not_allowed_local"},
		{l.AdminAddr(), "not_allowed_local"},
		{"localhost:" + adminPort, "not_allowed_local"},
		{upstreamAddr + ":3128", "not_allowed_local"},
		{"[::ffff:127.0.0.1]:" + "1", "not_allowed_local"},
	} {
		got := l.get("http://" + test.target + "/")
		if got.status != 403 || !strings.Contains(got.body, `"reason":"`+test.want+`"`) {
			t.Errorf("%s: got %d %s, want %s", test.target, got.status, got.body, test.want)
		}
	}
	if got := c.requests(); len(got) != 0 {
		t.Fatalf("the upstream proxy got %q", got)
	}

	// The proxy itself is not a target, even in a spelling that would go through
	// the upstream proxy.
	open := allow("*", "64:ff9b::/96")
	open.Policy.AllowLocalBinding = true
	other := newUpstreamProxy(t, nil)
	self := startWithUpstream(t, other, open)
	_, port, _ := net.SplitHostPort(self.AdminAddr())
	if got := self.get("http://[64:ff9b::7f00:1]:" + port + "/health"); got.status != 403 || !strings.Contains(got.body, "not_allowed_local") {
		t.Errorf("the proxy itself: got %d %s", got.status, got.body)
	}
	if got := other.requests(); len(got) != 0 {
		t.Fatalf("the upstream proxy got %q", got)
	}

	// Allowed addresses go through the upstream proxy.
	for _, target := range []string{"10.0.0.8:80", "8.8.4.4:80"} {
		if got := l.get("http://" + target + "/"); got.status != 200 {
			t.Errorf("%s: got %d %s", target, got.status, got.body)
		}
	}
	// The upstream proxy looks up names, so their addresses are not judged here.
	if got := l.get("http://rebound.example/"); got.status != 200 {
		t.Errorf("rebound.example: got %d %s", got.status, got.body)
	}

	config.Mode = networkproxy.ModeLimited
	c = newUpstreamProxy(t, nil)
	l = startWithUpstream(t, c, config)
	if got := doRequest(t, l.client(), "POST", "http://origin.example/", "x"); got.status != 403 || !strings.Contains(got.body, "method_not_allowed") {
		t.Errorf("POST in limited mode: got %d %s", got.status, got.body)
	}
	if got := c.requests(); len(got) != 0 {
		t.Errorf("the upstream proxy got %q", got)
	}
}

// A name that does not go through the upstream proxy is looked up and judged here.
func TestUpstreamExceptionsAreJudgedHere(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("*"), "ALL_PROXY="+upstreamName+":3128", "NO_PROXY=.internal.example")
	l.dns.Set("x.internal.example", testnet.Addrs("10.0.0.9"))
	if got := l.get("http://x.internal.example/"); got.status != 403 || !strings.Contains(got.body, "not_allowed_local") {
		t.Errorf("got %d %s", got.status, got.body)
	}
	if got := c.requests(); len(got) != 0 {
		t.Errorf("the upstream proxy got %q", got)
	}
}

// Names cannot reach the proxy's own ports through an upstream proxy, which
// resolves names itself and may run on this machine.
func TestUpstreamNamesNeverLeadToThisProxy(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, withSOCKS(allow("*")), "ALL_PROXY="+upstreamName+":3128", "NO_PROXY=exempt.example")
	session, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	host := &http.Client{Transport: l.Transport(networkproxy.Attribution{})}
	t.Cleanup(host.CloseIdleConnections)
	const name = "a.example"
	ways := map[string]func(t *testing.T, port string) (refused bool){
		"forwarded": func(t *testing.T, port string) bool {
			return strings.Contains(l.get("http://"+name+":"+port+"/").body, `"reason":"not_allowed_local"`)
		},
		"CONNECT": func(t *testing.T, port string) bool {
			w := l.dialHTTP(t)
			w.request("CONNECT", name+":"+port)
			return w.readHeader("CONNECT").StatusCode == 403
		},
		"upgrade": func(t *testing.T, port string) bool {
			w := l.dialHTTP(t)
			w.get("http://"+name+":"+port+"/", "Connection: Upgrade", "Upgrade: websocket")
			return w.readHeader("GET").StatusCode == 403
		},
		"SOCKS": func(t *testing.T, port string) bool {
			n, _ := strconv.ParseUint(port, 10, 16)
			_, code, _ := l.socksRequest(socksConnect, socksDest(name, uint16(n)))
			return code == 2
		},
		"the host's request": func(t *testing.T, port string) bool {
			_, err := host.Get("http://" + name + ":" + port + "/")
			return errors.As(err, new(*networkproxy.RefusedError))
		},
		"the host's connection": func(t *testing.T, port string) bool {
			_, err := l.DialContext(networkproxy.Attribution{})(t.Context(), "tcp", name+":"+port)
			return errors.As(err, new(*networkproxy.RefusedError))
		},
	}
	portOf := func(addr string) string {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return port
	}
	for way, refused := range ways {
		for _, test := range []struct{ listener, addr string }{
			{"the admin API", l.AdminAddr()}, {"HTTP", l.HTTPAddr()}, {"SOCKS", l.SOCKSAddr()},
			{"HTTP of a session", session.HTTPAddr()}, {"SOCKS of a session", session.SOCKSAddr()},
		} {
			t.Run(way+" to "+test.listener, func(t *testing.T) {
				if !refused(t, portOf(test.addr)) {
					t.Error("the request was not refused")
				}
			})
		}
	}
	if got := c.requests(); len(got) != 0 {
		t.Errorf("the upstream proxy got %q", got)
	}

	// Another port, and a name that is reached directly, are not affected.
	if got := l.get("http://" + name + ":9/"); got.status != 200 {
		t.Errorf("another port: got %d %s", got.status, got.body)
	}
	l.origin("exempt.example", netip.MustParseAddrPort(l.AdminAddr()).Port(), func(http.ResponseWriter, *http.Request) {})
	if got := l.get("http://exempt.example:" + portOf(l.AdminAddr()) + "/"); got.status != 200 {
		t.Errorf("a direct name: got %d %s", got.status, got.body)
	}
	if got := l.get("http://" + name + ":" + portOf(l.AdminAddr()) + "/"); !strings.Contains(got.body, "NO_PROXY") {
		t.Errorf("the refusal lacks NO_PROXY: got %s", got.body)
	}
}

func TestUpstreamIsNeverThisProxy(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"127.0.0.1", "localhost", "self.example", "[::ffff:127.0.0.1]", "0.0.0.0", "two.example"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The port must be known before its listener exists.
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			_, port, _ := net.SplitHostPort(listener.Addr().String())
			config := allow("origin.example")
			config.AllowUpstreamProxy = true
			l := newLab(t)
			config.Enabled = true
			b := networkproxy.NewBuilder().Config(config)
			l.run(b, func(b *networkproxy.Builder) {
				b.HTTPAddr("").HTTPListener(listener)
				b.UpstreamEnviron([]string{"ALL_PROXY=http://user:secret@" + name + ":" + port})
			})
			l.dns.Set("self.example", testnet.Addrs("127.0.0.1"))
			l.dns.Set("two.example", testnet.Addrs(publicAddr, "127.0.0.1"))

			got := l.get("http://origin.example/")
			if got.status != 502 || !strings.Contains(got.body, "this proxy itself") || !strings.Contains(got.body, "upstream_proxy_failure") {
				t.Errorf("forwarded: got %d %s", got.status, got.body)
			}
			status, text := l.tryConnect("origin.example:443")
			if status != 502 || !strings.Contains(text, "this proxy itself") || strings.Contains(text, "secret") {
				t.Errorf("CONNECT: got %d %s", status, text)
			}
			if dialed := l.net.Dialed(); len(dialed) != 0 {
				t.Errorf("dialed %v, want nothing", dialed)
			}
		})
	}
}

// tryConnect makes a CONNECT request and returns the response.
func (l *lab) tryConnect(target string) (status int, text string) {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		l.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", target)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		l.t.Fatal(err)
	}
	body := make([]byte, max(0, resp.ContentLength))
	if _, err := io.ReadFull(resp.Body, body); err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// A refusal by the upstream proxy is a failure that names its status. It is neither
// a request for the client's credentials nor a policy refusal.
func TestUpstreamRefuses(t *testing.T) {
	t.Parallel()
	for _, status := range []int{403, 407, 502, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			c := newUpstreamProxy(t, func(*http.Request) int { return status })
			l := startWithUpstream(t, c, allow("origin.example"))
			got, text := l.tryConnect("origin.example:443")
			want := fmt.Sprintf("upstream proxy http://%s:3128 (ALL_PROXY): response status %d %s", upstreamName, status, http.StatusText(status))
			if got != 502 || !strings.Contains(text, want) {
				t.Errorf("CONNECT: got %d %q, want %q in it", got, text, want)
			}
			forwarded := l.get("http://origin.example/")
			if status == 407 {
				if forwarded.status != 502 || !strings.Contains(forwarded.body, want) || forwarded.header.Get("Proxy-Authenticate") != "" {
					t.Errorf("forwarded: got %d %v %s", forwarded.status, forwarded.header, forwarded.body)
				}
			} else if forwarded.status != status {
				t.Errorf("forwarded: got %d, want the upstream proxy's status", forwarded.status)
			}
			if text += l.log.String(); strings.Contains(text, "secret") || strings.Contains(text, basic) {
				t.Error("a response or the log contains credentials")
			}
			if n := len(l.Blocked()); n != 0 {
				t.Errorf("%d policy refusals are recorded, want none", n)
			}
		})
	}
}

func TestUpstreamOutOfReach(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, env string }{
		{"no listener", "http://user:secret@" + upstreamName + ":9"},
		{"no such name", "http://user:secret@nowhere.example:3128"},
		{"not TLS", "https://user:secret@" + upstreamName + ":3128"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := newUpstreamProxy(t, nil)
			l := startWithUpstream(t, c, allow("origin.example"), "ALL_PROXY="+test.env)
			status, text := l.tryConnect("origin.example:443")
			if status != 502 || !strings.Contains(text, "upstream proxy http") || strings.Contains(text, "secret") {
				t.Errorf("CONNECT: got %d %s", status, text)
			}
			got := l.get("http://origin.example/")
			if got.status != 502 || !strings.Contains(got.body, `"reason":"upstream_proxy_failure"`) || strings.Contains(got.body, "secret") {
				t.Errorf("forwarded: got %d %s", got.status, got.body)
			}
			if strings.Contains(l.log.String(), "secret") {
				t.Error("the log contains credentials")
			}
		})
	}
}

// A timeout of the connection to the upstream proxy is reported as a timeout.
func TestUpstreamTimesOut(t *testing.T) {
	t.Parallel()
	config := allow("origin.example")
	config.AllowUpstreamProxy = true
	l := start(t, config, func(b *networkproxy.Builder) {
		b.UpstreamEnviron([]string{"ALL_PROXY=" + upstreamName}).Resolver(slowResolver{})
	})
	if got := l.get("http://origin.example/"); got.status != 504 || !strings.Contains(got.body, `"reason":"timeout"`) || !strings.Contains(got.body, "upstream proxy") {
		t.Errorf("got %d %s", got.status, got.body)
	}
}

// slowResolver returns a timeout at once.
type slowResolver struct{}

func (slowResolver) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no answer", Name: host, IsTimeout: true}
}

// A reload turns the upstream proxy on and off, and connections of one path are not
// reused for the other.
func TestUpstreamReload(t *testing.T) {
	t.Parallel()
	const allowed = "\npolicy.allowed_domains = [\"origin.example\", \"other.example\"]"
	on, off := "allow_upstream_proxy = true"+allowed, "allow_upstream_proxy = false"+allowed
	f := newConfigFile(t, on)
	c := newUpstreamProxy(t, nil)
	c.Start()
	l := startFile(t, func(b *networkproxy.Builder) {
		b.UpstreamEnviron([]string{"ALL_PROXY=http://user:secret@" + upstreamName + ":3128"})
	}, f.path)
	l.mapUpstream(c)
	var fromProxy []string
	var mu sync.Mutex
	l.origin("origin.example", 80, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Header.Get("Proxy-Authorization") != "" || strings.Contains(r.RequestURI, "://") {
			fromProxy = append(fromProxy, r.RequestURI)
		}
		io.WriteString(w, "the origin")
	})
	l.mapHost("origin.example", 22, testnet.Echo(t).Addr())

	get := func(want string) {
		t.Helper()
		for range 2 { // the second request uses an idle connection
			if got := l.get("http://origin.example/"); got.body != want {
				t.Errorf("got %d %q, want %q", got.status, got.body, want)
			}
		}
	}
	reload := func(policy string) {
		t.Helper()
		f.replace(policy)
		if err := l.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	get("forwarded http://origin.example/")
	through := l.connect("origin.example:22")
	io.ReadFull(through, make([]byte, len(greeting)))
	if err := echoes(through); err != nil {
		t.Fatal(err)
	}

	reload(off)
	get("the origin")
	if err := echoes(through); err == nil {
		t.Error("a tunnel through the upstream proxy is still open")
	}
	directly := l.connect("origin.example:22")
	if err := echoes(directly); err != nil {
		t.Error(err)
	}

	before := len(c.requests())
	reload(on)
	get("forwarded http://origin.example/")
	if got := len(c.requests()) - before; got != 2 {
		t.Errorf("the upstream proxy got %d more requests, want 2", got)
	}
	if err := echoes(directly); err != nil {
		t.Errorf("a direct tunnel that is still allowed: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(fromProxy) != 0 {
		t.Errorf("the origin server got fields for the upstream proxy: %q", fromProxy)
	}
}

// A deny also cuts tunnels through an upstream proxy.
func TestUpstreamTunnelIsJudgedAgain(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("*", "10.0.0.8"))
	name, literal := l.connect("origin.example:22"), l.connect("10.0.0.8:22")
	for _, conn := range []net.Conn{name, literal} {
		io.ReadFull(conn, make([]byte, len(greeting)))
		if err := echoes(conn); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.DenyDomain("origin.example"); err != nil {
		t.Fatal(err)
	}
	if err := echoes(name); err == nil {
		t.Error("the tunnel to the name is still open")
	}
	if err := echoes(literal); err != nil {
		t.Errorf("the other tunnel: %v", err)
	}
	if err := l.DenyDomain("10.0.0.0/8"); err != nil {
		t.Fatal(err)
	}
	if err := echoes(literal); err == nil {
		t.Error("the tunnel to the address is still open")
	}
}

func TestUpstreamEnvironmentThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	build := func(allowed bool, env ...string) error {
		config := allow("origin.example")
		config.Enabled = true
		config.AllowUpstreamProxy = allowed
		_, err := networkproxy.NewBuilder().Config(config).UpstreamEnviron(env).Build()
		return err
	}
	for _, env := range []string{"ALL_PROXY=socks5://user:secret@10.0.0.1:1080", "HTTPS_PROXY=socks5h://secret@x", "http_proxy=http://u:secret@x:y"} {
		err := build(true, env)
		name, _, _ := strings.Cut(env, "=")
		var config *networkproxy.ConfigError
		if !errors.As(err, &config) || config.Key != "network_proxy.allow_upstream_proxy" ||
			!strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", env, err)
		}
		if strings.Contains(env, "socks") && !strings.Contains(err.Error(), "only http:// and https://") {
			t.Errorf("%s: the error lacks the reason: %v", env, err)
		}
		if err := build(false, env); err != nil {
			t.Errorf("%s, without allow_upstream_proxy: %v", env, err)
		}
	}

	// A reload that would use it fails, and the configuration in force stays.
	f := newConfigFile(t, `policy.allowed_domains = ["origin.example"]`)
	l := startFile(t, func(b *networkproxy.Builder) { b.UpstreamEnviron([]string{"HTTP_PROXY=socks5://x"}) }, f.path)
	f.replace("allow_upstream_proxy = true")
	if err := l.Reload(context.Background()); err == nil || !strings.Contains(err.Error(), "HTTP_PROXY") {
		t.Errorf("Reload: got the error %v", err)
	}
	if l.Config().AllowUpstreamProxy || l.reason("http://origin.example/") != "" {
		t.Error("the last good configuration is not in force")
	}
}

// Later changes of the host's slice have no effect.
func TestUpstreamEnvironIsCopied(t *testing.T) {
	t.Parallel()
	env := []string{"HTTP_PROXY=" + upstreamName + ":3128"}
	config := allow("origin.example")
	config.AllowUpstreamProxy = true
	b := networkproxy.NewBuilder().Config(config).UpstreamEnviron(env)
	env[0] = "HTTP_PROXY=socks5://x"
	if _, err := b.Build(); err != nil {
		t.Error(err)
	}
}

func TestUpstreamExplained(t *testing.T) {
	t.Parallel()
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("*"), "HTTPS_PROXY=http://user:secret@"+upstreamName+":3128")
	for _, test := range []struct{ url, want string }{
		{"https://origin.example/", "http://" + upstreamName + ":3128"},
		{"http://origin.example/", ""},
		{"socks5://origin.example:1", "http://" + upstreamName + ":3128"},
		{"udp://origin.example:1", ""},
		{"https://localhost/", ""},
	} {
		x, err := l.ExplainURL(context.Background(), test.url, "", false)
		if err != nil || x.Upstream != test.want {
			t.Errorf("%s: through %q, %v; want %q", test.url, x.Upstream, err, test.want)
		}
	}
	// With resolve, only names that the proxy itself would look up are looked up.
	if _, err := l.ExplainURL(context.Background(), "https://origin.example/", "", true); err != nil || len(l.dns.Queries()) != 0 {
		t.Errorf("%v; looked up: %q", err, l.dns.Queries())
	}
}

func TestUpstreamLeavesNothing(t *testing.T) {
	testnet.CheckLeaks(t)
	c := newUpstreamProxy(t, nil)
	l := startWithUpstream(t, c, allow("*"))
	client := l.client()
	if got := doRequest(t, client, "GET", "http://origin.example/", ""); got.status != 200 {
		t.Errorf("got %d %s", got.status, got.body)
	}
	l.tryConnect("origin.example:443")
	conn := l.connect("origin.example:22")
	client.CloseIdleConnections()
	l.Close()
	conn.Close()
}
