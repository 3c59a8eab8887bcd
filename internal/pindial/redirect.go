// Connections of tests to servers on loopback.

package pindial

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// TestNetwork is a [Resolver] whose addresses belong to servers of a test. A
// name has public addresses, which are vetted like any others, but connections to
// them lead to loopback. It is an interface that only packages of this module can
// implement, because Redirect has a parameter of an internal type: a host cannot
// change where a vetted address leads.
type TestNetwork interface {
	Resolver

	// Redirect returns the loopback address of the server at a vetted address. If
	// the address is not one of the network's, ok is false, and the Dialer connects
	// to the address itself.
	Redirect(Vetted) (server netip.AddrPort, ok bool)
}

// Vetted is an address that the caller of a Dialer has vetted.
type Vetted netip.AddrPort

// redirected returns the address to connect to for a vetted address.
func (d *Dialer) redirected(addr netip.AddrPort) (netip.AddrPort, error) {
	server, ok := d.TestNetwork.Redirect(Vetted(addr))
	switch {
	case !ok:
		return addr, nil
	case !server.Addr().IsLoopback():
		return netip.AddrPort{}, fmt.Errorf("a test leads %s to %s, which is not on loopback", addr, server)
	}
	return server, nil
}

// connectRedirected is vettedDialer.connect for a TestNetwork.
func (d *Dialer) connectRedirected(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	to, err := d.redirected(addr)
	if err != nil {
		return nil, err
	}
	return newVettedDialer([]netip.AddrPort{to}).connect(ctx, to)
}

// connectUDPRedirected is vettedDialer.connectUDP for a TestNetwork.
func (d *Dialer) connectUDPRedirected(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	to, err := d.redirected(addr)
	if err != nil {
		return nil, err
	}
	return newVettedDialer([]netip.AddrPort{to}).connectUDP(ctx, to)
}
