//go:build soak

package soak

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

var (
	duration = flag.Duration("for", time.Minute, "duration of the test")
	every    = flag.Duration("every", 5*time.Second, "time between samples")
	workers  = flag.Int("workers", 64, "number of concurrent workers")
)

// soak is one run. Workers hold working for reading while they work. The sampler
// locks it for writing, and so waits for all workers.
type soak struct {
	t       *testing.T
	proxy   *networkproxy.Handle
	actions []action
	working sync.RWMutex
	quiesce func() // closes idle connections before a sample; nil: nothing

	web, echo, rst string // ports of the origins
	echoUDP        uint16
	shared         *http.Client

	flip       atomic.Bool // adds an entry to the denylist at the next reload
	counts     sync.Map    // of action names to *atomic.Int64
	unexpected atomic.Int64
}

// action is one kind of client behaviour. do returns an error if the outcome is
// unexpected.
type action struct {
	name   string
	weight int
	do     func(*soak) error
}

var actions = []action{
	{"forward", 1500, (*soak).forward},
	{"refused", 400, (*soak).refused},
	{"connect", 80, (*soak).connect},
	{"socks", 60, (*soak).socks},
	{"datagrams", 60, (*soak).datagrams},
	{"upload", 30, (*soak).upload},
	{"question", 30, (*soak).question},
	{"malformed", 20, (*soak).malformed},
	{"unresolvable name", 10, (*soak).noName},
	{"closed port", 10, (*soak).closedPort},
	{"reset by the origin inside the body", 10, (*soak).originResets},
	{"reset by the client inside the body", 10, (*soak).clientResets},
	{"reset of a tunnel", 10, (*soak).tunnelReset},
	{"half-closed tunnel", 10, (*soak).halfClosed},
	{"association closed with datagrams in flight", 10, (*soak).closesAssociation},
	{"client that never reads", 10, (*soak).neverReads},
	{"client that closes early", 10, (*soak).leavesEarly},
	{"session", 10, (*soak).session},
	{"session on the shared port with grants", 30, (*soak).sharedSession},
	{"slow body", 20, (*soak).slowBody},
	{"missing body", 10, (*soak).missingBody},
	{"partial body", 10, (*soak).partialBody},
	{"half-closed client that waits for a slow response", 10, (*soak).waitsHalfClosed},
	{"hanging lookup", 2, (*soak).hangingLookup},
}

func TestSoak(t *testing.T) {
	s := newSoak(t)
	s.run(500 * time.Millisecond)
}

// run sends requests for the duration of the test, reloads the configuration at an
// interval, and checks that nothing grew.
func (s *soak) run(interval time.Duration) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(s.t.Context(), *duration)
	defer cancel()
	var done sync.WaitGroup
	for range *workers {
		done.Go(func() { s.work(ctx) })
	}
	done.Go(func() { s.reload(ctx, interval) })
	samples := s.watch(ctx, began)
	done.Wait()

	s.report(samples, time.Since(began))
	checkFlat(s.t, samples)
	if n := s.unexpected.Load(); n > 0 {
		s.t.Errorf("%d unexpected outcomes", n)
	}
}

func newSoak(t *testing.T) *soak {
	s := &soak{t: t, actions: actions}
	web := &http.Server{Handler: http.HandlerFunc(origin)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go web.Serve(l)
	t.Cleanup(func() { web.Close() })
	s.web = port(l.Addr())
	s.echo, s.rst = port(testnet.Echo(t).Addr()), port(testnet.Reset(t).Addr())
	s.echoUDP = testnet.EchoUDP(t, "127.0.0.1").Port()

	s.start(s.config, networkproxy.NewBuilder().
		Limits(networkproxy.Limits{LookupTimeout: lookupTimeout}).
		PolicyDecider(decide).
		DeciderTimeout(time.Second).
		OnBlocked(func(networkproxy.BlockedRequest) { sometimesHang(2000) }).
		Logger(slog.New(hangingLog{})))
	s.shared = client(s.proxy.HTTPAddr())
	return s
}

// start starts the proxy that b describes. Each reload calls config.
func (s *soak) start(config func() networkproxy.Config, b *networkproxy.Builder) {
	s.t.Helper()
	proxy, err := b.
		ConfigSource(func(context.Context) (networkproxy.Config, error) { return config(), nil }).
		Resolver(names{}).
		Build()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.proxy, err = proxy.Run(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.proxy.Close() })
}

