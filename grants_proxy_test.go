// Tests of questions and grants through clients, the host's API and the admin API.

package networkproxy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// withDecisions sets a decider with one answer for each host. It denies others.
func withDecisions(answers map[string]networkproxy.Decision) func(*networkproxy.Builder) {
	return func(b *networkproxy.Builder) {
		b.PolicyDecider(func(_ context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			return answers[req.Host], nil
		})
	}
}

// grantOf returns the grant of host.
func (l *lab) grantOf(host string) networkproxy.Grant {
	l.t.Helper()
	for _, g := range l.Grants() {
		if g.Host == host {
			return g
		}
	}
	l.t.Fatalf("no grant of %s in %+v", host, l.Grants())
	return networkproxy.Grant{}
}

// isCut reports whether the other side ends the connection.
func isCut(c net.Conn) bool {
	c.SetReadDeadline(testDeadline())
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestRevokeCutsWhatTheGrantOpened(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{
		"granted.example": networkproxy.Allow().ForSession().AnyPort(),
		"kept.example":    networkproxy.Allow().ForSession(),
		"once.example":    networkproxy.Allow(),
	}))
	echo := testnet.Echo(t).Addr()
	for _, host := range []string{"granted.example", "kept.example", "once.example"} {
		l.mapHost(host, 7, echo)
	}
	streaming := make(chan struct{})
	l.origin("granted.example", 80, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "begun ")
		http.NewResponseController(w).Flush()
		close(streaming)
		<-r.Context().Done()
	})
	granted, kept, once := l.connect("granted.example:7"), l.connect("kept.example:7"), l.connect("once.example:7")
	stream, err := l.client().Get("http://granted.example/")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	<-streaming

	if g := l.grantOf("granted.example"); g.Active != 2 || g.UsesLeft != -1 || g.Port != 0 {
		t.Errorf("got the grant %+v, want two active uses, no limit of uses, every port", g)
	}
	if err := l.Revoke(l.grantOf("granted.example").ID); err != nil {
		t.Fatal(err)
	}
	if !isCut(granted) {
		t.Error("the tunnel of a revoked grant is still open")
	}
	if _, err := io.ReadAll(stream.Body); err == nil {
		t.Error("the response of a revoked grant was completed")
	}
	for _, c := range []net.Conn{kept, once} {
		if err := echoes(c); err != nil {
			t.Errorf("a tunnel of another grant: %v", err)
		}
	}

	// This grant is used up, but its tunnel is open.
	g := l.grantOf("once.example")
	if g.Active != 1 || g.UsesLeft != 0 {
		t.Errorf("got the grant %+v, want one active use and none left", g)
	}
	if err := l.Revoke(g.ID); err != nil {
		t.Fatal(err)
	}
	if !isCut(once) {
		t.Error("the tunnel of a revoked grant is still open")
	}
	if err := l.Revoke(g.ID); !errors.Is(err, networkproxy.ErrNoGrant) {
		t.Errorf("second Revoke: got the error %v", err)
	}
	if got := l.admin("GET", "/health", "").body; !strings.Contains(got, `"cut": 3`) {
		t.Errorf("/health does not count two tunnels and a connection as cut: %s", got)
	}
	if len(l.Grants()) != 1 {
		t.Errorf("got the grants %+v, want only the other one", l.Grants())
	}
	l.Close()
	if len(l.Grants()) != 0 {
		t.Errorf("after the end, got the grants %+v, want none", l.Grants())
	}
}

func TestRevokeReachesWhatIsConnecting(t *testing.T) {
	t.Parallel()
	connecting := make(chan struct{})
	l := start(t, allow(), func(b *networkproxy.Builder) {
		withDecisions(map[string]networkproxy.Decision{"granted.example": networkproxy.Allow().For(time.Hour)})(b)
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			connecting <- struct{}{}
			<-ctx.Done()
			if cause := context.Cause(ctx); !strings.Contains(cause.Error(), "revoked") {
				t.Errorf("the dial ended with the cause %v", cause)
			}
			return nil, ctx.Err()
		})
	})
	l.dns.Set("granted.example", testnet.Addrs(publicAddr))
	go func() {
		<-connecting
		l.Revoke(l.Grants()[0].ID)
	}()
	got := l.get("http://granted.example/")
	if got.status != 403 || got.header.Get("x-proxy-error") != "blocked-by-policy" || !strings.Contains(got.body, `"reason":"grant_revoked"`) {
		t.Errorf("forwarded request: got %+v", got)
	}

	go func() {
		<-connecting
		l.Revoke(l.Grants()[0].ID)
	}()
	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "CONNECT granted.example:80 HTTP/1.1\r\nHost: granted.example:80\r\nConnection: close\r\n\r\n")
	text, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 403 ") || !strings.Contains(string(text), "its approval was revoked") {
		t.Errorf("CONNECT: got %q, %v", text, err)
	}
	if b := l.Blocked(); len(b) != 2 || b[1].Reason != networkproxy.ReasonGrantRevoked || b[1].Source != networkproxy.SourceDecider {
		t.Errorf("got the record %+v", b)
	}
}

