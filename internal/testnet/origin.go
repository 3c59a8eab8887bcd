// Small TCP servers on loopback. Some are faulty on purpose.

package testnet

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// Origin is a TCP server on an ephemeral loopback port. At the end of the test it closes its listener and all
// connections and waits for its goroutines. It is safe for concurrent use.
type Origin struct {
	ln *net.TCPListener

	mu       sync.Mutex
	closed   bool
	accepted int
	conns    map[*net.TCPConn]struct{}
	done     sync.WaitGroup
}

// Serve starts an origin that calls handle in a new goroutine for each connection and closes the connection when handle
// returns. At the end of the test it closes all connections, and handle must then return.
func Serve(tb testing.TB, handle func(*net.TCPConn)) *Origin {
	tb.Helper()
	ln, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatalf("listen for an origin: %v", err)
	}
	return serve(tb, ln, handle)
}

// Echo starts an origin that sends back all data and closes the connection after the peer's half-close.
func Echo(tb testing.TB) *Origin {
	tb.Helper()
	return Serve(tb, func(c *net.TCPConn) { io.Copy(c, c) })
}

// Hang starts an origin that accepts connections and then neither reads nor writes.
func Hang(tb testing.TB) *Origin {
	tb.Helper()
	hold := make(chan struct{})
	o := Serve(tb, func(*net.TCPConn) { <-hold })
	tb.Cleanup(func() { close(hold) }) // runs before Serve's cleanup
	return o
}

// Reset starts an origin that resets each connection after the first byte. It waits for that byte because an immediate
// reset may reach the peer while it is still connecting.
func Reset(tb testing.TB) *Origin {
	tb.Helper()
	return Serve(tb, func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
}

// Addr returns the address and port of the origin.
func (o *Origin) Addr() net.Addr { return o.ln.Addr() }

// AddrPort returns Addr as a netip.AddrPort. The address is not IPv4-mapped.
func (o *Origin) AddrPort() netip.AddrPort { return addrPort(o.ln.Addr()) }

// Accepted returns the number of connections accepted so far.
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
			return // closed by the cleanup
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
