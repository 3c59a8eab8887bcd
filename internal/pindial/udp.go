// UDP sockets for one vetted address.

package pindial

import (
	"context"
	"net"
	"net/netip"
)

// DialUDPAddr returns a UDP socket connected to port at one of addrs, which the
// caller has vetted. It sends to that address and receives from it only.
// DialUDPAddr takes the first address that this machine has a route to, because
// nothing is sent and no response can be awaited. It also returns this address.
// It tries at most 32. The error is a *ConnectError.
func (d *Dialer) DialUDPAddr(ctx context.Context, addrs []netip.Addr, port uint16) (*net.UDPConn, netip.AddrPort, error) {
	var targets []netip.AddrPort
	for _, a := range canonical(addrs) {
		if len(targets) < maxAttempts {
			targets = append(targets, netip.AddrPortFrom(a, port))
		}
	}
	if len(targets) == 0 {
		return nil, netip.AddrPort{}, &ConnectError{Err: errNoAddress}
	}
	connect := d.ConnectUDP
	switch {
	case connect != nil:
	case d.TestNetwork != nil:
		connect = d.connectUDPRedirected
	default:
		connect = newVettedDialer(targets).connectUDP
	}
	var errs []error
	for _, target := range targets {
		conn, err := retryTooManyFiles(ctx, connect, target)
		if err == nil {
			return conn, target, nil
		}
		errs = append(errs, err)
	}
	return nil, netip.AddrPort{}, newConnectError(targets, errs, ctx.Err())
}

// connectUDP is connect for UDP.
func (d vettedDialer) connectUDP(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	dialer := net.Dialer{ControlContext: d.control}
	conn, err := dialer.DialContext(ctx, "udp", addr.String()) // not DialUDP, because that binds: see connect
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