// A connection that opens after its grant was revoked is cut.
func TestRevokeReachesWhatHasJustConnected(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ method, target string }{{"GET", "http://granted.example/"}, {"CONNECT", "granted.example:80"}} {
		t.Run(test.method, func(t *testing.T) {
			t.Parallel()
			connecting, revoked := make(chan struct{}), make(chan struct{})
			echo := testnet.Echo(t)
			l := start(t, allow(), func(b *networkproxy.Builder) {
				withDecisions(map[string]networkproxy.Decision{"granted.example": networkproxy.Allow().For(time.Hour)})(b)
				networkproxy.SetConnect(b, func(context.Context, netip.AddrPort) (*net.TCPConn, error) {
					close(connecting)
					<-revoked
					return net.DialTCP("tcp", nil, echo.Addr().(*net.TCPAddr))
				})
			})
			l.dns.Set("granted.example", testnet.Addrs(publicAddr))
			go func() {
				<-connecting
				l.Revoke(l.Grants()[0].ID)
				close(revoked)
			}()
			w := l.dialHTTP(t)
			w.request(test.method, test.target)
			a := w.readHeader("GET")
			if list := l.Blocked(); a.StatusCode != 403 || len(list) != 1 || list[0].Reason != networkproxy.ReasonGrantRevoked {
				t.Errorf("got %s %+v", a.Status, list)
			}
		})
	}
}

func TestRevokeCutsPendingResponses(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{
		"granted.example": networkproxy.Allow().ForSession(),
	}))
	l.origin("granted.example", 80, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == "PUT" {
			l.Revoke(l.Grants()[0].ID)
			<-r.Context().Done()
		}
	})
	l.get("http://granted.example/") // leaves an idle connection
	if got := doRequest(t, l.client(), "PUT", "http://granted.example/", ""); got.status != 403 || !strings.Contains(got.body, `"reason":"grant_revoked"`) {
		t.Errorf("got %+v", got)
	}
}

func TestGrantGoesWithItsTunnel(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{"once.example": networkproxy.Allow()}))
	l.mapHost("once.example", 7, testnet.Echo(t).Addr())
	tunnel := l.connect("once.example:7")
	l.grantOf("once.example")
	tunnel.Close()
	eventually(t, "the grant is removed", func() bool { return len(l.Grants()) == 0 })
}

// The idle connection of a used-up grant does not allow a second request.
func TestPooledConnectionIsNoGrant(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			if asked.Add(1) == 1 {
				return networkproxy.Allow().Times(2), nil
			}
			return networkproxy.Deny("that was all"), nil
		})
	})
	l.origin("miss.example", 80, func(http.ResponseWriter, *http.Request) {})
	c := l.client() // one connection, kept alive
	for i, want := range []int{200, 200, 403, 403} {
		if got := doRequest(t, c, "GET", "http://miss.example/", ""); got.status != want {
			t.Errorf("request %d: got %d, want %d", i+1, got.status, want)
		}
	}
	if n := len(l.net.Dialed()); n != 1 {
		t.Errorf("%d connections to the origin server, want one", n)
	}
	if len(l.Grants()) != 0 {
		t.Errorf("got the grants %+v, want none, because it is used up and idle", l.Grants())
	}
}

func TestManyClientsOneQuestion(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(context.Context, networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			asked.Add(1)
			return networkproxy.Allow().ForSession(), nil
		})
	})
	l.origin("miss.example", 80, func(http.ResponseWriter, *http.Request) {})
	var all sync.WaitGroup
	for range scaled(200) {
		c := l.client()
		all.Go(func() {
			resp, err := c.Get("http://miss.example/")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("got %s, want 200", resp.Status)
			}
		})
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("the decider was called %d times, want once", asked.Load())
	}
}