// config returns the configuration. One entry of the denylist changes with every
// reload.
func (s *soak) config() networkproxy.Config {
	c := networkproxy.DefaultConfig()
	c.Enabled, c.EnableSOCKS5, c.EnableSOCKS5UDP = true, true, true
	c.ProxyURL, c.AdminURL, c.SOCKSURL = "http://127.0.0.1:0", "http://127.0.0.1:0", "http://127.0.0.1:0"
	c.Policy.AllowLocalBinding = true
	c.Policy.AllowedDomains = []string{"*.allowed.test"}
	c.Policy.DeniedDomains = []string{"denied.allowed.test"}
	if s.flip.Load() {
		c.Policy.DeniedDomains = append(c.Policy.DeniedDomains, "flip.allowed.test")
	}
	return c
}

// names resolves all names to loopback, except those that begin with "nowhere.".
type names struct{}

// lookupTimeout is the proxy's limit for lookups. Names that begin with "hang." take
// longer.
const lookupTimeout = 2 * time.Second

func (names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if strings.HasPrefix(host, "hang.") {
		<-time.After(lookupTimeout + time.Second)
	}
	if strings.HasPrefix(host, "nowhere.") {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
}

// decide answers in all possible ways, including errors, panics and late answers.
func decide(ctx context.Context, r networkproxy.PolicyRequest) (networkproxy.Decision, error) {
	if strings.HasPrefix(r.Host, "granted.") {
		return networkproxy.Allow().ForSession(), nil
	}
	if rand.IntN(200) == 0 {
		<-time.After(1500 * time.Millisecond) // ignores the context and exceeds the timeout
	}
	switch rand.IntN(6) {
	case 0:
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
		return networkproxy.Allow().Times(3), nil
	case 1:
		return networkproxy.Allow().For(time.Second), nil
	case 2:
		return networkproxy.Deny("no"), nil
	case 3:
		return networkproxy.Ask("perhaps"), nil
	case 4:
		return networkproxy.Decision{}, errors.New("decider error")
	}
	panic("decider panic")
}

// sometimesHang blocks for 200 ms in one of n calls.
func sometimesHang(n int) {
	if rand.IntN(n) == 0 {
		<-time.After(200 * time.Millisecond)
	}
}

// hangingLog is a log handler that discards records and sometimes hangs.
type hangingLog struct{}

func (hangingLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (hangingLog) Handle(context.Context, slog.Record) error    { sometimesHang(1000); return nil }
func (l hangingLog) WithAttrs([]slog.Attr) slog.Handler         { return l }
func (l hangingLog) WithGroup(string) slog.Handler              { return l }

// origin is a web server with faults.
func origin(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/reset":
		w.Header().Set("Content-Length", "100000")
		io.WriteString(w, strings.Repeat("x", 1000))
		http.NewResponseController(w).Flush()
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	case "/big":
		io.CopyN(w, zeros{}, 1<<20)
	case "/slow":
		<-time.After(50 * time.Millisecond)
		io.WriteString(w, "hello")
	case "/upload":
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	default:
		io.WriteString(w, "hello")
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// work runs random actions one after the other.
func (s *soak) work(ctx context.Context) {
	total := 0
	for _, a := range s.actions {
		total += a.weight
	}
	for ctx.Err() == nil {
		n := rand.IntN(total)
		for _, a := range s.actions {
			if n -= a.weight; n >= 0 {
				continue
			}
			s.working.RLock()
			err := a.do(s)
			s.working.RUnlock()
			count, _ := s.counts.LoadOrStore(a.name, new(atomic.Int64))
			count.(*atomic.Int64).Add(1)
			if err != nil && s.unexpected.Add(1) < 20 {
				s.t.Logf("%s: %v", a.name, err)
			}
			break
		}
	}
}

// reload changes the policy at an interval. Sometimes it turns limited mode on and off.
func (s *soak) reload(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.flip.Store(!s.flip.Load())
		if err := s.proxy.SetMode(networkproxy.ModeFull); err != nil {
			s.t.Errorf("mode: %v", err)
		}
		if rand.IntN(10) == 0 { // while no request runs, because some would be refused
			s.working.Lock()
			err := errors.Join(s.proxy.SetMode(networkproxy.ModeLimited), s.proxy.SetMode(networkproxy.ModeFull))
			s.working.Unlock()
			if err != nil {
				s.t.Errorf("mode: %v", err)
			}
		}
		if err := s.proxy.Reload(ctx); err != nil && ctx.Err() == nil {
			s.t.Errorf("reload: %v", err)
		}
	}
}

// client returns an HTTP client that uses the proxy at addr and keeps connections
// alive.
func client(addr string) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		Proxy:               http.ProxyURL(&url.URL{Scheme: "http", Host: addr}),
		MaxIdleConnsPerHost: 64,
		MaxIdleConns:        64,
	}}
}

