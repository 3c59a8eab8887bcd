// Tests of sessions: which session a request belongs to, and that nothing outlives
// a session.

package networkproxy_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// open opens a session that ends at the end of the test.
func (l *lab) open(c networkproxy.SessionConfig) *networkproxy.Session {
	l.t.Helper()
	s, err := l.OpenSession(context.Background(), c)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { s.Close() })
	return s
}

// command opens a session for a command.
func (l *lab) command(command string) *networkproxy.Session {
	return l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: command}})
}

// clientThrough returns a client that uses the proxy at a URL.
func clientThrough(t testing.TB, proxy string) *http.Client {
	t.Helper()
	u, err := url.Parse(proxy)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(u)}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 30 * time.Second}
}

// sendRaw sends request unchanged and reads the response's header.
func sendRaw(t testing.TB, network, addr, request string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	io.WriteString(conn, request)
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1), &http.Request{Method: method})
	if err != nil {
		t.Fatal(err)
	}
	return conn, resp
}

// connectThrough opens a tunnel through a listener, with more header lines.
func connectThrough(t testing.TB, addr, target, header string) net.Conn {
	t.Helper()
	conn, resp := sendRaw(t, "tcp", addr, fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n%s\r\n", target, header))
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: got %s, want %d", target, resp.Status, http.StatusOK)
	}
	return conn
}

// credentials returns the header line of Basic credentials.
func credentials(user, password string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password)) + "\r\n"
}

func TestSessionsTellCommandsApart(t *testing.T) {
	t.Parallel()
	const n = 3
	var mu sync.Mutex
	asked := make(map[string]networkproxy.PolicyRequest)
	var waiting sync.WaitGroup
	waiting.Add(n)
	l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			mu.Lock()
			asked[req.Command] = req
			mu.Unlock()
			waiting.Done()
			waiting.Wait() // the three questions are open at the same time
			if req.Command == "command 1" {
				return networkproxy.Allow(), nil
			}
			return networkproxy.Deny("not this one"), nil
		})
	})
	l.origin("shared.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })

	sessions := make([]*networkproxy.Session, n)
	for i := range sessions {
		sessions[i] = l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{
			Command:        fmt.Sprintf("command %d", i),
			ExecPolicyHint: fmt.Sprintf("hint %d", i),
			Labels:         map[string]string{"n": fmt.Sprint(i)},
		}})
	}
	var wg sync.WaitGroup
	for i, s := range sessions {
		wg.Go(func() {
			client := clientThrough(t, s.ProxyURL())
			r, _ := http.NewRequest("GET", "http://shared.example/", nil)
			r.Header.Set("Command", "command 1") // a client's own claim has no effect
			resp, err := client.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			if want := map[bool]int{true: 200, false: 403}[i == 1]; resp.StatusCode != want {
				t.Errorf("command %d: got %s, want %d", i, resp.Status, want)
			}
		})
	}
	wg.Wait()
	for i, s := range sessions {
		req := asked[fmt.Sprintf("command %d", i)]
		if req.ExecPolicyHint != fmt.Sprintf("hint %d", i) || req.Labels["n"] != fmt.Sprint(i) || req.Host != "shared.example" {
			t.Errorf("command %d: the decider got %+v", i, req)
		}
		if blocked := s.Blocked(); (len(blocked) == 1) != (i != 1) || i != 1 && blocked[0].Command != req.Command {
			t.Errorf("command %d: got the records %+v", i, blocked)
		}
	}
	if ids := []string{sessions[0].ID(), sessions[1].ID(), sessions[2].ID()}; len(slices.Compact(ids)) != n {
		t.Errorf("the IDs %q are not unique", ids)
	}
	if len(l.Blocked()) != n-1 {
		t.Errorf("the proxy has %d records, want %d", len(l.Blocked()), n-1)
	}
}

