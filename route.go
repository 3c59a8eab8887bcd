// The way to a target: directly, or through one of the proxies that the
// environment names, where allow_upstream_proxy lets it.

package networkproxy

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

// route is the way that a connection takes. The zero value is the direct one.
type route struct {
	proxy    *upstream.Proxy // nil: none
	forwards bool            // the proxy gets requests to forward, and opens no tunnel
}

// route returns the route of a request under a policy.
func (e *enforcer) route(p *policy.Policy, q *policy.Query) route {
	if !p.Upstream {
		return route{}
	}
	return route{proxy: upstreamFor(e.config.Upstreams, q)}
}

// upstreamFor returns the upstream proxy for a request if upstream proxies are
// allowed, or nil. Datagrams always go directly, because HTTP proxies carry
// none.
func upstreamFor(proxies *upstream.Proxies, q *policy.Query) *upstream.Proxy {
	switch {
	case !q.Socket.IsZero(), q.Protocol == ProtocolSOCKS5UDP:
		return nil
	case q.Protocol == ProtocolHTTP:
		return proxies.ForHTTP(q.Target)
	}
	return proxies.ForTunnel(q.Target)
}

// dial connects to the proxy, and through it to a target if it is to open a
// tunnel.
func (r route) dial(ctx context.Context, dial upstream.DialFunc, target hostname.Target) (net.Conn, error) {
	if r.forwards {
		return r.proxy.Dial(ctx, dial)
	}
	return r.proxy.DialTunnel(ctx, dial, target)
}

// dialProxy connects to a proxy. Its address may be any but our own: it is
// the user's setting, not a client's.
func (e *enforcer) dialProxy(ctx context.Context, addr hostname.Target) (net.Conn, error) {
	addrs := fixedAddrs(addr.Host)
	if addrs == nil {
		var err error
		if addrs, err = e.dialer.Resolve(ctx, addr.Host.Name()); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return e.self.ContainsAddr(a, addr.Port, ProtocolHTTPSConnect) }) {
		return nil, errUpstreamIsSelf
	}
	return e.dialer.DialAddr(ctx, addrs, addr.Port)
}

// transportOf is the connection below TLS, or conn itself.
func transportOf(conn net.Conn) net.Conn {
	if c, ok := conn.(interface{ NetConn() net.Conn }); ok {
		return c.NetConn()
	}
	return conn
}
