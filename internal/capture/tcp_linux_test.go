package capture

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// web starts an HTTP server that responds with the Host field and the request-target.
func web(t *testing.T) net.Addr {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "origin: "+r.Method+" "+r.Host+" "+r.RequestURI)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr()
}

func TestRelayWhenTheClientSpeaksFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "echo.test")
	l.origin("echo.test", testnet.Echo(t).Addr())
	if got, err := l.exchange("echo.test", "\x00\x01binary"); err != nil || got != "\x00\x01binary" {
		t.Errorf("got %q, %v", got, err)
	}
	l.wantRefusals()
	if n := l.Gate.Counters.Total(audit.Allowed); n != 1 {
		t.Errorf("%d requests count as allowed, want 1", n)
	}
}

func TestRelayWhenTheServerSpeaksFirst(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "ssh.test")
	l.origin("ssh.test", testnet.Serve(t, func(c *net.TCPConn) {
		io.WriteString(c, "SSH-2.0-server\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		io.WriteString(c, "you are "+line)
	}).Addr())
	c := l.dial("ssh.test")
	r := bufio.NewReader(c)
	banner, err := r.ReadString('\n')
	if err != nil || banner != "SSH-2.0-server\r\n" {
		t.Fatalf("got the banner %q, %v", banner, err)
	}
	io.WriteString(c, "GET / HTTP/1.1\n") // no server that speaks first takes this for a request
	if line, err := r.ReadString('\n'); err != nil || line != "you are GET / HTTP/1.1\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

func TestPlainHTTP(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	l.origin("web.test", web(t))
	const tail = " HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n"
	for request, want := range map[string]string{
		"GET /a?u=http://b/c" + tail:     "origin: GET web.test",
		"POST /" + tail:                  "origin: POST web.test",
		"GET http://web.test/abs" + tail: "origin: GET web.test",
		"GET /old HTTP/1.0\r\n\r\n":      "origin: GET web.test",
		"GET /p HTTP/1.1\r\nHost: WEB.test.\r\nConnection: close\r\n\r\n": "origin: GET web.test",
	} {
		got, err := l.exchange("web.test", request)
		if err != nil || !strings.Contains(got, " 200 ") || !strings.Contains(got, want) {
			t.Errorf("%.30q: got %q, %v", request, got, err)
		}
	}
	if got, _ := l.exchange("web.test", "GET /a?u=http://b/c"+tail); !strings.HasSuffix(got, " /a?u=http://b/c") {
		t.Errorf("the request-target changed: %q", got)
	}
	l.wantRefusals()
}

// TestLatePlainHTTP covers a client that waits before it sends a request, so that the
// connection to the server is open already.
func TestLatePlainHTTP(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	accepted := make(chan struct{}, 2)
	l.origin("web.test", testnet.Serve(t, func(c *net.TCPConn) {
		accepted <- struct{}{}
		for r := bufio.NewReader(c); ; {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	}).Addr())
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"} {
		c := l.dial("web.test")
		<-accepted
		half := len(request) / 8
		io.WriteString(c, request[:half])
		io.WriteString(c, request[half:])
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		want := http.StatusOK
		if strings.Contains(request, "other") {
			want = http.StatusMisdirectedRequest
		}
		if resp.StatusCode != want {
			t.Errorf("%q: status %d, want %d", request, resp.StatusCode, want)
		}
		c.Close()
	}
	l.wantRefusals("captured_tcp web.test:1 GET host_mismatch")
}

// TestClientThatWaitsAfterAWord: not every protocol has lines, and the server may have
// to answer before the client sends more.
func TestClientThatWaitsAfterAWord(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "echo.test")
	l.origin("echo.test", testnet.Echo(t).Addr())
	c := l.dial("echo.test")
	for _, word := range []string{"ping", "pong", "\x00", " HTTP/1.1\r\n"} {
		io.WriteString(c, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
			t.Fatalf("sent %q, got %q, %v", word, got, err)
		}
	}
	l.wantRefusals()
}

// TestSlowRequest: a request that begins slowly must not become one that nobody judges.
func TestSlowRequest(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	arrived := make(chan string, 1)
	l.origin("web.test", testnet.Serve(t, func(c *net.TCPConn) {
		first := make([]byte, 3)
		io.ReadFull(c, first)
		c.Write(first) // so that the client knows that the first bytes were relayed
		rest, _ := io.ReadAll(c)
		arrived <- string(rest)
	}).Addr())
	c := l.dial("web.test")
	io.WriteString(c, "GET")
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, " / HTTP/1.1\r\nHost: other.test\r\n\r\n")
	if got, err := io.ReadAll(c); err == nil && len(got) > 0 {
		t.Errorf("the client got %q", got)
	}
	if rest := <-arrived; rest != "" {
		t.Errorf("the server got %q", rest)
	}
}

