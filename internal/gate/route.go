// Routes to a target: directly, or through a proxy that the environment names if
// allow_upstream_proxy is set.

package gate

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// errUpstreamIsSelf is the error for an upstream proxy that is this proxy. The loop
// would end only when no connections are left.
var errUpstreamIsSelf = errors.New("it is this proxy itself: the variable must name another one, or allow_upstream_proxy must be false")

// Route is the route of a connection. The zero value is the direct route.
type Route struct {
	Proxy    *upstream.Proxy // nil means direct
	Forwards bool            // the proxy forwards requests and opens no tunnel
}

// Route returns the route of a request under a policy.
func (g *Gate) Route(p *policy.Policy, q *policy.Query) Route {
	if !p.Upstream {
		return Route{}
	}
	return Route{Proxy: upstreamFor(g.config.Upstreams, q)}
}

// upstreamFor returns the upstream proxy for a request if upstream proxies are
// allowed, or nil. Datagrams always go directly, because HTTP proxies carry
// none.
func upstreamFor(proxies *upstream.Proxies, q *policy.Query) *upstream.Proxy {
	switch {
	case !q.Socket.IsZero(), q.Protocol.IsUDP():
		return nil
	case q.IsHTTP() && q.Protocol != policy.ProtocolHTTPS:
		return proxies.ForHTTP(q.Target)
	}
	return proxies.ForTunnel(q.Target)
}

// dial connects to the proxy and, unless it forwards, opens a tunnel to target.
func (r Route) dial(ctx context.Context, dial upstream.DialFunc, target hostname.Target) (net.Conn, error) {
	if r.Forwards {
		return r.Proxy.Dial(ctx, dial)
	}
	return r.Proxy.DialTunnel(ctx, dial, target)
}

// dialProxy connects to an upstream proxy. All addresses but the proxy's own are
// allowed, because the user configured them, not a client.
func (g *Gate) dialProxy(ctx context.Context, addr hostname.Target) (net.Conn, error) {
	addrs := FixedAddrs(addr.Host)
	if addrs == nil {
		var err error
		if addrs, err = g.Dialer.Resolve(ctx, addr.Host.Name()); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return g.Self.ContainsAddr(a, addr.Port, policy.ProtocolHTTPSConnect) }) {
		return nil, errUpstreamIsSelf
	}
	return g.Dialer.DialAddr(ctx, addrs, addr.Port)
}

// UnderlyingConn returns the connection below all layers of TLS, or conn if there is
// no TLS.
func UnderlyingConn(conn net.Conn) net.Conn {
	for {
		c, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = c.NetConn()
	}
}
