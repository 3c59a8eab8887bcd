package gate

import (
	"context"
	"net"
	"net/netip"
)

// UDPConn is a socket that exchanges datagrams with one address, which
// was judged.
type UDPConn struct {
	*net.UDPConn
	Target netip.AddrPort
}

// DialUDP is dial for datagrams.
func (e *Gate) DialUDP(ctx context.Context, req *Request, v *Ruling, lr *LiveRequest) (UDPConn, error) {
	return dialLive(ctx, e, req, v, lr, func(ctx context.Context) (UDPConn, destination, error) {
		addrs, err := e.resolve(ctx, req, &v.Verdict)
		if err != nil {
			return UDPConn{}, destination{}, err
		}
		conn, target, err := e.Dialer.DialUDPAddr(ctx, addrs, req.Target.Port)
		return UDPConn{conn, target}, destination{addrs: addrs, Generation: v.Generation}, err
	})
}
