// Connections to "public" addresses, which end at loopback.

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

// Rewrite connects to loopback listeners under the public addresses that a test gives them. The zero value maps nothing
// and refuses every connection. It is safe for concurrent use.
type Rewrite struct {
	mu     sync.Mutex
	to     map[netip.AddrPort]net.Addr
	udp    map[netip.AddrPort]netip.AddrPort
	dialed []netip.AddrPort
}

// Map makes connections to from arrive at to, a TCP address.
func (r *Rewrite) Map(from netip.AddrPort, to net.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.to == nil {
		r.to = make(map[netip.AddrPort]net.Addr)
	}
	r.to[from] = to
}

// Connect records addr and connects to what it is mapped to. An address without a mapping is refused
// (syscall.ECONNREFUSED).
func (r *Rewrite) Connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	r.mu.Lock()
	r.dialed = append(r.dialed, addr)
	to := r.to[addr]
	r.mu.Unlock()
	if to == nil {
		return nil, &net.OpError{
			Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addrPort(to).String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// Dialed returns every address that Connect was called with, in order.
func (r *Rewrite) Dialed() []netip.AddrPort {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.dialed)
}
