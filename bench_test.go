// Benchmarks of requests.

package networkproxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// listed returns a configuration with n patterns in each list.
func listed(n int) networkproxy.Config {
	c := allow("allowed.example", "*.wild.example", "45.32.0.0/16")
	c.Policy.DeniedDomains = []string{"denied.example", "45.33.0.0/16"}
	for i := range n {
		c.Policy.AllowedDomains = append(c.Policy.AllowedDomains, fmt.Sprintf("host%d.some.example", i))
		c.Policy.DeniedDomains = append(c.Policy.DeniedDomains, fmt.Sprintf("*.bad%d.example", i))
	}
	return c
}

// decisionTargets has a target for each kind of decision.
var decisionTargets = []struct {
	name, target string
	allowed      bool
}{
	{"allow", "allowed.example:443", true},
	{"allow wildcard", "a.b.c.wild.example:443", true},
	{"allow address", "45.32.1.1:443", true},
	{"deny", "denied.example:443", false},
	{"deny wildcard", "a.b.c.bad7.example:443", false},
	{"miss", "a.b.c.d.miss.example:443", false},
	{"local", "[::ffff:127.0.0.1]:443", false},
}

// TestDecisionDoesNotAllocate checks every kind of decision, with short and long
// lists.
func TestDecisionDoesNotAllocate(t *testing.T) {
	l := start(t, listed(1000), nil)
	for _, tt := range decisionTargets {
		decide, err := l.Decide(networkproxy.ProtocolHTTPSConnect, "CONNECT", tt.target)
		if err != nil {
			t.Fatal(err)
		}
		var allowed bool
		if n := allocations(func() { allowed = decide(t.Context()) }); n != 0 {
			t.Errorf("%s: got %v allocations, want none", tt.name, n)
		}
		if allowed != tt.allowed {
			t.Errorf("%s: got allowed = %t, want %t", tt.name, allowed, tt.allowed)
		}
	}
}

func BenchmarkDecision(b *testing.B) {
	for _, n := range []int{10, 1_000, 100_000} {
		l := start(b, listed(n), nil)
		for _, tt := range decisionTargets {
			b.Run(fmt.Sprintf("%s/%d", tt.name, n), func(b *testing.B) {
				decide, err := l.Decide(networkproxy.ProtocolHTTPSConnect, "CONNECT", tt.target)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				for b.Loop() {
					if decide(b.Context()) != tt.allowed {
						b.Fatal(tt.target)
					}
				}
			})
		}
		l.Close()
	}
}

// BenchmarkParallel measures the proxy without system calls on the number of
// processors that -cpu sets: decisions that allow, and complete refusals. With a
// contended lock, more processors would not help.
func BenchmarkParallel(b *testing.B) {
	l := start(b, listed(1000), func(b *networkproxy.Builder) { b.Logger(slog.New(slog.DiscardHandler)) })
	b.Run("allow", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			decide, err := l.Decide(networkproxy.ProtocolHTTP, "GET", "allowed.example:80")
			if err != nil {
				b.Error(err)
				return
			}
			for pb.Next() {
				if !decide(b.Context()) {
					b.Error("refused")
					return
				}
			}
		})
	})
	b.Run("refuse", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			l.ServeHTTPConn(&loopConn{request: []byte(refused), more: pb.Next})
		})
	})
}

// clientState sends a request on an idle connection and reads the response's header
// and length bytes of its body.
func clientState(b *testing.B, c net.Conn, r *bufio.Reader, request []byte, want string) {
	if _, err := c.Write(request); err != nil {
		b.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Status[:3] != want {
		b.Fatalf("%s, %v", resp.Status, err)
	}
}

// BenchmarkForward makes GET requests of 1 KiB, one after the other on one
// connection, and many at once. It includes the client's work.
func BenchmarkForward(b *testing.B) {
	l := start(b, allow("o.example"), nil)
	body := bytes.Repeat([]byte("x"), 1024)
	response := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	l.serve("o.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for readHeader(r) != "" {
			if _, err := c.Write(response); err != nil {
				return
			}
		}
	})
	request := []byte("GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n")
	b.Run("one", func(b *testing.B) {
		c := dialBench(b, l.HTTPAddr())
		r := bufio.NewReader(c)
		b.ReportAllocs()
		for b.Loop() {
			clientState(b, c, r, request, "200")
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			c := dialBench(b, l.HTTPAddr())
			r := bufio.NewReader(c)
			for pb.Next() {
				clientState(b, c, r, request, "200")
			}
		})
	})
}