func TestCloseOfASessionEndsWhatIsItsOwn(t *testing.T) {
	testnet.CheckLeaks(t)
	asked := make(chan string, 1)
	withdrawn := make(chan error, 1)
	l := start(t, allow("echo.example", "web.example"), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- req.Host
			<-ctx.Done()
			withdrawn <- context.Cause(ctx)
			return networkproxy.Allow(), nil
		})
	})
	l.mapHost("echo.example", 443, testnet.Echo(t).Addr())
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	l.origin("slow.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	mine, other := l.command("mine"), l.command("other")

	own := connectThrough(t, mine.HTTPAddr(), "echo.example:443", "")
	shared := connectThrough(t, l.HTTPAddr(), "echo.example:443", credentials("x", mine.Token()))
	others := connectThrough(t, other.HTTPAddr(), "echo.example:443", "")
	anonymous := connectThrough(t, l.HTTPAddr(), "echo.example:443", "")
	for _, conn := range []net.Conn{own, shared, others, anonymous} {
		if err := echoes(conn); err != nil {
			t.Fatal(err)
		}
	}
	keptAlive := clientThrough(t, mine.ProxyURL())
	if a := doRequest(t, keptAlive, "GET", "http://web.example/", ""); a.status != 200 {
		t.Fatalf("got %v", a)
	}
	waits := make(chan int, 1)
	go func() {
		_, resp := sendRaw(t, "tcp", l.HTTPAddr(), "GET http://slow.example/ HTTP/1.1\r\nHost: slow.example\r\n"+credentials("x", mine.Token())+"\r\n")
		waits <- resp.StatusCode
	}()
	if host := <-asked; host != "slow.example" {
		t.Fatalf("the decider was called for %q", host)
	}

	if n := networkproxy.OpenListeners(mine); n != 1 {
		t.Errorf("the session has %d open listeners, want 1", n)
	}
	for range 2 {
		if err := mine.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-mine.Done()
	if status := <-waits; status != 403 {
		t.Errorf("the request that waits for the decider: got %d, want 403", status)
	}
	<-withdrawn
	waitClosed(t, "tunnel by its own listener", own)
	waitClosed(t, "tunnel by its token", shared)
	for _, conn := range []net.Conn{others, anonymous} {
		if err := echoes(conn); err != nil {
			t.Errorf("a tunnel outside of the session: %v", err)
		}
	}
	if n := networkproxy.OpenListeners(mine); n != 0 {
		t.Errorf("the closed session has %d open listeners", n)
	}
	if _, resp := sendRaw(t, "tcp", l.HTTPAddr(), "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n"+credentials("x", mine.Token())+"\r\n"); resp.StatusCode != 407 {
		t.Errorf("the closed session's token: got %s, want 407", resp.Status)
	}
	blocked := mine.Blocked()
	if len(blocked) != 1 || blocked[0].Reason != networkproxy.ReasonCanceled {
		t.Errorf("got the records %+v, want the one canceled question", blocked)
	}
	keptAlive.CloseIdleConnections()
}

func TestASessionEndsWithItsContextAndItsProxy(t *testing.T) {
	testnet.CheckLeaks(t)
	l := start(t, networkproxy.DefaultConfig(), nil)
	ctx, cancel := context.WithCancel(context.Background())
	s, err := l.OpenSession(ctx, networkproxy.SessionConfig{})
	if err != nil {
		t.Fatal(err)
	}
	other := l.command("")
	cancel()
	<-s.Done()
	if _, err := l.OpenSession(ctx, networkproxy.SessionConfig{}); !errors.Is(err, context.Canceled) {
		t.Errorf("OpenSession with a canceled context: got the error %v", err)
	}
	select {
	case <-other.Done():
		t.Error("the other session has also ended")
	default:
	}
	if err := l.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	<-other.Done()
	if _, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{}); !errors.Is(err, networkproxy.ErrClosed) {
		t.Errorf("OpenSession after the end of the proxy: got the error %v", err)
	}
	other.Close()
}

func TestNoSessionsOnADisabledProxy(t *testing.T) {
	t.Parallel()
	proxy, err := networkproxy.NewBuilder().Config(networkproxy.Config{}).Build()
	if err != nil {
		t.Fatal(err)
	}
	h, err := proxy.Run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if _, err := h.OpenSession(context.Background(), networkproxy.SessionConfig{}); !errors.Is(err, networkproxy.ErrDisabled) {
		t.Errorf("got the error %v, want ErrDisabled", err)
	}
}

