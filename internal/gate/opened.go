// Opened tunnels: what a front passes to the HTTP front when the policy must see the
// requests in a tunnel, and the account of the tunnel itself.

package gate

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tunnel"
)

// Opened is an allowed tunnel whose content the proxy reads. Its requests are judged
// one by one, and counted by themselves. The tunnel is one request more, of the
// protocol of its front.
type Opened struct {
	Request *Request
	Ruling  *Ruling

	// Origin is the connection to the target. TLS has not begun on it.
	Origin *PooledConn

	Begun time.Time // when the target was connected

	gate    *Gate
	live    LiveRequest // the tunnel
	settled atomic.Bool // the tunnel is counted
}

// DialOpened connects to the target of a tunnel that is to be opened. The errors are
// those of [Gate.Dial]. The caller calls End.
func (g *Gate) DialOpened(ctx context.Context, req *Request, v *Ruling) (*Opened, error) {
	if !g.acquireOpened(&req.Principal.Owner) {
		return nil, NewRefusedError(req, g.OverLimit())
	}
	o := &Opened{Request: req, Ruling: v, gate: g}
	dialed := false
	defer func() {
		if !dialed { // also after a panic of the dial
			o.live.End()
			g.releaseOpened(&req.Principal.Owner)
		}
	}()
	if err := g.Begin(&o.live, req, v); err != nil {
		return nil, err
	}
	origin, err := g.DialPooled(ctx, req, v, g.Route(g.Policy(), &req.Query))
	if err == nil {
		if err = origin.Acquire(&o.live, origin.Conn); err != nil {
			origin.Close()
		}
	}
	if err != nil {
		return nil, o.live.Cause(err)
	}
	o.Origin, o.Begun = origin, time.Now()
	dialed = true
	return o, nil
}

// Attach makes a cut of the tunnel close the connection of the client as well. The
// error means that the tunnel was cut before, or that the proxy stops.
func (o *Opened) Attach(client net.Conn) error {
	pair := tunnel.Pair{A: client, B: UnderlyingConn(o.Origin.Conn)}
	if err := o.gate.Attach(&o.live, pair, o.Origin.Destination()); err != nil {
		return err
	}
	o.gate.Opened(o.Request)
	o.gate.Counters.Tunnels.Add(1)
	return nil
}

// Detach is called once after Attach, when the tunnel has ended.
func (o *Opened) Detach() { o.gate.Counters.Tunnels.Add(-1) }

// Allowed counts the tunnel as allowed, unless it is counted already. It may be called
// from any goroutine.
func (o *Opened) Allowed() {
	if o.settled.CompareAndSwap(false, true) {
		o.gate.Allowed(o.Request)
	}
}

// Refused accounts for the refusal of the tunnel, unless it is counted already.
func (o *Opened) Refused(v policy.Verdict) {
	if o.settled.CompareAndSwap(false, true) {
		v.Source, v.Generation = policy.SourceBaselinePolicy, o.gate.Policy().Generation
		o.gate.Refused(o.Request, v)
	}
}

// Failed accounts for a tunnel in which no request could be made, unless it is
// counted already.
func (o *Opened) Failed(err error) {
	if o.settled.CompareAndSwap(false, true) {
		o.gate.Failed(o.Request, err)
	}
}

// End ends the tunnel, which does not close its connections. Its bytes are those of its requests, which are counted there.
func (o *Opened) End() {
	o.Allowed()
	o.live.End()
	o.gate.Ended(o.Request, 0, 0)
	o.gate.releaseOpened(&o.Request.Principal.Owner)
}

// acquireOpened reports whether an owner may have one more opened tunnel, and counts it.
func (g *Gate) acquireOpened(o *audit.Owner) bool {
	g.openedMu.Lock()
	defer g.openedMu.Unlock()
	return g.config.OpenedTunnels == 0 || g.opened.Acquire(o)
}

// releaseOpened ends what acquireOpened counted.
func (g *Gate) releaseOpened(o *audit.Owner) {
	g.openedMu.Lock()
	defer g.openedMu.Unlock()
	if g.config.OpenedTunnels > 0 {
		g.opened.Release(o)
	}
}

// Cause returns the refusal that has cut the tunnel, or err.
func (o *Opened) Cause(err error) error { return o.live.Cause(err) }

// CheckServerName judges the name that a TLS client asks for in an opened tunnel.
func (g *Gate) CheckServerName(req *Request, serverName string) (v policy.Verdict, ok bool) {
	if names(serverName, req.Target.Host) {
		return policy.Verdict{}, true
	}
	return policy.Verdict{Reason: policy.ReasonSNIMismatch, Check: policy.CheckServerName, ServerName: serverName}, false
}