func TestQuestionEndsWhenTheClientGoes(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan struct{}), make(chan struct{})
	l := start(t, allow(), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, _ networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			close(asked)
			<-ctx.Done()
			close(ended)
			return networkproxy.Decision{}, ctx.Err()
		})
	})
	conn, err := net.Dial("tcp", l.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "CONNECT miss.example:443 HTTP/1.1\r\nHost: miss.example:443\r\n\r\n")
	<-asked
	conn.Close()
	select {
	case <-ended:
	case <-time.After(testTimeout):
		t.Error("the decider's context has not ended with the client")
	}
}

func TestCloseEndsQuestions(t *testing.T) {
	for _, obedient := range []bool{true, false} {
		t.Run(fmt.Sprintf("obedient=%t", obedient), func(t *testing.T) {
			testnet.CheckLeaks(t)
			asked, release := make(chan struct{}), make(chan struct{})
			l := start(t, allow(), func(b *networkproxy.Builder) {
				b.PolicyDecider(func(ctx context.Context, _ networkproxy.PolicyRequest) (networkproxy.Decision, error) {
					close(asked)
					if obedient {
						<-ctx.Done()
					} else {
						<-release
					}
					return networkproxy.Allow(), nil
				})
				if !obedient {
					networkproxy.SetCallbackGrace(b, 50*time.Millisecond)
				}
			})
			conn, err := net.Dial("tcp", l.HTTPAddr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "CONNECT miss.example:443 HTTP/1.1\r\nHost: miss.example:443\r\n\r\n")
			<-asked
			closed := make(chan struct{})
			go func() {
				l.Close()
				close(closed)
			}()
			select {
			case <-closed:
			case <-time.After(testTimeout):
				t.Error("Close waits for the decider")
			}
			close(release)
			if warned := strings.Contains(l.log.String(), "the decider has not returned"); warned == obedient {
				t.Errorf("the log reports that the decider has not returned: got %t, want %t", warned, !obedient)
			}
		})
	}
}

func TestGrantsOverAdmin(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), withDecisions(map[string]networkproxy.Decision{
		"granted.example": networkproxy.Allow().Times(3).Subdomains(),
	}))
	l.mapHost("granted.example", 7, testnet.Echo(t).Addr())
	if got := l.admin("GET", "/grants", ""); got.status != 200 || strings.Join(strings.Fields(got.body), "") != `{"grants":[]}` {
		t.Errorf("without a grant: got %+v", got)
	}
	tunnel := l.connect("granted.example:7")

	var listed struct{ Grants []networkproxy.Grant }
	got := l.admin("GET", "/grants", "")
	if err := json.Unmarshal([]byte(got.body), &listed); err != nil || len(listed.Grants) != 1 {
		t.Fatalf("%v: got %s", err, got.body)
	}
	g := listed.Grants[0]
	if g.Host != "**.granted.example" || g.Port != 7 || g.UsesLeft != 2 || g.Active != 1 || g.Created.IsZero() || !g.Expires.IsZero() {
		t.Errorf("got %s", got.body)
	}
	id := fmt.Sprintf(`{"id": %d}`, g.ID)
	for _, test := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"POST", "/grants/revoke", `{"id": 99}`, 404, "grant 99: "},
		{"POST", "/grants/revoke", `{"id": "1"}`, 400, "invalid request body"},
		{"POST", "/grants/revoke", `{}`, 404, "grant 0: "},
		{"GET", "/grants/revoke", ``, 405, "POST"},
		{"POST", "/grants", id, 405, "GET"},
		{"POST", "/grants/revoke", id, 200, `"connections_cut": 1`},
		{"POST", "/grants/revoke", id, 404, "no such grant"},
	} {
		got := l.admin(test.method, test.path, test.body)
		if got.status != test.status || !strings.Contains(got.body, test.message) {
			t.Errorf("%s %s %s: got %d %s", test.method, test.path, test.body, got.status, got.body)
		}
	}
	if !isCut(tunnel) {
		t.Error("the tunnel of a revoked grant is still open")
	}
}