func TestRequestForAnotherHost(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test", "other.test")
	l.origin("web.test", web(t))
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"GET http://other.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: web.test:8\r\n\r\n",
		"\r\nGET / HTTP/1.1\r\nHost: 93.184.216.1\r\n\r\n",
	} {
		if got, err := l.exchange("web.test", request); !strings.Contains(got, " 421 ") || strings.Contains(got, "origin:") {
			t.Errorf("%.60q: got %q, %v", request, got, err)
		}
	}
	// What a strict server would refuse must not reach a lenient one.
	for _, request := range []string{
		"GET / HTTP/1.1\r\nHost: other.test\r\nHost: web.test\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET\t/\tHTTP/1.1\r\nHost: other.test\r\n\r\n",
		" GET / HTTP/1.1\r\nHost: other.test\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n",
	} {
		if got, err := l.exchange("web.test", request); !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") {
			t.Errorf("%.60q: got %q, %v", request, got, err)
		}
	}
}

// TestLaterRequestsAreJudged: a connection may carry many requests.
func TestLaterRequestsAreJudged(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	l.origin("web.test", web(t))
	c := l.dial("web.test")
	r := bufio.NewReader(c)
	for i, want := range []int{200, 200, 421} {
		name := "web.test"
		if want == 421 {
			name = "other.test"
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: "+name+"\r\n\r\n")
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != want {
			t.Errorf("request %d: status %d, want %d", i, resp.StatusCode, want)
		}
	}
	l.Install(func(p *policy.Policy) { p.Allow = nil })
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: web.test\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("after the policy has changed: %v, %v", resp, err)
	}
}

// TestRefusedWithoutAValidRequest: a refused connection is recorded once, whatever its
// client sends, such as the request of a client that takes the target for a proxy.
func TestRefusedWithoutAValidRequest(t *testing.T) {
	t.Parallel()
	for _, request := range []string{
		"CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: no.test\r\nHost: web.test\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET http://[ HTTP/1.1\r\nHost: no.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: no",
	} {
		l := newLab(t, nil, "web.test")
		got, err := l.exchange("no.test", request)
		if strings.Contains(got, "200") {
			t.Errorf("%.60q: got %q, %v", request, got, err)
		}
		l.stop()
		if r := l.refusals(); len(r) != 1 || !strings.HasPrefix(r[0], "captured_tcp no.test:1 ") || !strings.HasSuffix(r[0], "not_allowed") {
			t.Errorf("%.60q: recorded %q, want one refusal of no.test", request, r)
		}
	}
}

func TestRefusedInTheClientsProtocol(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	got, err := l.exchange("no.test", "POST /x HTTP/1.1\r\nHost: no.test\r\nContent-Length: 0\r\n\r\n")
	if err != nil || !strings.HasPrefix(got, "HTTP/1.1 403 ") || !strings.Contains(got, "no.test") {
		t.Errorf("HTTP: got %q, %v", got, err)
	}
	client := tls.Client(l.dial("no.test"), &tls.Config{ServerName: "no.test"})
	if err := client.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("TLS: got %v, want the alert access_denied", err)
	}
	if got, err := l.exchange("no.test", "\x00\x01"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("other bytes: got %q, %v, want a reset", got, err)
	}
	if _, err := l.exchange("denied.test", ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("no bytes: got %v, want a reset", err)
	}
	l.wantRefusals("captured_tcp no.test:1 POST not_allowed", "captured_tcp no.test:1 not_allowed", "captured_tcp no.test:1 not_allowed",
		"captured_tcp denied.test:1 denied")
	if n := len(l.Dialer.Dialed()); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestServerNameIsChecked(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	l.origin("web.test", s.Listener.Addr())
	ok := tls.Client(l.dial("web.test"), &tls.Config{ServerName: "web.test", InsecureSkipVerify: true})
	if err := ok.Handshake(); err != nil {
		t.Errorf("the right name: %v", err)
	}
	other := tls.Client(l.dial("web.test"), &tls.Config{ServerName: "other.test", InsecureSkipVerify: true})
	if err := other.Handshake(); err == nil || !strings.Contains(err.Error(), "access denied") {
		t.Errorf("another name: got %v, want the alert access_denied", err)
	}
	l.wantRefusals("captured_tcp web.test:1 sni_mismatch")
}