func TestSessionTokens(t *testing.T) {
	t.Parallel()
	t.Run("RequireSession=false", func(t *testing.T) {
		t.Parallel()
		testSessionTokens(t, http.StatusOK, nil)
	})
	t.Run("RequireSession=true", func(t *testing.T) {
		t.Parallel()
		testSessionTokens(t, http.StatusProxyAuthRequired, func(b *networkproxy.Builder) { b.RequireSession() })
	})
}

// testSessionTokens sends tokens of all kinds to the shared listener and to a
// session's own. anonymous is the status of requests without a token on the shared
// listener.
func testSessionTokens(t *testing.T, anonymous int, change func(*networkproxy.Builder)) {
	l := start(t, allow("web.example"), change)
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				t.Errorf("the origin server got the field %s", name)
			}
		}
	})
	shared, a, b, closed := l.HTTPAddr(), l.command("a"), l.command("b"), l.command("closed")
	closed.Close()
	if a.Token() == b.Token() || len(a.Token()) != 43 {
		t.Errorf("tokens of %d and %d characters, equal: %t; want different ones of 43", len(a.Token()), len(b.Token()), a.Token() == b.Token())
	}
	for _, test := range []tokenTest{
		{"shared, no token", shared, "", anonymous},
		{"shared, with a token", shared, credentials("session", a.Token()), 200},
		{"shared, any user name", shared, credentials("", a.Token()), 200},
		{"shared, scheme in another case", shared, strings.Replace(credentials("", a.Token()), "Basic", "bAsIc", 1), 200},
		{"shared, an unknown token", shared, credentials("session", strings.Repeat("A", 43)), 407},
		{"shared, a token and one more byte", shared, credentials("session", a.Token()+"x"), anonymous},
		{"shared, a token without its first byte", shared, credentials("session", a.Token()[1:]), anonymous},
		{"shared, other credentials", shared, credentials("user", "pass"), anonymous},
		{"shared, other credentials, as long as a token", shared, credentials("user", strings.Repeat("pass ", 9)[:43]), anonymous},
		{"shared, empty", shared, credentials("session", ""), anonymous},
		{"shared, no colon", shared, "Proxy-Authorization: Basic dXNlcg==\r\n", anonymous},
		{"shared, no scheme", shared, "Proxy-Authorization:\r\n", anonymous},
		{"shared, Digest", shared, "Proxy-Authorization: Digest username=\"u\", response=\"0\"\r\n", anonymous},
		{"shared, Negotiate", shared, "Proxy-Authorization: Negotiate YIIB\r\n", anonymous},
		{"shared, another bearer token", shared, "Proxy-Authorization: Bearer abc\r\n", anonymous},
		{"shared, other credentials, twice", shared, credentials("user", "pass") + credentials("user", "pass"), anonymous},
		{"shared, several spaces", shared, strings.Replace(credentials("", a.Token()), "Basic ", "Basic   ", 1), 200},
		{"shared, not encoded", shared, "Proxy-Authorization: Basic " + a.Token() + "\r\n", 407},
		{"shared, a token and other credentials", shared, credentials("user", "pass") + credentials("", a.Token()), 407},
		{"shared, token as the user", shared, credentials(a.Token(), ""), 407},
		{"shared, a closed session's token", shared, credentials("session", closed.Token()), 407},
		{"shared, another scheme", shared, "Proxy-Authorization: Bearer " + a.Token() + "\r\n", 407},
		{"shared, not base64", shared, "Proxy-Authorization: Basic :\r\n", anonymous},
		{"shared, twice", shared, credentials("", a.Token()) + credentials("", a.Token()), 407},
		{"shared, in Authorization", shared, strings.TrimPrefix(credentials("", a.Token()), "Proxy-"), anonymous},
		{"own, no token", a.HTTPAddr(), "", 200},
		{"own, with its token", a.HTTPAddr(), credentials("session", a.Token()), 200},
		{"own, with another's token", a.HTTPAddr(), credentials("session", b.Token()), 407},
		{"own, an unknown token", a.HTTPAddr(), credentials("session", strings.Repeat("A", 43)), 407},
		{"own, a closed session's token", a.HTTPAddr(), credentials("session", closed.Token()), 407},
		{"own, other credentials", a.HTTPAddr(), credentials("user", "pass"), 200},
		{"own, other credentials, another scheme", a.HTTPAddr(), "Proxy-Authorization: NTLM TlRMTVNTUAAB\r\n", 200},
		{"own, not base64", a.HTTPAddr(), "Proxy-Authorization: Basic :\r\n", 200},
		{"own, another's token in another scheme", a.HTTPAddr(), "Proxy-Authorization: Bearer " + b.Token() + "\r\n", 407},
	} {
		t.Run(test.name, test.run)
	}
	for _, secret := range []string{a.Token(), b.Token(), closed.Token(), credentials("session", a.Token())} {
		if strings.Contains(l.log.String(), strings.TrimSpace(secret)) {
			t.Error("the log contains a token")
		}
	}
	for _, r := range l.Blocked() {
		if text := fmt.Sprintf("%+v", r); strings.Contains(text, a.Token()) {
			t.Errorf("a record contains a token: %s", text)
		}
	}
}

