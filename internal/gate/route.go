// The way to a target: directly, or through one of the proxies that the
// environment names, where allow_upstream_proxy lets it.

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

// errUpstreamIsSelf refuses a loop, which would end by running out of
// connections.
var errUpstreamIsSelf = errors.New("it is this proxy itself: the variable must name another one, or allow_upstream_proxy be false")

// Route is the way that a connection takes. The zero value is the direct one.
type Route struct {
	Proxy    *upstream.Proxy // nil: none
	Forwards bool            // the proxy gets requests to forward, and opens no tunnel
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
	case !q.Socket.IsZero(), q.Protocol == policy.ProtocolSOCKS5UDP:
		return nil
	case q.Protocol == policy.ProtocolHTTP:
		return proxies.ForHTTP(q.Target)
	}
	return proxies.ForTunnel(q.Target)
}

// dial connects to the proxy, and through it to a target if it is to open a
// tunnel.
func (r Route) dial(ctx context.Context, dial upstream.DialFunc, target hostname.Target) (net.Conn, error) {
	if r.Forwards {
		return r.Proxy.Dial(ctx, dial)
	}
	return r.Proxy.DialTunnel(ctx, dial, target)
}

// dialProxy connects to a proxy. Its address may be any but our own: it is
// the user's setting, not a client's.
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

// UnderlyingConn is the connection below TLS, or conn itself.
func UnderlyingConn(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return c.NetConn()
	}
	return conn
}
