// Sockets for UDP flows.

package gate

import (
	"context"
	"net"
	"net/netip"
)

// UDPConn is a UDP socket that is connected to a judged address.
type UDPConn struct {
	*net.UDPConn
	Target netip.AddrPort
}

// DialUDP is Dial for UDP. It always takes the direct route.
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