// tokenTest is a request with credentials, and the status that it gets.
type tokenTest struct {
	name, addr, header string
	want               int
}

func (test tokenTest) run(t *testing.T) {
	_, resp := sendRaw(t, "tcp", test.addr, "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n"+test.header+"\r\n")
	if resp.StatusCode != test.want {
		t.Fatalf("got %s, want %d", resp.Status, test.want)
	}
	if test.want != http.StatusProxyAuthRequired {
		return
	}
	if got, want := resp.Header.Get("Proxy-Authenticate"), `Basic realm="networkproxy session"`; got != want {
		t.Errorf("got Proxy-Authenticate %q, want %q", got, want)
	}
	var body struct{ Status, Reason, Source, Message string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	reason := "session_unknown"
	if !strings.Contains(test.header, "Proxy-Authorization") {
		reason = "session_required"
	}
	if body.Status != "blocked" || body.Reason != reason || body.Source != "session" || body.Message == "" {
		t.Errorf("got the body %+v, want the reason %s", body, reason)
	}
	_, resp = sendRaw(t, "tcp", test.addr, "CONNECT web.example:443 HTTP/1.1\r\nHost: web.example\r\n"+test.header+"\r\n")
	if resp.StatusCode != http.StatusProxyAuthRequired || resp.Header.Get("Proxy-Authenticate") == "" {
		t.Errorf("CONNECT: got %s, want 407 with Proxy-Authenticate", resp.Status)
	}
}

// A process that outlives its session must not reach a later session on the same
// port. The system chooses ports at random, and repeats one within some dozen
// sessions.
func TestClosedSessionsPortStaysClosed(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow()), nil)
	seen := make(map[string]int)
	for i := range 1000 {
		s, err := l.OpenSession(t.Context(), networkproxy.SessionConfig{})
		if err != nil {
			t.Fatal(err)
		}
		for _, addr := range []string{s.HTTPAddr(), s.SOCKSAddr()} {
			if first, again := seen[addr]; again {
				t.Fatalf("session %d got the address %s of session %d", i, addr, first)
			}
			seen[addr] = i
		}
		s.Close()
	}
}

