// Connections for allowed requests.

package gate

import (
	"context"
	"net"
	"net/netip"
	"time"

	"example.com/networkproxy/internal/policy"
)

// Dial connects to the target of a request that Decide has allowed. It resolves the
// name once, judges every address, and connects to one of these addresses. The
// error is a [*RefusedError] if an address is refused.
//
// Dial calls Begin and Attach for lr. The caller calls lr.End when the request is
// over; after an error of Dial it is over already.
func (g *Gate) Dial(ctx context.Context, req *Request, v *Ruling, lr *LiveRequest) (net.Conn, error) {
	r := g.Route(g.Policy(), &req.Query)
	return dialLive(ctx, g, req, v, lr, func(ctx context.Context) (net.Conn, Destination, error) {
		return g.connect(ctx, req, &v.Verdict, r)
	})
}

// connect connects for a request along a route. On the direct route it judges the
// target's addresses. The connection is a *net.TCPConn, a *net.UnixConn, or a
// *tls.Conn to a proxy.
func (g *Gate) connect(ctx context.Context, req *Request, v *policy.Verdict, r Route) (net.Conn, Destination, error) {
	switch {
	case !req.Socket.IsZero():
		conn, err := g.sockets.Dial(ctx, req.Socket.Asked, req.Socket.Real)
		return conn, Destination{generation: v.Generation}, socketRefusal(req, v, err)
	case r.Proxy != nil:
		// Decide has judged a target that is an address. The proxy resolves a
		// name, so its addresses are unknown here.
		conn, err := r.dial(ctx, g.dialProxy, req.Target)
		return conn, Destination{via: r.Proxy, generation: v.Generation}, err
	}
	addrs, err := g.resolve(ctx, req, v)
	if err != nil {
		return nil, Destination{}, err
	}
	conn, err := g.Dialer.DialAddr(ctx, addrs, req.Target.Port)
	return conn, Destination{addrs: addrs, generation: v.Generation}, err
}

// dialLive begins a request as lr, calls connect, and attaches the connection.
func dialLive[C net.Conn](ctx context.Context, g *Gate, req *Request, v *Ruling, lr *LiveRequest,
	connect func(context.Context) (C, Destination, error)) (C, error) {
	var none C
	if err := g.Begin(lr, req, v); err != nil {
		return none, err
	}
	attached := false
	defer func() {
		if !attached { // also after a panic of connect
			lr.End()
		}
	}()
	conn, to, err := withPrincipal(ctx, req, v, connect)
	if err == nil {
		err = g.Attach(lr, UnderlyingConn(conn), to)
	}
	if err != nil {
		return none, lr.Cause(err)
	}
	attached = true
	return conn, nil
}

// withPrincipal calls connect with a context that also ends with the request's
// principal and when the request's grant is revoked.
func withPrincipal[C net.Conn](ctx context.Context, req *Request, v *Ruling,
	connect func(context.Context) (C, Destination, error)) (C, Destination, error) {
	if req.Listener != req.Principal {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(req.Principal.Context, cancel)()
	}
	ctx, done := v.Grant.WithContext(ctx)
	defer done()
	return connect(ctx)
}

// resolve returns the addresses of the request's target by one lookup. It fails
// unless the policy allows all of them.
func (g *Gate) resolve(ctx context.Context, req *Request, v *policy.Verdict) ([]netip.Addr, error) {
	addrs := FixedAddrs(req.Target.Host)
	if addrs == nil {
		var err error
		if addrs, err = g.Dialer.Resolve(ctx, req.Target.Host.Name()); err != nil {
			return nil, err
		}
	}
	if v := g.Policy().JudgeAddrs(&req.Query, *v, addrs, nil); !v.Allowed {
		return nil, NewRefusedError(req, v)
	}
	return addrs, nil
}

// LookupGracePeriod is how long a closing proxy waits for calls of the host's
// resolver whose contexts have ended.
const LookupGracePeriod = time.Second

// AwaitLookups waits up to grace for calls of the host's resolver whose contexts
// have ended. It returns the number of calls that still have not returned.
func (g *Gate) AwaitLookups(grace time.Duration) int {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	return g.Dialer.Lookups.Wait(ctx)
}
