// Datagrams: a socket that exchanges them with one vetted address.

package pindial

import (
	"context"
	"net"
	"net/netip"
)

// DialUDPAddr returns a socket that sends to port at one of addrs, which the caller has vetted, and receives from there
// only. It is the first of them that this machine has a way to: nothing is sent yet, so no answer can be waited for. The
// address that was chosen is returned too. At most 32 are tried. The error is a *ConnectError.
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
	if connect == nil {
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

// connectUDP is connect for datagrams.
func (d vettedDialer) connectUDP(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
	dialer := net.Dialer{ControlContext: d.control}
	conn, err := dialer.DialContext(ctx, "udp", addr.String()) // not DialUDP, which binds: see connect
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