// With RequireToken, a session's port is useless without the token.
func TestSessionRequiresItsToken(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("web.example")), nil)
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Proxy-Authorization") != "" {
			t.Error("the origin server got the token")
		}
	})
	path := filepath.Join(t.TempDir(), "s")
	s := l.open(networkproxy.SessionConfig{UnixSocket: path, RequireToken: true})
	other := l.command("other")
	for _, listener := range []struct{ network, addr string }{{"tcp", s.HTTPAddr()}, {"unix", path}} {
		for _, test := range []struct {
			name, header string
			want         int
		}{
			{"without", "", 407},
			{"its token", credentials("session", s.Token()), 200},
			{"another's", credentials("session", other.Token()), 407},
			{"a guess", credentials("session", "guess"), 407},
		} {
			t.Run(listener.network+" "+test.name, func(t *testing.T) {
				_, resp := sendRaw(t, listener.network, listener.addr, "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n"+test.header+"\r\n")
				if resp.StatusCode != test.want {
					t.Errorf("GET: got %s, want %d", resp.Status, test.want)
				}
				_, resp = sendRaw(t, listener.network, listener.addr, "CONNECT web.example:80 HTTP/1.1\r\nHost: web.example:80\r\n"+test.header+"\r\n")
				if resp.StatusCode != test.want {
					t.Errorf("CONNECT: got %s, want %d", resp.Status, test.want)
				}
			})
		}
	}
	for _, test := range []struct {
		name     string
		password string
		want     byte
	}{
		{"without", "", 0xFF}, {"its token", s.Token(), 0}, {"another's", other.Token(), 0xFE}, {"a guess", "guess", 0xFE},
	} {
		t.Run("SOCKS5 "+test.name, func(t *testing.T) {
			if _, code := connectSOCKS(t, s.SOCKSAddr(), test.password, "web.example", 80); code != test.want {
				t.Errorf("got the reply %#x, want %#x", code, test.want)
			}
		})
	}
	if _, code := connectSOCKS(t, other.SOCKSAddr(), "", "web.example", 80); code != 0 {
		t.Errorf("a session without RequireToken: got the reply %#x", code)
	}

	if u, err := url.Parse(s.ProxyURL()); err != nil || u.Host != s.HTTPAddr() || !strings.Contains(u.User.String(), s.Token()) {
		t.Errorf("ProxyURL %q lacks the token or the session's address", s.ProxyURL())
	}
	if !slices.Contains(s.Environ(nil), "HTTPS_PROXY="+s.ProxyURL()) {
		t.Errorf("the environment lacks the token: %q", s.Environ(nil))
	}
	if a := doRequest(t, clientThrough(t, s.ProxyURL()), "GET", "http://web.example/", ""); a.status != 200 {
		t.Errorf("through ProxyURL: got %d, want 200", a.status)
	}
	if strings.Contains(l.log.String(), s.Token()) {
		t.Error("the log contains the token")
	}
}

func TestATokenNamesTheCommand(t *testing.T) {
	t.Parallel()
	asked := make(chan networkproxy.PolicyRequest, 1)
	l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- req
			return networkproxy.Deny("no"), nil
		})
	})
	s := l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "by token"}, SharedPort: true})
	if s.HTTPAddr() != "" || s.ProxyURL() != s.SharedProxyURL() || !strings.Contains(s.ProxyURL(), s.Token()) {
		t.Errorf("a session on the shared port: got the address %q and the URL %q", s.HTTPAddr(), s.ProxyURL())
	}
	if a := doRequest(t, clientThrough(t, s.ProxyURL()), "GET", "http://web.example/", ""); a.status != 403 {
		t.Fatalf("got %d %s", a.status, a.body)
	}
	if req := <-asked; req.Command != "by token" {
		t.Errorf("the decider got the command %q", req.Command)
	}
	if blocked := s.Blocked(); len(blocked) != 1 || blocked[0].Command != "by token" {
		t.Errorf("got the records %+v", blocked)
	}
}

