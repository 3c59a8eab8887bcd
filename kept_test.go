// What the proxy keeps of a request when the request is over.

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

// A record of a request, a tunnel that it opened and a connection that waits
// for the next keep what they need, which is not a header of 60 kB: a client
// could have the proxy hold as many of those. Not parallel: it looks at what
// the whole process has.
func TestLargeHeadersAreNotKept(t *testing.T) {
	const size, most = 60_000, 30_000
	clients := 24
	if testing.Short() {
		clients = 8
	}
	l := limited(t, allow("o.example"), networkproxy.Limits{HeaderFields: size}) // as many as the bytes have room for
	l.origin("o.example", 80, func(http.ResponseWriter, *http.Request) {})
	l.serve("o.example", 443, func(c *net.TCPConn) { io.Copy(io.Discard, c) })
	inUse := func() int {
		runtime.GC()
		runtime.GC() // what pools hold is gone after two
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	for _, test := range []struct {
		name, method, target string
		leaves               bool // the client does
		buffer               int  // a connection keeps one that the header fits in
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
				eventually(t, "what was in use for the requests is gone", func() bool {
					return (inUse()-before)/clients < most+test.buffer
				})
			}
			ask("")
			ask("X: " + strings.Repeat("x", size) + "\r\n")
			ask(strings.Repeat("X:\r\n", size/len("X:\r\n")))
		})
	}
}
