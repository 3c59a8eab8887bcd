// Connections to public addresses, redirected to loopback.

package testnet

import (
	"context"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Dialer maps public addresses to loopback listeners and connects to those. The zero value has no mapping and refuses
// every connection. It is safe for concurrent use.
type Dialer struct {
	mu     sync.Mutex
	to     map[netip.AddrPort]net.Addr
	udp    map[netip.AddrPort]netip.AddrPort
	dialed []netip.AddrPort
}

// Map redirects connections for from to the TCP address to.
func (d *Dialer) Map(from netip.AddrPort, to net.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.to == nil {
		d.to = make(map[netip.AddrPort]net.Addr)
	}
	d.to[from] = to
}

// Connect records addr and connects to the address that addr is mapped to. It returns syscall.ECONNREFUSED for an address
// without a mapping.
func (d *Dialer) Connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	d.mu.Lock()
	d.dialed = append(d.dialed, addr)
	to := d.to[addr]
	d.mu.Unlock()
	if to == nil {
		return nil, &net.OpError{
			Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
		}
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", addrPort(to).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// Dialed returns the addresses of all calls of Connect and ConnectUDP, in order.
func (d *Dialer) Dialed() []netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.dialed)
}