// TestSessionsAreNoTargets checks that a session cannot use another session's
// listener as a target.
func TestSessionsAreNoTargets(t *testing.T) {
	t.Parallel()
	config := allow("localhost", "127.0.0.1")
	config.Policy.AllowLocalBinding = true
	l := start(t, config, nil)
	a, b := l.command("a"), l.command("b")
	for _, target := range []string{b.HTTPAddr(), a.HTTPAddr(), strings.Replace(b.HTTPAddr(), "127.0.0.1", "localhost", 1)} {
		_, resp := sendRaw(t, "tcp", a.HTTPAddr(), fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", target))
		if resp.StatusCode != 403 {
			t.Errorf("CONNECT %s: got %s, want 403", target, resp.Status)
		}
	}
	b.Close()
	// The port of a closed session is an ordinary target again.
	_, resp := sendRaw(t, "tcp", a.HTTPAddr(), fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: x\r\n\r\n", b.HTTPAddr()))
	if resp.StatusCode == 403 {
		t.Errorf("a closed session's port: got %s", resp.Status)
	}
}

func TestSessionUnixSocket(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 1)
	l := start(t, allow("web.example"), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked <- req.Command
			return networkproxy.Deny("no"), nil
		})
	})
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	dir := t.TempDir()
	path := filepath.Join(dir, "proxy.sock")
	open := func() *networkproxy.Session {
		return l.open(networkproxy.SessionConfig{Attribution: networkproxy.Attribution{Command: "boxed"}, UnixSocket: path})
	}
	s := open()
	info, err := os.Stat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("got the mode %v, %v; want a socket of mode 0600", info.Mode(), err)
	}
	if s.UnixSocket() != path {
		t.Errorf("got the path %q", s.UnixSocket())
	}
	conn, resp := sendRaw(t, "unix", path, "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n")
	if body, err := io.ReadAll(resp.Body); string(body) != "hello" || err != nil {
		t.Errorf("allowed request: got %s %q, %v", resp.Status, body, err)
	}
	if _, resp := sendRaw(t, "unix", path, "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n"); resp.StatusCode != 403 {
		t.Errorf("refused request: got %s, want 403", resp.Status)
	}
	if command := <-asked; command != "boxed" {
		t.Errorf("the decider got the command %q", command)
	}
	if _, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{UnixSocket: path}); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("a socket in use: got the error %v", err)
	}
	s.Close()
	waitClosed(t, "its connection", conn)
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("files after Close: %v, %v", left, err)
	}

	// A leftover of a process that was killed.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	s = open()
	if _, resp := sendRaw(t, "unix", path, "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("in place of a stale socket: got %s, want 200", resp.Status)
	}
	// A file that replaced the socket is not removed.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if content, err := os.ReadFile(path); string(content) != "precious" {
		t.Errorf("a file that replaced the socket: got %q, %v", content, err)
	}

	for _, test := range []struct{ name, path string }{
		{"a file in its place", path},
		{"no directory", filepath.Join(dir, "missing", "proxy.sock")},
		{"a relative path", "proxy.sock"},
		{"too long", filepath.Join(dir, strings.Repeat("x", 200))},
	} {
		if s, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{UnixSocket: test.path}); err == nil {
			s.Close()
			t.Errorf("%s: got no error", test.name)
		} else if !strings.Contains(err.Error(), test.path) {
			t.Errorf("%s: the error lacks the path: %v", test.name, err)
		}
	}
	if content, err := os.ReadFile(path); string(content) != "precious" {
		t.Errorf("a file at the path: got %q, %v; want it unchanged", content, err)
	}
}

func TestManySessions(t *testing.T) {
	testnet.CheckLeaks(t)
	l := start(t, allow("web.example"), nil)
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {})
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			s, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{})
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			if i%10 != 0 {
				return
			}
			resp, err := clientThrough(t, s.ProxyURL()).Get("http://web.example/")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
		})
	}
	wg.Wait()

	// Sessions that are opened while the proxy ends are closed.
	opened := make(chan struct{}, 1)
	wg.Go(func() {
		for {
			if _, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{}); err != nil {
				if !errors.Is(err, networkproxy.ErrClosed) {
					t.Error(err)
				}
				return
			}
			select {
			case opened <- struct{}{}:
			default:
			}
		}
	})
	<-opened
	l.Close()
	wg.Wait()
}

// TestCloseFromACallback closes a session in OnBlocked and in the decider, as a
// host might.
func TestCloseFromACallback(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var s *networkproxy.Session
	stop := func() {
		mu.Lock()
		defer mu.Unlock()
		s.Close()
	}
	for _, where := range []string{"decider", "OnBlocked"} {
		t.Run(where, func(t *testing.T) {
			l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) {
				if where == "OnBlocked" {
					b.OnBlocked(func(networkproxy.BlockedRequest) { stop() })
					return
				}
				b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
					stop()
					return networkproxy.Deny("no"), nil
				})
			})
			mu.Lock()
			s = l.command("bad")
			mu.Unlock()
			conn, err := net.Dial("tcp", s.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "GET http://bad.example/ HTTP/1.1\r\nHost: bad.example\r\n\r\n")
			<-s.Done()
		})
	}
}

