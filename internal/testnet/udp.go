// Datagrams: servers on loopback, and the way to them under public addresses.

package testnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
)

// ServeUDP starts a server at an ephemeral port of a loopback address, which runs handle for every datagram, one after
// the other. It ends with its test, which waits for handle.
func ServeUDP(tb testing.TB, addr string, handle func(c *net.UDPConn, data []byte, from netip.AddrPort)) netip.AddrPort {
	tb.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0)))
	if err != nil {
		tb.Fatalf("listen for datagrams: %v", err)
	}
	c.SetReadBuffer(1 << 20)
	var done sync.WaitGroup
	done.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return // closed by the clean-up
			}
			handle(c, b[:n], from)
		}
	})
	tb.Cleanup(func() {
		c.Close()
		done.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// EchoUDP starts a server that sends every datagram back.
func EchoUDP(tb testing.TB, addr string) netip.AddrPort {
	tb.Helper()
	return ServeUDP(tb, addr, func(c *net.UDPConn, data []byte, from netip.AddrPort) { c.WriteToUDPAddrPort(data, from) })
}

// MapUDP makes datagrams to from arrive at to.
func (r *Rewrite) MapUDP(from, to netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.udp == nil {
		r.udp = make(map[netip.AddrPort]netip.AddrPort)
	}
	r.udp[from] = to
}

// ConnectUDP records addr and returns a socket connected to what it is mapped to. There is no way to an address without
// a mapping (syscall.ENETUNREACH).
func (r *Rewrite) ConnectUDP(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	r.mu.Lock()
	r.dialed = append(r.dialed, addr)
	to, ok := r.udp[addr]
	r.mu.Unlock()
	if !ok {
		return nil, &net.OpError{
			Op: "dial", Net: "udp", Addr: net.UDPAddrFromAddrPort(addr), Err: os.NewSyscallError("connect", syscall.ENETUNREACH),
		}
	}
	var d net.Dialer
	return d.DialUDP(ctx, "udp", netip.AddrPort{}, to)
}