// status sends a request with the shared client and checks the status.
func (s *soak) status(method, target string, body io.Reader, want ...int) error {
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		return err
	}
	a, err := s.shared.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return err
	}
	if !slices.Contains(want, a.StatusCode) {
		return fmt.Errorf("%s, want one of %v", a.Status, want)
	}
	return nil
}

func (s *soak) forward() error {
	if rand.IntN(20) == 0 {
		// The host is denied every other half second, and the reload cuts running
		// requests. Any outcome is expected.
		s.status("GET", "http://flip.allowed.test:"+s.web+"/", nil, 200, 403)
		return nil
	}
	return s.status("GET", fmt.Sprintf("http://h%d.allowed.test:%s/", rand.IntN(20), s.web), nil, 200)
}

func (s *soak) refused() error {
	target := "denied.allowed.test:" + s.web
	if rand.IntN(2) == 0 {
		target = s.proxy.AdminAddr()
	}
	return s.status("GET", "http://"+target+"/?q=1", nil, 403)
}

func (s *soak) upload() error {
	return s.status("POST", "http://up.allowed.test:"+s.web+"/upload", io.LimitReader(zeros{}, 100<<10), 200)
}

func (s *soak) question() error {
	return s.status("GET", fmt.Sprintf("http://q%d.asked.test:%s/", rand.IntN(200), s.web), nil, 200, 403)
}

func (s *soak) noName() error {
	return s.status("GET", "http://nowhere.allowed.test/", nil, 502)
}

func (s *soak) closedPort() error {
	return s.status("GET", "http://h1.allowed.test:1/", nil, 502)
}

func (s *soak) originResets() error {
	if err := s.status("GET", "http://h1.allowed.test:"+s.web+"/reset", nil, 200); err == nil {
		return errors.New("a truncated body arrived without an error")
	}
	return nil
}

// rawConn opens a connection to the proxy and sends text.
func rawConn(addr, text string) (*net.TCPConn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(30 * time.Second))
	_, err = io.WriteString(c, text)
	return c.(*net.TCPConn), err
}

func (s *soak) malformed() error {
	texts := []string{"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", "GET http://x/ HTTP/1.1\r\nHost: a b\r\n\r\n", "GET ht", ""}
	c, err := rawConn(s.proxy.HTTPAddr(), texts[rand.IntN(len(texts))])
	if err != nil {
		return err
	}
	defer c.Close()
	c.CloseWrite()
	io.Copy(io.Discard, c)
	return nil
}

func (s *soak) clientResets() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "GET http://h1.allowed.test:"+s.web+"/big HTTP/1.1\r\nHost: x\r\n\r\n")
	if err != nil {
		return err
	}
	_, err = io.CopyN(io.Discard, c, 10<<10)
	c.SetLinger(0)
	c.Close()
	return err
}

// neverReads requests more data than all buffers hold and closes without reading.
func (s *soak) neverReads() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "GET http://h1.allowed.test:"+s.web+"/big HTTP/1.1\r\nHost: x\r\n\r\n")
	if err != nil {
		return err
	}
	<-time.After(20 * time.Millisecond)
	return c.Close()
}

func (s *soak) leavesEarly() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "POST http://h1.allowed.test:"+s.web+"/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc")
	if err != nil {
		return err
	}
	return c.Close()
}

