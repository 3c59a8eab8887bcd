// Small TCP servers on loopback, among them faulty ones.

package testnet

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// Origin is a TCP server on an ephemeral loopback port. It ends with its test: the listener and all connections are
// closed, and its goroutines waited for. It is safe for concurrent use.
type Origin struct {
	ln *net.TCPListener

	mu       sync.Mutex
	closed   bool
	accepted int
	conns    map[*net.TCPConn]struct{}
	done     sync.WaitGroup
}

// Serve starts an origin that runs handle for every connection, each in a goroutine of its own, and closes the
// connection when handle returns. At the end of the test the connection is closed under handle, which must then return.
func Serve(tb testing.TB, handle func(*net.TCPConn)) *Origin {
	tb.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatalf("listen for an origin: %v", err)
	}
	return serve(tb, ln, handle)
}

// Echo starts an origin that sends back what it receives, and closes once the peer has half-closed.
func Echo(tb testing.TB) *Origin {
	tb.Helper()
	return Serve(tb, func(c *net.TCPConn) { io.Copy(c, c) })
}

// Hang starts an origin that accepts and then neither reads nor writes, as a server that hangs.
func Hang(tb testing.TB) *Origin {
	tb.Helper()
	hold := make(chan struct{})
	o := Serve(tb, func(*net.TCPConn) { <-hold })
	tb.Cleanup(func() { close(hold) }) // runs before the clean-up that Serve registered
	return o
}

// Reset starts an origin that accepts and resets the connection at the first byte it receives. It waits for that byte
// because a reset at once may reach the peer while it is still connecting.
func Reset(tb testing.TB) *Origin {
	tb.Helper()
	return Serve(tb, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
}

// Addr returns the address and port of the origin.
func (o *Origin) Addr() net.Addr { return o.ln.Addr() }

// AddrPort is Addr as a netip.AddrPort, never IPv4-mapped.
func (o *Origin) AddrPort() netip.AddrPort { return addrPort(o.ln.Addr()) }

// Accepted returns how many connections have been accepted so far.
func (o *Origin) Accepted() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.accepted
}

func serve(tb testing.TB, ln *net.TCPListener, handle func(*net.TCPConn)) *Origin {
	o := &Origin{ln: ln, conns: make(map[*net.TCPConn]struct{})}
	o.done.Go(func() { o.accept(handle) })
	tb.Cleanup(o.close)
	return o
}

func (o *Origin) accept(handle func(*net.TCPConn)) {
	for {
		c, err := o.ln.AcceptTCP()
		if err != nil {
			return // closed by the clean-up
		}
		if !o.add(c) {
			c.Close()
			return
		}
		o.done.Go(func() {
			defer o.remove(c)
			handle(c)
		})
	}
}

func (o *Origin) add(c *net.TCPConn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	o.accepted++
	o.conns[c] = struct{}{}
	return true
}

func (o *Origin) remove(c *net.TCPConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
	c.Close()
}

func (o *Origin) close() {
	o.mu.Lock()
	o.closed = true
	o.ln.Close()
	for c := range o.conns {
		c.Close()
	}
	o.mu.Unlock()
	o.done.Wait()
}

func addrPort(a net.Addr) netip.AddrPort {
	ap := a.(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
