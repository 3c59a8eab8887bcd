// Tests of clients that close the connection while they wait, and of clients that
// close only their sending side.

package networkproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// waitingRequest is a request that does not end before release is called. If the
// proxy abandons it, its context or the connection to its origin server ends.
type waitingRequest struct {
	name    string
	request string // to the HTTP proxy, or to the SOCKS5 proxy if its first byte is 5
	body    string // the part of the body that the proxy has not read
	want    string // the beginning of the response
}

func socksTo(name string) string {
	return string(append([]byte{5, 1, 0, 5, 1, 0}, socksDestName(name, 80)...))
}

var waitingRequests = []waitingRequest{
	{"a slow origin server", "GET http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 200 OK"},
	{"a slow origin server, with a body", "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "", "HTTP/1.1 200 OK"},
	{"a slow origin server, upgrade", "GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", "", "HTTP/1.1 200 OK"},
	{"HTTP/1.0", "GET http://origin.example/ HTTP/1.0\r\n\r\n", "", "HTTP/1.1 200 OK"},
	{"a slow decider", "GET http://asked.example/ HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 403 Forbidden"},
	{"a slow decider, CONNECT", "CONNECT asked.example:80 HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 403 Forbidden"},
	{"a slow decider, unread body", "POST http://asked.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", strings.Repeat("x", 5000), "HTTP/1.1 403 Forbidden"},
	{"a slow dial", "CONNECT dial.example:80 HTTP/1.1\r\nHost: x\r\n\r\n", "", "HTTP/1.1 200 Connection established"},
	{"SOCKS5: a slow decider", socksTo("asked.example"), "", "\x05\x02\x00\x01"},
	{"SOCKS5: a slow dial", socksTo("dial.example"), "", "\x05\x00\x00\x01"},
}

// begin sends the request followed by extra, and returns when it waits. gone
// receives a value when the proxy abandons the request.
func (w waitingRequest) begin(t *testing.T, extra string) (c *net.TCPConn, release func(), gone <-chan struct{}) {
	t.Helper()
	began, released, given := make(chan struct{}, 8), make(chan struct{}), make(chan struct{}, 8)
	target := make(chan netip.AddrPort, 1)
	l := start(t, withSOCKS(allow("origin.example", "dial.example")), func(b *networkproxy.Builder) {
		b.PolicyDecider(func(ctx context.Context, _ networkproxy.PolicyRequest) (networkproxy.Decision, error) {
			began <- struct{}{}
			select {
			case <-ctx.Done():
				given <- struct{}{}
			case <-released:
			}
			return networkproxy.Deny("no"), nil
		})
		networkproxy.SetConnect(b, func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
			to := <-target
			target <- to
			if addr.Addr() == netip.MustParseAddr("1.1.1.2") {
				began <- struct{}{}
				select {
				case <-ctx.Done():
					given <- struct{}{}
					return nil, ctx.Err()
				case <-released:
				}
			}
			var d net.Dialer
			c, err := d.DialContext(ctx, "tcp", to.String())
			if err != nil {
				return nil, err
			}
			return c.(*net.TCPConn), nil
		})
	})
	l.dns.Set("origin.example", addrs("1.1.1.1"))
	l.dns.Set("dial.example", addrs("1.1.1.2"))
	origin := l.serve("any.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		request, err := http.ReadRequest(r)
		if err != nil {
			return // of a tunnel
		}
		io.Copy(io.Discard, request.Body)
		began <- struct{}{}
		ended := make(chan struct{})
		go func() { r.Peek(1); close(ended) }()
		select {
		case <-released:
			io.WriteString(c, emptyResponse)
		case <-ended:
			given <- struct{}{}
		}
		c.Close()
		<-ended
	})
	target <- origin.AddrPort()
	addr := l.HTTPAddr()
	if w.request[0] == 5 {
		addr = l.SOCKSAddr()
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(testDeadline())
	c = conn.(*net.TCPConn)
	if w.request[0] == 5 { // the response to the methods comes first
		io.WriteString(c, w.request[:3])
		io.ReadFull(c, make([]byte, 2))
		io.WriteString(c, w.request[3:]+extra)
	} else {
		io.WriteString(c, w.request+w.body+extra)
	}
	wait(t, began, "the start of the request")
	return c, func() { close(released) }, given
}