// tunnel opens a tunnel with CONNECT.
func tunnel(addr, target string) (*net.TCPConn, error) {
	c, err := rawConn(addr, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\n\r\n")
	if err != nil {
		return nil, err
	}
	const established = "HTTP/1.1 200 Connection established\r\n\r\n"
	b := make([]byte, len(established))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != established {
		c.Close()
		return nil, fmt.Errorf("CONNECT: %q, %v", b, err)
	}
	return c, nil
}

// echoes sends data through a tunnel and checks that it comes back.
func echoes(c *net.TCPConn) error {
	defer c.Close()
	b := make([]byte, 1000)
	for range 3 {
		if _, err := c.Write(b); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *soak) connect() error {
	c, err := tunnel(s.proxy.HTTPAddr(), "h2.allowed.test:"+s.echo)
	if err != nil {
		return err
	}
	return echoes(c)
}

func (s *soak) socks() error {
	name := fmt.Sprintf("h%d.allowed.test", rand.IntN(10))
	var n uint16
	fmt.Sscan(s.echo, &n)
	c, err := rawConn(s.proxy.SOCKSAddr(), "\x05\x01\x00\x05\x01\x00\x03"+string(rune(len(name)))+name+string([]byte{byte(n >> 8), byte(n)}))
	if err != nil {
		return err
	}
	b := make([]byte, 2+10)
	if _, err := io.ReadFull(c, b); err != nil || b[3] != 0 {
		c.Close()
		return fmt.Errorf("SOCKS: % x, %v", b, err)
	}
	return echoes(c)
}

// association is a SOCKS5 UDP association (RFC 1928 section 7).
type association struct {
	control *net.TCPConn
	*net.UDPConn
}

func (s *soak) associate() (*association, error) {
	c, err := rawConn(s.proxy.SOCKSAddr(), "\x05\x01\x00\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00")
	if err != nil {
		return nil, err
	}
	b := make([]byte, 2+10)
	if _, err := io.ReadFull(c, b); err != nil || b[3] != 0 {
		c.Close()
		return nil, fmt.Errorf("UDP ASSOCIATE: % x, %v", b, err)
	}
	u, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: b[6:10], Port: int(b[10])<<8 | int(b[11])})
	if err != nil {
		c.Close()
		return nil, err
	}
	return &association{c, u}, nil
}

func (a *association) Close() error {
	a.control.Close()
	return a.UDPConn.Close()
}

// send sends a datagram to a target.
func (a *association) send(host string, port uint16, data string) {
	a.Write([]byte("\x00\x00\x00\x03" + string(rune(len(host))) + host + string([]byte{byte(port >> 8), byte(port)}) + data))
}

// datagrams sends datagrams to denied and possibly denied targets, and then to
// allowed ones. Those to allowed targets must come back. It resends a lost datagram.
func (s *soak) datagrams() error {
	a, err := s.associate()
	if err != nil {
		return err
	}
	defer a.Close()
	a.send("denied.allowed.test", s.echoUDP, "denied")
	a.send("nowhere.allowed.test", s.echoUDP, "no name")
	if rand.IntN(5) == 0 {
		a.send(fmt.Sprintf("q%d.asked.test", rand.IntN(200)), s.echoUDP, "perhaps")
		a.send("flip.allowed.test", s.echoUDP, "perhaps")
	}
	b := make([]byte, 1000)
	for i := range 3 {
		want := fmt.Sprint("allowed ", i)
		for try := 0; ; try++ {
			a.send(fmt.Sprintf("h%d.allowed.test", i), s.echoUDP, want)
			got, err := a.waitFor(b, want)
			if err == nil {
				break
			}
			if got != "" || try == 4 {
				return fmt.Errorf("datagram %d: got %q, %w", i, got, err)
			}
		}
	}
	return nil
}

// waitFor reads until the datagram want comes back, for at most one second. Resent
// and possibly denied datagrams may come before it.
func (a *association) waitFor(b []byte, want string) (unexpected string, err error) {
	a.SetReadDeadline(time.Now().Add(time.Second))
	for {
		n, err := a.Read(b)
		if err != nil {
			return "", err
		}
		switch data := string(b[min(n, 10):n]); {
		case data == want:
			return "", nil
		case data == "late":
			// The reply to a datagram of another association, which is closed. The
			// proxy's port now belongs to this one, and UDP cannot tell them apart.
		case data != "perhaps" && !strings.HasPrefix(data, "allowed "):
			return data, errors.New("a datagram to a denied target came back")
		}
	}
}

