// Memory that the proxy holds after a request.

package networkproxy_test

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// TestLargeHeadersAreNotKept checks that refusal records, tunnels and idle
// connections do not hold the request's header of 60 kB. Otherwise a client
// could make the proxy hold many of them. It is not parallel, because it
// measures the memory of the process.
func TestLargeHeadersAreNotKept(t *testing.T) {
	const size, most = 60_000, 30_000
	clients := 24
	if testing.Short() {
		clients = 8
	}
	l := limited(t, allow("o.example"), networkproxy.Limits{HeaderFields: size}) // as many as fit into the bytes
	l.origin("o.example", 80, func(http.ResponseWriter, *http.Request) {})
	l.serve("o.example", 443, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	inUse := func() int {
		runtime.GC()
		runtime.GC() // pools are empty after two collections
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, test := range []struct {
		name, method, target string
		leaves               bool // the client closes the connection
		buffer               int  // the connection keeps a buffer that fits the header
	}{
		{"a record of a refusal", "GET", "http://denied.example/", true, 0},
		{"a record of a method", "X-" + strings.Repeat("X", 20), "http://denied.example/", true, 0},
		{"a tunnel", "CONNECT", "o.example:443", false, 0},
		{"a connection", "GET", "http://o.example/", false, 70_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			ask := func(fields string) {
				before := inUse()
				var open []*rawConn
				for range clients {
					w := l.dialHTTP(t)
					w.r = nil // the client's own buffer
					w.send(test.method + " " + test.target + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n")
					if _, err := io.ReadFull(w.TCPConn, make([]byte, len("HTTP/1.1 200"))); err != nil {
						t.Fatal(err)
					}
					if test.leaves {
						w.Close()
					}
					open = append(open, w)
				}
				defer func() {
					for _, w := range open {
						w.Close()
					}
				}()
				eventually(t, "the memory of the requests is free", func() bool {
					return (inUse()-before)/clients < most+test.buffer
				})
			}
			ask("")
			ask("X: " + strings.Repeat("x", size) + "\r\n")
			ask(strings.Repeat("X:\r\n", size/len("X:\r\n")))
		})
	}
}