func TestLimitedMode(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "web.test")
	l.origin("web.test", web(t))
	l.Install(func(p *policy.Policy) { p.Mode = policy.ModeLimited })
	if got, err := l.exchange("web.test", "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n"); !strings.Contains(got, "origin: GET") {
		t.Errorf("GET: got %q, %v", got, err)
	}
	if got, err := l.exchange("web.test", "POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 ") {
		t.Errorf("POST: got %q, %v", got, err)
	}
	if err := tls.Client(l.dial("web.test"), &tls.Config{ServerName: "web.test"}).Handshake(); err == nil {
		t.Error("TLS passes")
	}
	l.wantRefusals("captured_tcp web.test:1 POST method_not_allowed", "captured_tcp web.test:1 method_not_allowed")
}

func TestLiteralAddresses(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "127.0.0.9")
	l.Dialer.Map(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), l.port), testnet.Echo(t).Addr())
	c := l.dialAddr(netip.MustParseAddr("127.0.0.9"))
	io.WriteString(c, "\x00")
	c.CloseWrite()
	if got, err := io.ReadAll(c); err != nil || string(got) != "\x00" {
		t.Errorf("a listed address: got %q, %v", got, err)
	}
	if got, err := l.readAddr("127.0.0.8"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("another address: got %q, %v, want a reset", got, err)
	}
	if got, err := l.readAddr("127.18.7.7"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an address without a name: got %q, %v, want a reset", got, err)
	}
	l.wantRefusals("captured_tcp 127.0.0.8:1 not_allowed_local")
}

func TestUnreachableTarget(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "dead.test")
	l.Resolver.Set("dead.test", testnet.Addrs("93.184.216.77"))
	if got, err := l.exchange("dead.test", "\x00"); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %q, %v, want a reset", got, err)
	}
	if got, err := l.exchange("dead.test", "GET / HTTP/1.1\r\nHost: dead.test\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 502 ") {
		t.Errorf("HTTP: got %q, %v, want 502", got, err)
	}
	l.wantRefusals()
}

// TestDeciderIsAskedOnce: a captured request of plain HTTP is one question, though the
// connection is judged before the request is read.
func TestDeciderIsAskedOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	l := newLab(t, func(_ context.Context, r *approval.Request) (approval.Decision, error) {
		asked.Add(1)
		if r.Protocol != policy.ProtocolCapturedTCP || r.Target.Host.Name() != "ask.test" {
			return approval.Deny("unexpected"), nil
		}
		return approval.Allow(), nil
	})
	l.origin("ask.test", web(t))
	// The client does not end its stream, because the question would end with it.
	c := l.dial("ask.test")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: ask.test\r\nConnection: close\r\n\r\n")
	if got, err := io.ReadAll(c); !strings.Contains(string(got), "origin: GET") {
		t.Errorf("got %q, %v", got, err)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the decider was asked %d times, want once", n)
	}
}

func TestQuestionEndsWithItsClient(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan struct{})
	l := newLab(t, func(ctx context.Context, _ *approval.Request) (approval.Decision, error) {
		close(begun)
		<-ctx.Done()
		close(ended)
		return approval.Decision{}, ctx.Err()
	})
	c := l.dial("ask.test")
	<-begun
	c.Close()
	<-ended
}

func TestOpenTunnelIsCut(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "echo.test")
	l.origin("echo.test", testnet.Echo(t).Addr())
	c := l.dial("echo.test")
	io.WriteString(c, "\x00")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	l.Install(func(p *policy.Policy) { p.Allow = nil })
	if got, err := io.ReadAll(c); len(got) > 0 || err == nil {
		t.Errorf("after the entry is gone: got %q, %v, want a reset", got, err)
	}
}

// TestWaitingConnectionIsCut: neither side has sent a byte.
func TestWaitingConnectionIsCut(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil, "mute.test")
	accepted := make(chan struct{})
	l.origin("mute.test", testnet.Serve(t, func(c *net.TCPConn) {
		close(accepted)
		io.Copy(io.Discard, c)
	}).Addr())
	c := l.dial("mute.test")
	<-accepted
	l.Install(func(p *policy.Policy) { p.Allow = nil })
	if got, err := io.ReadAll(c); len(got) > 0 || err == nil {
		t.Errorf("after the entry is gone: got %q, %v, want a reset", got, err)
	}
}