// BenchmarkOpenSession measures opening and closing a session, and the memory of an
// open one.
func BenchmarkOpenSession(b *testing.B) {
	l := start(b, networkproxy.DefaultConfig(), nil)
	b.ReportAllocs()
	for b.Loop() {
		s, err := l.OpenSession(context.Background(), networkproxy.SessionConfig{})
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
	b.StopTimer()
	const n = 1000
	before := memoryInUse()
	open := make([]*networkproxy.Session, n)
	for i := range open {
		var err error
		if open[i], err = l.OpenSession(context.Background(), networkproxy.SessionConfig{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(memoryInUse()-before)/n/1024, "KiB/open-session")
	for _, s := range open {
		s.Close()
	}
}

// memoryInUse returns the bytes of heap and stacks in use.
func memoryInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestRefusedConnectCloses checks that the connection of a refused CONNECT is
// closed, because Node.js waits for that.
func TestRefusedConnectCloses(t *testing.T) {
	t.Parallel()
	l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) { b.RequireSession() })
	for addr, want := range map[string]int{l.command("").HTTPAddr(): 403, l.HTTPAddr(): 407} {
		conn, resp := sendRaw(t, "tcp", addr, "CONNECT other.example:443 HTTP/1.1\r\nHost: other.example\r\n\r\n")
		if _, err := io.ReadAll(resp.Body); resp.StatusCode != want || err != nil {
			t.Errorf("got %s, %v; want %d and the end of the connection", resp.Status, err, want)
		}
		waitClosed(t, resp.Status, conn)
	}
}

// TestGrantsAreTheSessions checks that a session's grants are not valid for others,
// end with the session, and can be revoked during a response.
func TestGrantsAreTheSessions(t *testing.T) {
	t.Parallel()
	l := start(t, networkproxy.DefaultConfig(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			switch req.Command {
			case "trusted":
				return networkproxy.Allow().ForSession(), nil
			case "host":
				return networkproxy.Allow(), nil
			}
			return networkproxy.Deny("no"), nil
		})
	})
	release := make(chan struct{})
	l.origin("web.example", 80, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			http.NewResponseController(w).Flush()
			<-release
		}
	})
	defer close(release)
	s, other := l.command("trusted"), l.command("other")
	for range 2 {
		if a := doRequest(t, clientThrough(t, s.ProxyURL()), "GET", "http://web.example/", ""); a.status != 200 {
			t.Fatalf("in the session with the grant: got %d, want 200", a.status)
		}
	}
	if a := doRequest(t, clientThrough(t, other.ProxyURL()), "GET", "http://web.example/", ""); a.status != 403 {
		t.Errorf("in another session: got %d, want 403", a.status)
	}
	if n := len(l.Grants()); n != 1 {
		t.Fatalf("%d grants, want 1", n)
	}
	s.Close()
	if n := len(l.Grants()); n != 0 {
		t.Errorf("%d grants outlive their session, want none", n)
	}

	// The second request has its own grant, and uses the connection that the first
	// grant opened.
	client := l.inProcess(networkproxy.Attribution{Command: "host"}, nil)
	doRequest(t, client, "GET", "http://web.example/", "")
	resp, err := client.Get("http://web.example/slow")
	if err != nil {
		t.Fatal(err)
	}
	grants := l.Grants()
	if len(grants) != 1 {
		t.Fatalf("got the grants %+v, want 1", grants)
	}
	if err := l.Revoke(grants[0].ID); err != nil {
		t.Fatal(err)
	}
	var refusal *networkproxy.RefusedError
	if _, err := io.ReadAll(resp.Body); !errors.As(err, &refusal) || refusal.Verdict.Reason != networkproxy.ReasonGrantRevoked {
		t.Errorf("reading after the grant was revoked: got the error %v", err)
	}
	resp.Body.Close()
	if n := len(l.Grants()); n != 0 {
		t.Errorf("%d grants after the revocation, want none", n)
	}
}

