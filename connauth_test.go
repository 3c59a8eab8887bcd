// Tests of connection-based authentication (NTLM, Negotiate): other clients must
// not use a connection on which a client has logged in.

package networkproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"example.com/networkproxy"
)

// loginOrigin is an origin server, or an upstream proxy, that remembers which
// user has logged in on a connection, and responds with the user's name.
func loginOrigin(l *lab, name string, port uint16, challenge string) (closed <-chan int) {
	ends := make(chan int, 16)
	var conns atomic.Int32
	l.serve(name, port, func(c *net.TCPConn) {
		number, user := int(conns.Add(1)), "nobody"
		defer func() { ends <- number }()
		in := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			io.Copy(io.Discard, r.Body)
			if r.Header.Get("Authorization") != "" {
				user = r.Header.Get("X-User")
			}
			status, fields := "200 OK", ""
			if r.Header.Get("X-Challenge") != "" {
				status, fields = "401 Unauthorized", challenge+"\r\n"
				user = r.Header.Get("X-User") // as in the middle of a handshake
			}
			body := fmt.Sprintf("connection %d, %s", number, user)
			fmt.Fprintf(c, "HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s", status, fields, len(body), body)
		}
	})
	return ends
}

func TestLoginsStayWithTheirClient(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name      string
		fields    []string // of the client that logs in
		challenge string   // of the origin server
		shared    bool     // other clients may use the connection
	}{
		{"NTLM", []string{"Authorization: NTLM TlRMTVNTUAABAAAA"}, "", false},
		{"Negotiate", []string{"Authorization: Negotiate YIIC"}, "", false},
		{"Kerberos in lower case", []string{"authorization: kerberos YIIC"}, "", false},
		{"a space more", []string{"Authorization:   nTLM  TlRMTVNTUAABAAAA"}, "", false},
		{"a tab", []string{"Authorization: NTLM\tTlRM"}, "", false},
		{"the second of two", []string{"Authorization: Basic eDp5", "Authorization: NTLM TlRM"}, "", false},
		{"named in Connection", []string{"Authorization: NTLM TlRM", "X-Challenge: 1", "Connection: Authorization"}, "WWW-Authenticate: NTLM TlRM", false},
		{"challenge NTLM", []string{"X-Challenge: 1"}, "WWW-Authenticate: NTLM TlRMTVNTUAACAAAA", false},
		{"challenge Negotiate", []string{"X-Challenge: 1"}, "www-authenticate: negotiate", false},
		{"challenges in a list", []string{"X-Challenge: 1"}, `WWW-Authenticate: Basic realm="a, b",Negotiate , Digest x=y`, false},
		{"challenges in several fields", []string{"X-Challenge: 1"}, "WWW-Authenticate: Basic realm=x\r\nWWW-Authenticate: NTLM", false},
		{"challenge of a proxy", []string{"X-Challenge: 1"}, "Proxy-Authenticate: NTLM", false},
		{"a body like an HTTP/1.1 request", []string{"Authorization: NTLM TlRM", "Transfer-Encoding: chunked", "X: \r\n\r\n1\r\nx\r\n0"}, "", false},
		{"Basic", []string{"Authorization: Basic eDp5"}, "", true},
		{"Bearer", []string{"Authorization: Bearer NTLM"}, "", true},
		{"challenge Basic", []string{"X-Challenge: 1"}, `WWW-Authenticate: Basic realm="NTLM"`, true},
	} {
		for _, upstream := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, upstream %t", test.name, upstream), func(t *testing.T) {
				t.Parallel()
				config := allow("o.example")
				config.AllowUpstreamProxy = upstream
				l := start(t, config, func(b *networkproxy.Builder) {
					b.UpstreamEnviron([]string{"ALL_PROXY=proxy.example:3128"})
				})
				name, port := "o.example", uint16(80)
				if upstream {
					name, port = "proxy.example", 3128
				}
				closed := loginOrigin(l, name, port, test.challenge)

				alice, bob := l.dialHTTP(t), l.dialHTTP(t)
				ask := func(w *rawConn, fields ...string) string {
					w.request("POST", "http://o.example/", fields...)
					return w.readResponse("POST").body
				}
				const first = "connection 1, alice"
				if got := ask(alice, append([]string{"X-User: alice"}, test.fields...)...); got != first {
					t.Fatalf("login: got %q", got)
				}
				want := "connection 2, nobody"
				if test.shared {
					want = first
				}
				if got := ask(bob); got != want {
					t.Errorf("another client: got %q, want %q", got, want)
				}
				if got := ask(bob); got != want {
					t.Errorf("another client, second request: got %q, want %q", got, want)
				}
				if test.shared {
					return
				}
				for range 3 {
					if got := ask(alice); got != first {
						t.Errorf("the same client: got %q, want %q", got, first)
					}
				}
				if got := ask(l.dialHTTP(t)); got != want {
					t.Errorf("a third client: got %q, want %q", got, want)
				}
				alice.Close()
				if got := wait(t, closed, "the end of the client's connection"); got != 1 {
					t.Errorf("connection %d has ended, want 1", got)
				}
				if got := ask(bob); got != want {
					t.Errorf("another client, after the end: got %q, want %q", got, want)
				}
			})
		}
	}
}

// The number of connections that are reserved for one client is limited, and
// they count as idle connections.
func TestLoginsAreBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		idle int
		most int32
	}{{"a client", 0, 4}, {"all clients", 2, 2}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("*.example"), func(b *networkproxy.Builder) { b.Limits(networkproxy.Limits{IdleUpstream: test.idle}) })
			var open atomic.Int32
			l.serve("h0.example", 80, func(c *net.TCPConn) {
				open.Add(1)
				defer open.Add(-1)
				in := bufio.NewReader(c)
				for {
					if _, err := http.ReadRequest(in); err != nil {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			w := l.dialHTTP(t)
			for i := range 12 {
				name := fmt.Sprintf("h%d.example", i)
				l.dns.Set(name, addrs(publicAddr))
				w.get("http://"+name+"/", "Authorization: NTLM TlRM")
				if got := w.readResponse("GET"); got.StatusCode != 200 {
					t.Fatalf("%s: got %s, want 200", name, got.Status)
				}
			}
			eventually(t, "only a few connections are left", func() bool { return open.Load() <= test.most })
			if open.Load() == 0 {
				t.Error("no connection is kept")
			}
			w.Close()
			eventually(t, "no connection is left", func() bool { return open.Load() == 0 })
		})
	}
}