// A client that closes its connection ends its request, even if it has sent more
// after the request.
func TestClientLeavesBehindBytes(t *testing.T) {
	t.Parallel()
	for _, w := range waitingRequests {
		for _, test := range []struct{ name, extra string }{{"nothing", ""}, {"a byte", "x"}, {"more than the buffer holds", strings.Repeat("x", 9000)}} {
			t.Run(w.name+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				c, _, gone := w.begin(t, test.extra)
				c.Close()
				wait(t, gone, "the end of the abandoned request")
			})
		}
	}
}

// A client that closes only its sending side after its request is served. It
// gets a complete response even though the proxy sends its first bytes early, to
// find out whether the client is still there.
func TestHalfClosedClientIsServed(t *testing.T) {
	t.Parallel()
	for _, w := range waitingRequests {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			c, release, gone := w.begin(t, "")
			c.CloseWrite()
			ahead := make([]byte, 2)
			if w.request[0] == 5 {
				ahead = ahead[:1] // the rest of a reply depends on the outcome
			}
			if _, err := io.ReadFull(c, ahead); err != nil {
				t.Fatal(err)
			}
			release()
			rest, err := io.ReadAll(c)
			got := string(ahead) + string(rest)
			if err != nil || !strings.HasPrefix(got, w.want) || strings.Count(got, "HTTP/1.1") > 1 {
				t.Errorf("got %q, %v; want %q in it", got, err, w.want)
			}
			if w.request[0] == 5 && len(got) != 10 {
				t.Errorf("got a reply of %d bytes", len(got))
			}
			if len(gone) > 0 {
				t.Error("the request was abandoned")
			}
		})
	}
}

// A client that first closes its sending side and later the connection ends its
// request, too.
func TestHalfClosedClientLeaves(t *testing.T) {
	t.Parallel()
	for _, w := range waitingRequests {
		for _, resets := range []bool{false, true} {
			if !resets && w.request[0] == 5 {
				continue // the one byte that can be sent early has been sent
			}
			name := "closes"
			if resets {
				name = "resets"
			}
			t.Run(w.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				c, _, gone := w.begin(t, "x")
				c.CloseWrite()
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				if resets {
					c.SetLinger(0)
				}
				c.Close()
				wait(t, gone, "the end of the abandoned request")
			})
		}
	}
}

// A response continues after the client closes its sending side, and so do the
// responses to earlier pipelined requests.
func TestHalfClosedClientGetsAllOfIt(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "first;")
		http.NewResponseController(w).Flush()
		timer := time.NewTimer(300 * time.Millisecond) // the proxy notices the end of the client's side
		<-timer.C
		io.WriteString(w, r.URL.Path)
	})
	w := l.dialHTTP(t)
	w.get("http://o.example/1")
	w.get("http://o.example/2")
	w.CloseWrite()
	for _, want := range []string{"first;/1", "first;/2"} {
		if a := w.readResponse("GET"); a.body != want {
			t.Errorf("got the body %q, want %q", a.body, want)
		}
	}
	if rest := w.readAll(); rest != "" {
		t.Errorf("after the responses: got %q, want the end", rest)
	}
}

// The bytes that are sent early also fit an informational response. The final
// response then has its own status line.
func TestHalfClosedClientGetsInformationalResponses(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	informational, final := make(chan struct{}), make(chan struct{})
	l.serve("o.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		readHeader(r)
		<-informational
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n")
		<-final
		io.WriteString(c, emptyResponse)
		io.Copy(io.Discard, r)
	})
	w := l.dialHTTP(t)
	w.get("http://o.example/")
	w.CloseWrite()
	var got bytes.Buffer
	take := func(n int) { got.WriteString(w.readN(n)) }
	take(1)
	close(informational)
	for !strings.HasSuffix(got.String(), "\r\n\r\n") {
		take(1)
	}
	take(1)
	close(final)
	got.WriteString(w.readAll())
	if text := got.String(); !strings.HasPrefix(text, "HTTP/1.1 103 Early Hints\r\n") || strings.Count(text, "HTTP/1.1 200 OK\r\n") != 1 || strings.Count(text, "HTTP") != 2 {
		t.Errorf("got %q", text)
	}
}
