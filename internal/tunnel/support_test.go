// Test helpers: connections on loopback, and a tunnel between them.

package tunnel

import (
	"io"
	"net"
	"testing"
	"time"
)

// testTimeout bounds waiting for an event, so that a failing test does not
// hang.
const testTimeout = 20 * time.Second

// tcpPair returns both ends of a TCP connection on loopback.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return pairOf[*net.TCPConn](t, ln)
}

// unixPair returns both ends of a Unix stream connection.
func unixPair(t testing.TB) (client, server *net.UnixConn) {
	t.Helper()
	ln, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return pairOf[*net.UnixConn](t, ln)
}

func pairOf[C net.Conn](t testing.TB, ln net.Listener) (client, server C) {
	t.Helper()
	c, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(C), s.(C)
}

// rig is a tunnel whose outer connections the test holds.
type rig struct {
	client, server *net.TCPConn // the peers of a and b
	a, b           *net.TCPConn
	result         chan Result
}

func newRig(t testing.TB, opts Options) *rig {
	t.Helper()
	r := &rig{result: make(chan Result, 1)}
	r.client, r.a = tcpPair(t)
	r.b, r.server = tcpPair(t)
	r.client.SetDeadline(time.Now().Add(testTimeout))
	r.server.SetDeadline(time.Now().Add(testTimeout))
	go func() { r.result <- Relay(r.a, r.b, opts) }()
	return r
}

func (r *rig) wait(t testing.TB) Result {
	t.Helper()
	return await(t, r.result)
}

func await(t testing.TB, c <-chan Result) Result {
	t.Helper()
	select {
	case res := <-c:
		return res
	case <-time.After(testTimeout):
		t.Fatal("Relay did not return")
		panic("unreachable")
	}
}

func send(t testing.TB, c io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Fatal(err)
	}
}

func expect(t testing.TB, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %d bytes %.40q, %v; want %d bytes %.40q", n, got, err, len(want), want)
	}
}

func expectEOF(t testing.TB, c io.Reader) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatalf("read %d bytes, %v; want EOF", n, err)
	}
}

// inspectFunc is an Inspector that ignores the server's bytes.
type inspectFunc func(held []byte, rest SourceState) Inspection

func (f inspectFunc) Inspect(held []byte, rest SourceState) Inspection { return f(held, rest) }
func (inspectFunc) Observe([]byte) bool                                { return false }
