// Pooled connections to origin servers, upstream proxies and Unix sockets.

package httpproxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
)

const (
	UpstreamIdleTimeout = 90 * time.Second // how long a pooled connection may be idle
	UpstreamIdlePerHost = 256              // idle connections in one pool to one host and port
)

// pools holds the connections of one principal that further requests may use.
// A connection is reused only for the host and port that it was opened for. Its
// address was judged then, and the connection is judged again at every change
// of the policy, so reuse needs no lookup and cannot reach another target.
//
// Each route has its own pool, because a request for an upstream proxy may
// contain credentials for it and must never be sent to an origin server.
type pools struct {
	direct, proxied, sockets *http1.Transport
	secure                   *http1.Transport // TLS, for https:// URLs in absolute-form
}

func (h *Proxy) newPools() *pools {
	p := &pools{direct: h.newTransport(), proxied: h.newTransport(), sockets: h.newTransport(), secure: h.newTransport()}
	p.sockets.MaxIdlePerAddr = -1 // keep none: pools are keyed by host, which does not identify a socket
	return p
}

// Adopt creates the connection pools of a principal. Call it once, before the
// principal's first request.
func (h *Proxy) Adopt(p *gate.Principal) { p.HTTP = h.newPools() }

// CloseIdle closes the principal's idle upstream connections.
func (h *Proxy) CloseIdle(p *gate.Principal) { poolsOf(p).closeIdle() }

func poolsOf(p *gate.Principal) *pools { return p.HTTP.(*pools) }

// transportFor returns the pool for a request and its route.
func (p *pools) transportFor(req *gate.Request, route gate.Route) *http1.Transport {
	switch {
	case !req.Socket.IsZero():
		return p.sockets
	case req.Protocol == policy.ProtocolHTTPS:
		return p.secure
	case route.Proxy != nil:
		return p.proxied
	}
	return p.direct
}

// closeIdle closes the idle connections in all pools.
func (p *pools) closeIdle() {
	p.direct.CloseIdleConnections()
	p.proxied.CloseIdleConnections()
	p.sockets.CloseIdleConnections()
	p.secure.CloseIdleConnections()
}

func (h *Proxy) newTransport() *http1.Transport {
	return &http1.Transport{
		MaxIdle:         h.config.IdleUpstream,
		MaxIdlePerAddr:  UpstreamIdlePerHost,
		IdleTimeout:     UpstreamIdleTimeout,
		MaxHeaderBytes:  h.config.ResponseHeaderBytes,
		MaxHeaderFields: h.config.HeaderFields,
		HeaderTimeout:   h.config.HeaderTimeout,
	}
}

// dialInfo implements http1.RoundTripHooks for one round trip. It makes sure
// that a new connection leads only to the target that was judged.
type dialInfo struct {
	proxy   *Proxy
	gate    *gate.Gate
	req     *gate.Request
	verdict gate.Ruling
	route   gate.Route
	live    *gate.LiveRequest
	w       http.ResponseWriter // for informational responses
	ctx     context.Context     // of the client's request

	origin *gate.PooledConn // to be used in place of a new connection; nil if there is none
	offer  []string         // the application protocols to offer, with TLS
	used   *gate.PooledConn // the last connection; nil if there was none

	masks credential.Masks // for what the origin server sends

	uploads  bool  // the request has a large body, or one of unknown length
	acquired bool  // the request has had a connection
	received int64 // bytes of the response body
}

// Dial implements http1.RoundTripHooks. It connects to the target that was
// judged, or returns the connection that was made before the request. The
// address that it is given is only the key of the pool.
func (d *dialInfo) Dial(context.Context, string) (net.Conn, error) {
	if origin := d.origin; origin != nil {
		d.origin = nil
		return origin, nil
	}
	if d.req.Protocol == policy.ProtocolHTTPS {
		return d.proxy.dialOrigin(d.ctx, d.req, &d.verdict, d.offer)
	}
	return d.gate.DialPooled(d.ctx, d.req, &d.verdict, d.route)
}

// Acquire implements http1.RoundTripHooks. It makes conn the connection of the
// live request.
func (d *dialInfo) Acquire(conn net.Conn) error {
	c := conn.(*gate.PooledConn)
	d.used = c
	err := c.Acquire(d.live, gate.UnderlyingConn(c.Conn))
	if errors.Is(err, gate.ErrStale) {
		return http1.ErrStale
	}
	if err == nil {
		d.acquired = true
		if d.uploads {
			d.gate.Opened(d.req)
		} else {
			d.gate.Connected(d.req)
		}
	}
	return err
}

// Release implements http1.RoundTripHooks. It ends what Acquire began.
func (d *dialInfo) Release(conn net.Conn) { conn.(*gate.PooledConn).Release(d.live) }

// Informational implements http1.RoundTripHooks. It passes an informational
// response on to the client.
func (d *dialInfo) Informational(r *http1.Response) {
	fields := appendResponseFields(r.Fields[:0], r.Fields, connectionOptions(r.Fields))
	maskFields(fields, d.masks)
	d.w.(http1.Relayer).RelayInformational(r.Status, r.Reason, fields)
}