// closesAssociation closes an association while its datagrams are in flight.
func (s *soak) closesAssociation() error {
	a, err := s.associate()
	if err != nil {
		return err
	}
	for i := range 20 {
		a.send(fmt.Sprintf("h%d.allowed.test", i), s.echoUDP, "late")
	}
	a.control.SetLinger(0)
	return a.Close()
}

func (s *soak) tunnelReset() error {
	c, err := tunnel(s.proxy.HTTPAddr(), "h2.allowed.test:"+s.rst)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write([]byte("x"))
	io.Copy(io.Discard, c)
	return nil
}

func (s *soak) halfClosed() error {
	c, err := tunnel(s.proxy.HTTPAddr(), "h2.allowed.test:"+s.echo)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write([]byte("hello"))
	c.CloseWrite()
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		return fmt.Errorf("%q, %v", b, err)
	}
	return nil
}

func (s *soak) session() error {
	session, err := s.proxy.OpenSession(context.Background(), networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "soak"}})
	if err != nil {
		return err
	}
	c, err := tunnel(session.HTTPAddr(), "h3.allowed.test:"+s.echo)
	if err != nil {
		session.Close()
		return err
	}
	defer c.Close()
	if rand.IntN(2) == 0 {
		if err := echoes(c); err != nil {
			session.Close()
			return err
		}
	}
	return session.Close()
}

// sharedSession sends requests under a grant in a session on the shared port,
// sometimes revokes a grant, and closes the session.
func (s *soak) sharedSession() error {
	session, err := s.proxy.OpenSession(context.Background(), networkproxy.SessionConfig{SharedPort: true})
	if err != nil {
		return err
	}
	defer session.Close()
	proxy, err := url.Parse(session.ProxyURL())
	if err != nil {
		return err
	}
	c := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{Proxy: http.ProxyURL(proxy)}}
	defer c.CloseIdleConnections()
	for range 3 {
		a, err := c.Get("http://granted.asked.test:" + s.web + "/")
		if err != nil {
			return err
		}
		io.Copy(io.Discard, a.Body)
		a.Body.Close()
		if a.StatusCode != 200 && a.StatusCode != 403 { // 403 if another worker revoked the grant
			return errors.New(a.Status)
		}
	}
	if grants := s.proxy.Grants(); len(grants) > 0 && rand.IntN(2) == 0 {
		s.proxy.Revoke(grants[rand.IntN(len(grants))].ID) // fails if the grant has ended
	}
	return nil
}

// slowBody sends a body in small pieces.
func (s *soak) slowBody() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "POST http://h1.allowed.test:"+s.web+"/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n")
	if err != nil {
		return err
	}
	defer c.Close()
	for range 3 {
		<-time.After(10 * time.Millisecond)
		io.WriteString(c, "abc")
	}
	return status(c, 200)
}

// missingBody announces a body for a refused host and never sends it.
func (s *soak) missingBody() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "POST http://denied.allowed.test:"+s.web+"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
	if err != nil {
		return err
	}
	defer c.Close()
	return status(c, 403)
}

// partialBody sends a part of a body and closes the connection.
func (s *soak) partialBody() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "POST http://h1.allowed.test:"+s.web+"/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nab")
	if err != nil {
		return err
	}
	<-time.After(20 * time.Millisecond)
	return c.Close()
}

func (s *soak) waitsHalfClosed() error {
	c, err := rawConn(s.proxy.HTTPAddr(), "GET http://h1.allowed.test:"+s.web+"/slow HTTP/1.1\r\nHost: x\r\n\r\n")
	if err != nil {
		return err
	}
	defer c.Close()
	c.CloseWrite()
	return status(c, 200)
}

func (s *soak) hangingLookup() error {
	return s.status("GET", "http://hang.allowed.test:"+s.web+"/", nil, 502, 504)
}

// status reads a response and checks its status.
func status(c net.Conn, want int) error {
	a, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return err
	}
	if a.StatusCode != want {
		return fmt.Errorf("%s, want %d", a.Status, want)
	}
	return nil
}

// sample is the state of the process while no request runs.
type sample struct {
	at                time.Duration
	requests          int64
	heap              uint64
	goroutines, files int
}

