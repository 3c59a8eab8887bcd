// Pooled connections to origin servers, upstream proxies and Unix sockets.

package httpproxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
)

const (
	UpstreamIdleTimeout = 90 * time.Second // a pooled connection without a request
	UpstreamIdlePerHost = 256
	copyBufferSize      = 32 << 10
)

// pools are the connections of one principal that further requests may use. A
// connection serves only the host and port that it was made for, its address
// was judged when it was made, and it is judged again at every change of the
// policy: its reuse needs no lookup and cannot lead elsewhere.
//
// Each route has a pool of its own: a request that is written for a proxy,
// with credentials for it, never meets a connection to an origin.
type pools struct {
	direct, proxied, sockets *http1.Transport
}

func (h *Proxy) newPools() *pools {
	p := &pools{direct: h.newTransport(), proxied: h.newTransport(), sockets: h.newTransport()}
	p.sockets.MaxIdlePerAddr = -1 // connections are kept by host, which is nothing here
	return p
}

// Adopt prepares the front for the requests of a principal.
func (h *Proxy) Adopt(p *gate.Principal) { p.HTTP = h.newPools() }

// CloseIdle closes the principal's connections that no request is using.
func (h *Proxy) CloseIdle(p *gate.Principal) { poolsOf(p).CloseIdleConnections() }

func poolsOf(p *gate.Principal) *pools { return p.HTTP.(*pools) }

// transportFor is the pool for requests by one route.
func (p *pools) transportFor(req *gate.Request, route gate.Route) *http1.Transport {
	switch {
	case !req.Socket.IsZero():
		return p.sockets
	case route.Proxy != nil:
		return p.proxied
	}
	return p.direct
}

// CloseIdleConnections closes the connections that no request is using.
func (p *pools) CloseIdleConnections() {
	p.direct.CloseIdleConnections()
	p.proxied.CloseIdleConnections()
	p.sockets.CloseIdleConnections()
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

// dialInfo implements http1.RoundTripHooks for one round trip, so that a new
// connection goes to the target that was judged and to nothing else.
type dialInfo struct {
	gate    *gate.Gate
	req     *gate.Request
	verdict gate.Ruling
	route   gate.Route
	live    *gate.LiveRequest
	w       http.ResponseWriter // for informational responses
	ctx     context.Context     // the client's
}

// Dial implements http1.RoundTripHooks. It connects to the target that was
// judged; addr only names the pool.
func (d *dialInfo) Dial(context.Context, string) (net.Conn, error) {
	return d.gate.DialPooled(d.ctx, d.req, &d.verdict, d.route)
}

// Acquire implements http1.RoundTripHooks.
func (d *dialInfo) Acquire(conn net.Conn) error {
	c := conn.(*gate.PooledConn)
	err := c.Acquire(d.live, gate.BelowTLS(c.Conn))
	if errors.Is(err, gate.ErrStale) {
		return http1.ErrStale
	}
	return err
}

// Release implements http1.RoundTripHooks.
func (d *dialInfo) Release(conn net.Conn) { conn.(*gate.PooledConn).Release(d.live) }

// Informational implements http1.RoundTripHooks. It passes an informational
// response on to the client.
func (d *dialInfo) Informational(r *http1.Response) {
	fields := appendResponseFields(r.Fields[:0], r.Fields, connectionOptions(r.Fields))
	d.w.(http1.Relayer).RelayInformational(r.Status, r.Reason, fields)
}
