// UDP servers on loopback, and the redirection of public addresses to them.

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

// ServeUDP starts a server at an ephemeral port of the loopback address addr. It calls handle for each datagram, one after
// the other. The server ends with the test, which waits for handle.
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
				return // closed by the cleanup
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

// MapUDP redirects datagrams for from to the address to.
func (d *Dialer) MapUDP(from, to netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.udp == nil {
		d.udp = make(map[netip.AddrPort]netip.AddrPort)
	}
	d.udp[from] = to
}

// ConnectUDP records addr and returns a socket connected to the address that addr is mapped to. It returns
// syscall.ENETUNREACH for an address without a mapping.
func (d *Dialer) ConnectUDP(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, addr)
	to, ok := d.udp[addr]
	d.mu.Unlock()
	if !ok {
		return nil, &net.OpError{
			Op: "dial", Net: "udp", Addr: net.UDPAddrFromAddrPort(addr), Err: os.NewSyscallError("connect", syscall.ENETUNREACH),
		}
	}
	var dialer net.Dialer
	return dialer.DialUDP(ctx, "udp", netip.AddrPort{}, to)
}