func (s *soak) watch(ctx context.Context, began time.Time) []sample {
	var samples []sample
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-tick.C:
		}
		s.working.Lock()
		if s.quiesce != nil {
			s.quiesce()
		}
		waitSettled()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		x := sample{at: time.Since(began).Round(time.Second), requests: s.requests(), heap: m.HeapInuse, goroutines: runtime.NumGoroutine(), files: openFiles()}
		s.working.Unlock()
		samples = append(samples, x)
		s.t.Logf("%6s %10d requests  heap %6.1f MiB  goroutines %5d  descriptors %5d", x.at, x.requests, mib(x.heap), x.goroutines, x.files)
	}
}

// waitSettled waits until the number of goroutines and descriptors has not changed
// for half a second, for at most 6 seconds.
func waitSettled() {
	last, same := 0, 0
	for range 60 {
		runtime.GC()
		n := runtime.NumGoroutine() + openFiles()
		if n == last {
			same++
		} else {
			same = 0
		}
		if last = n; same == 5 {
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

func (s *soak) requests() (n int64) {
	s.counts.Range(func(_, v any) bool { n += v.(*atomic.Int64).Load(); return true })
	return n
}

func mib(n uint64) float64 { return float64(n) / (1 << 20) }

func (s *soak) report(samples []sample, took time.Duration) {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%8s %12s %10s %11s %12s\n", "time", "requests", "heap MiB", "goroutines", "descriptors")
	for _, x := range samples {
		fmt.Fprintf(&b, "%8s %12d %10.1f %11d %12d\n", x.at, x.requests, mib(x.heap), x.goroutines, x.files)
	}
	fmt.Fprintf(&b, "\n%d in %s, %.0f a second\n", s.requests(), took.Round(time.Second), float64(s.requests())/took.Seconds())
	for _, a := range s.actions {
		n, _ := s.counts.LoadOrStore(a.name, new(atomic.Int64))
		fmt.Fprintf(&b, "%12d  %s\n", n.(*atomic.Int64).Load(), a.name)
	}
	s.t.Log(b.String())
}

// checkFlat fails the test if the last third of the samples is larger than the first.
// It ignores the first sample as warm-up.
func checkFlat(t *testing.T, samples []sample) {
	if len(samples) < 7 {
		t.Errorf("%d samples are too few; use a longer -for or a shorter -every", len(samples))
		return
	}
	for _, name := range growing(t, samples) {
		t.Errorf("%s grows", name)
	}
}

// growing returns the names of the quantities that grow.
func growing(t *testing.T, samples []sample) (names []string) {
	samples = samples[1:]
	third := len(samples) / 3
	early, late := samples[:third], samples[len(samples)-third:]
	median := func(list []sample, of func(sample) float64) float64 {
		values := make([]float64, len(list))
		for i, x := range list {
			values[i] = of(x)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	for _, m := range []struct {
		name  string
		of    func(sample) float64
		slack float64
	}{
		{"heap (MiB)", func(x sample) float64 { return mib(x.heap) }, 3},
		{"goroutines", func(x sample) float64 { return float64(x.goroutines) }, 50},
		{"descriptors", func(x sample) float64 { return float64(x.files) }, 50},
	} {
		a, b := median(early, m.of), median(late, m.of)
		flat := b <= a*1.1+m.slack
		t.Logf("%s: median %.1f in the first third, %.1f in the last: flat %t", m.name, a, b, flat)
		if !flat {
			names = append(names, m.name)
		}
	}
	return names
}

// TestGrowing checks that growing detects growth and ignores noise.
func TestGrowing(t *testing.T) {
	for _, tt := range []struct {
		name string
		leak func(s *sample, i int)
		want []string
	}{
		{"nothing", func(*sample, int) {}, nil},
		{"noise", func(s *sample, i int) { s.heap += uint64(i%2) << 20; s.goroutines += i % 7 }, nil},
		{"heap", func(s *sample, i int) { s.heap += uint64(i) << 20 }, []string{"heap (MiB)"}},
		{"goroutines", func(s *sample, i int) { s.goroutines += 10 * i }, []string{"goroutines"}},
		{"descriptors", func(s *sample, i int) { s.files += 10 * i }, []string{"descriptors"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			samples := make([]sample, 20)
			for i := range samples {
				samples[i] = sample{heap: 20 << 20, goroutines: 100, files: 100}
				tt.leak(&samples[i], i)
			}
			if got := growing(t, samples); !slices.Equal(got, tt.want) {
				t.Errorf("growing: %q, want %q", got, tt.want)
			}
		})
	}
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}
