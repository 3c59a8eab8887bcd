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
func (g *Gate) DialUDP(ctx context.Context, req *Request, v *Ruling, lr *LiveRequest) (UDPConn, error) {
	return dialLive(ctx, g, req, v, lr, func(ctx context.Context) (UDPConn, Destination, error) {
		addrs, err := g.resolve(ctx, req, &v.Verdict)
		if err != nil {
			return UDPConn{}, Destination{}, err
		}
		conn, target, err := g.Dialer.DialUDPAddr(ctx, addrs, req.Target.Port)
		return UDPConn{conn, target}, Destination{addrs: addrs, generation: v.Generation}, err
	})
}