// TestCloseDuringADial closes a session when the connection to the target is open
// but not yet registered.
func TestCloseDuringADial(t *testing.T) {
	t.Parallel()
	echo := testnet.Echo(t)
	var s *networkproxy.Session
	dialed := make(chan *net.TCPConn, 1)
	l := start(t, allow("echo.example"), func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(context.Context, netip.AddrPort) (*net.TCPConn, error) {
			conn, err := net.Dial("tcp", echo.Addr().String())
			s.Close()
			if err != nil {
				return nil, err
			}
			dialed <- conn.(*net.TCPConn)
			return conn.(*net.TCPConn), nil
		})
	})
	l.dns.Set("echo.example", testnet.Addrs(publicAddr))
	s = l.open(networkproxy.SessionConfig{SharedPort: true})
	_, resp := sendRaw(t, "tcp", l.HTTPAddr(), "CONNECT echo.example:22 HTTP/1.1\r\nHost: echo.example\r\n"+credentials("", s.Token())+"\r\n")
	if resp.StatusCode == 200 {
		t.Error("a closed session got a tunnel")
	}
	if err := (<-dialed).SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection to the target is still open: %v", err)
	}
}

// TestEndReachesADial checks that a dial ends with its session or with the proxy,
// even if the client's connection stays open.
func TestEndReachesADial(t *testing.T) {
	t.Parallel()
	dialing, ended := make(chan struct{}), make(chan struct{})
	l := start(t, allow("hole.example"), func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			dialing <- struct{}{}
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		})
	})
	l.dns.Set("hole.example", testnet.Addrs(publicAddr))

	s := l.open(networkproxy.SessionConfig{SharedPort: true})
	w := l.dialHTTP(t)
	w.request("CONNECT", "hole.example:22", strings.TrimSpace(credentials("", s.Token())))
	wait(t, dialing, "the dial for a session's token on the shared listener")
	s.Close()
	wait(t, ended, "the end of the dial with the session")

	failed := make(chan error, 1)
	go func() {
		_, err := l.DialContext(networkproxy.Attribution{})(context.Background(), "tcp", "hole.example:22")
		failed <- err
	}()
	wait(t, dialing, "the dial of the host")
	go l.Close()
	wait(t, ended, "the end of the dial with the proxy")
	if err := wait(t, failed, "the error of the host's dial"); err == nil {
		t.Error("the host's dial: got no error")
	}
}

// TestSessionsAreQuiet checks that opening and closing sessions is logged at the
// level debug only, because a host may open one for every command.
func TestSessionsAreQuiet(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow()), func(b *networkproxy.Builder) { b.SOCKSAddr("127.0.0.1:0") })
	before := len(l.log.String())
	for _, config := range []networkproxy.SessionConfig{{}, {SharedPort: true}, {UnixSocket: filepath.Join(shortDir(t), "s")}} {
		s := l.open(config)
		s.Close()
	}
	logged := l.log.String()[before:]
	if n := strings.Count(logged, "msg=\"session "); n != 6 {
		t.Errorf("%d lines about 3 sessions at the level debug, want 6", n)
	}
	for line := range strings.Lines(logged) {
		if !strings.Contains(line, "level=DEBUG") {
			t.Errorf("a line above the level debug: %s", line)
		}
	}
}

// A host opens a session for every command, so its lines are at debug.
func TestSessionsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	levels := make(chan slog.Level, 16)
	h := runBuilt(t, networkproxy.NewBuilder().Config(networkproxy.Config{}).Embedded().
		Logger(slog.New(callbackHandler{func(r slog.Record) {
			if strings.HasPrefix(r.Message, "session ") {
				levels <- r.Level
			}
		}})))
	networkproxy.FlushLog(h) // the proxy knows then that the handler wants lines at debug
	openSession(t, h, networkproxy.SessionConfig{}).Close()
	h.Close()
	close(levels)
	n := 0
	for level := range levels {
		if n++; level != slog.LevelDebug {
			t.Errorf("a line about a session has the level %v, want debug", level)
		}
	}
	if n != 2 {
		t.Errorf("got %d lines about sessions, want that it was opened and closed", n)
	}
}
