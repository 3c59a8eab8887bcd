package networkproxy

import (
	"context"
	"net"
	"net/netip"
)

// datagramConn is a socket that exchanges datagrams with one address, which
// was judged.
type datagramConn struct {
	*net.UDPConn
	target netip.AddrPort
}

// dialUDP is dial for datagrams.
func (e *enforcer) dialUDP(ctx context.Context, req *request, v *ruling, lr *liveRequest) (datagramConn, error) {
	return dialLive(ctx, e, req, v, lr, func(ctx context.Context) (datagramConn, destination, error) {
		addrs, err := e.resolve(ctx, req, &v.Verdict)
		if err != nil {
			return datagramConn{}, destination{}, err
		}
		conn, target, err := e.dialer.DialUDPAddr(ctx, addrs, req.Target.Port)
		return datagramConn{conn, target}, destination{addrs: addrs, generation: v.Generation}, err
	})
}
