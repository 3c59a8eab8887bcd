// Tests of connections to targets that are kept or given to the host: their
// wrappers must not hide what the connection can do.

package networkproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"example.com/networkproxy"
)

// A request with a body cannot be sent twice. So a connection that the origin
// server has closed must be detected before the request is sent.
func TestStaleConnectionsGetNoBody(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	closed := make(chan struct{})
	l.serve("o.example", 80, func(c *net.TCPConn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		c.Close()
		closed <- struct{}{}
	})
	client := l.client()
	for i := range 5 {
		if got := doRequest(t, client, "POST", "http://o.example/", fmt.Sprint("body ", i)); got.status != 200 {
			t.Fatalf("request %d: got %d %s", i, got.status, got.body)
		}
		<-closed
	}
}

// A host's connection can be half-closed, both direct and through a proxy.
func TestHostConnectionsHalfClose(t *testing.T) {
	t.Parallel()
	for _, upstream := range []bool{false, true} {
		t.Run(fmt.Sprintf("upstream %t", upstream), func(t *testing.T) {
			t.Parallel()
			config := allow("o.example")
			c := newUpstreamProxy(t, nil)
			c.Start()
			config.AllowUpstreamProxy = upstream
			l := start(t, config, func(b *networkproxy.Builder) {
				b.UpstreamEnviron([]string{"ALL_PROXY=" + upstreamName + ":3128"})
			})
			o := l.serve("o.example", 7, func(c *net.TCPConn) {
				got, _ := io.ReadAll(c)
				fmt.Fprintf(c, "got %q", got)
			})
			c.leads = map[string]net.Addr{"o.example:7": o.Addr()}
			l.mapUpstream(c)

			conn, err := l.DialContext(networkproxy.Attribution{})(t.Context(), "tcp", "o.example:7")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "all")
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(conn); err != nil || string(got) != `got "all"` {
				t.Errorf("after the half-close: got %q, %v", got, err)
			}
		})
	}
}

// A connection that the origin server has kept open is reused, also for requests
// with a body. A few are not kept, because the end of sending was noticed late.
func TestKeptConnectionsGetBody(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	client := l.client()
	const requests = 30
	for i := range requests {
		if got := doRequest(t, client, "POST", "http://o.example/", fmt.Sprint("body ", i)); got.status != 200 {
			t.Fatalf("request %d: got %d %s", i, got.status, got.body)
		}
	}
	if got := l.net.Dialed(); len(got) > requests/2 {
		t.Errorf("opened %d connections for %d requests", len(got), requests)
	}
}