// loopConn is a client without a socket that sends the same request repeatedly and
// drops the responses.
type loopConn struct {
	net.Conn // only the methods below are used
	request  []byte
	more     func() bool // whether there is another request
	rest     []byte      // of the request that is being read; a watcher of the connection may read one byte
}

func (c *loopConn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		if !c.more() {
			return 0, io.EOF
		}
		c.rest = c.request
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *loopConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *loopConn) Close() error                     { return nil }
func (c *loopConn) SetReadDeadline(time.Time) error  { return nil }
func (c *loopConn) SetWriteDeadline(time.Time) error { return nil }
func (c *loopConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}
}

// refused is a request for a host on no list.
const refused = "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n" +
	"User-Agent: bench\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n\r\n"

// BenchmarkRefuseWork measures a refusal without system calls, with the handler of
// log/slog and without a log.
func BenchmarkRefuseWork(b *testing.B) {
	for _, test := range []struct {
		name string
		log  slog.Handler
	}{
		{"logged", slog.NewTextHandler(&nowhere{}, nil)},
		{"silent", slog.DiscardHandler},
	} {
		b.Run(test.name, func(b *testing.B) {
			l := start(b, allow("o.example"), func(b *networkproxy.Builder) { b.Logger(slog.New(test.log)) })
			b.ReportAllocs()
			l.ServeHTTPConn(&loopConn{request: []byte(refused), more: b.Loop})
		})
	}
}

// nowhere is like io.Discard, but log/slog does not recognize it.
type nowhere struct{}

func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }

func BenchmarkRefuse(b *testing.B) {
	l := start(b, allow("o.example"), nil)
	c := dialBench(b, l.HTTPAddr())
	r := bufio.NewReader(c)
	request := []byte("GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		clientState(b, c, r, request, "403")
	}
}

// BenchmarkConnect measures a complete tunnel: dial, CONNECT, one byte in each
// direction, close.
func BenchmarkConnect(b *testing.B) {
	l := start(b, allow("o.example"), nil)
	l.mapHost("o.example", 443, testnet.Echo(b).Addr())
	request := []byte("CONNECT o.example:443 HTTP/1.1\r\nHost: o.example:443\r\n\r\nx")
	buf := make([]byte, 256)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", l.HTTPAddr())
		if err != nil {
			b.Fatal(err)
		}
		c.Write(request)
		n := 0
		for n == 0 || buf[n-1] != 'x' {
			m, err := c.Read(buf[n:])
			if err != nil {
				b.Fatal(err)
			}
			n += m
		}
		// A reset frees the port at once. There are more rounds than ports.
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
}

// BenchmarkStream measures the throughput of a tunnel.
func BenchmarkStream(b *testing.B) {
	const size = 1 << 20
	l := start(b, allow("o.example"), nil)
	l.serve("o.example", 443, func(c *net.TCPConn) {
		data := make([]byte, size)
		for {
			if _, err := c.Write(data); err != nil {
				return
			}
		}
	})
	c := l.connect("o.example:443")
	buf := make([]byte, 64<<10)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for left := size; left > 0; {
			n, err := c.Read(buf[:min(left, len(buf))])
			if err != nil {
				b.Fatal(err)
			}
			left -= n
		}
	}
}

func dialBench(b *testing.B, addr string) net.Conn {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c
}
