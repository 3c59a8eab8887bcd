// The requests under way, each with what it was judged by, so that a change
// of the policy reaches what is already open.

package gate

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// LiveRequest is one allowed request under way: a tunnel, a forwarded request
// with its response, a flow of datagrams, or a request of the host's own.
//
// It keeps what the request was judged by: its own method, approval and
// grant. Every change of the policy judges the request again, and not the
// connection that carries it, because a pooled connection carries requests
// that differ in all of these. A pooled connection that carries no request
// has a liveRequest of its own: see [pooledConn].
//
// Whoever decides about a request owns its liveRequest and calls begin,
// attach, detach and end, in this order. attach and detach may be repeated,
// and detach may be left out where the connection ends with the request. A
// client's connection uses one liveRequest for the requests that are
// forwarded, one after the other. Anybody may call the other methods at any time.
type LiveRequest struct {
	Persistent bool          // it stays in the set between requests, until leave
	requests   *LiveRequests // the set that it is in; nil while it is in none

	judged atomic.Uint64 // the generation that was last found to allow it

	// mu is held while the carrier is closed: a connection that has gone back
	// to its pool must not be closed for a request that it no longer carries.
	// No other lock of this package is taken under it.
	mu      sync.Mutex
	number  uint64 // counts the requests, so that a verdict meets the one it is about
	active  bool
	subject subject
	carrier io.Closer // ends the request when it is closed; nil while there is no connection
	refusal *RefusedError
	release func() // ends the use of the grant
}

// subject is what a request under way is judged by.
type subject struct {
	req      *Request        // does not change while it is under way
	approval policy.Source   // who let an allowlist miss through; empty when none did
	addrs    []netip.Addr    // all that its target resolved to, because a new request would be judged by all
	via      *upstream.Proxy // the upstream proxy that carries it; nil when none does
	grant    *approval.Grant // nil when none let it through
}

// judge applies a policy to a request under way.
func (s *subject) judge(p *policy.Policy) policy.Verdict {
	v, _ := p.Judge(&s.req.Query, s.approval, nil)
	if v.Allowed {
		v = p.JudgeAddrs(&s.req.Query, v, s.addrs, nil)
	}
	if v.Allowed && s.via != nil {
		v = p.JudgeUpstream(v)
	}
	return v
}

// destination is where a connection leads: the addresses of its target, and the
// upstream proxy in between.
type Destination struct {
	addrs      []netip.Addr
	via        *upstream.Proxy // nil when none
	generation uint64          // of the policy that last judged the addresses
}

// Begin puts an allowed request under way. The error is ErrClosed once the
// proxy has ended.
func (g *Gate) Begin(lr *LiveRequest, req *Request, v *Ruling) error {
	release := v.Grant.Acquire()
	lr.mu.Lock()
	lr.number++
	lr.active = true
	lr.subject.req, lr.subject.approval, lr.subject.grant = req, v.Approval(), v.Grant
	lr.release = release
	lr.mu.Unlock()
	lr.judged.Store(v.Generation)
	if lr.requests == nil && !g.Live.add(lr) {
		lr.End()
		return ErrClosed
	}
	return nil
}

// Attach gives a request the connection that carries it. Closing the carrier
// must end the request. The error says why the request may not go on: what
// let it through has changed by now. The carrier is then closed.
func (g *Gate) Attach(lr *LiveRequest, carrier io.Closer, to Destination) error {
	lr.mu.Lock()
	lr.carrier, lr.subject.addrs, lr.subject.via = carrier, to.addrs, to.via
	refused, number := lr.refusal != nil, lr.number
	req, grant := lr.subject.req, lr.subject.grant
	lr.mu.Unlock()

	// Each of these may have happened before the lines above, and then has not
	// seen the connection.
	p := g.Policy()
	var err error
	switch {
	case refused:
		err = ErrCut
	case g.Live.closed.Load():
		err = ErrClosed
	case req.Principal.Context.Err() != nil:
		err = context.Cause(req.Principal.Context)
	case grant.Revoked():
		lr.cut(policy.Revoked(lr.judged.Load()), number)
		err = approval.ErrRevoked
	case p.Generation != lr.judged.Load() || p.Generation != to.generation:
		if !lr.allowedBy(p) {
			err = ErrCut
		}
	}
	if err != nil {
		carrier.Close()
		return lr.Cause(err)
	}
	if req.Socket.IsZero() {
		g.Observations.Add(req.Target)
	}
	return nil
}

// ErrCut is why a request ends that was cut; see because.
var ErrCut = errors.New("the request was cut")

// StillAllowed reports whether the policy in force allows what is open, and cuts it
// if not. It is for what consists of single messages: none of them may pass in
// the moment between a swap and the cut.
func (g *Gate) StillAllowed(lr *LiveRequest) bool {
	p := g.Policy()
	if lr.judged.Load() == p.Generation {
		return true
	}
	v, number, _ := lr.judgedBy(p)
	if v.Allowed {
		lr.judged.Store(p.Generation)
		return true
	}
	if lr.cut(v, number) {
		g.Counters.Cut.Add(1)
	}
	return false
}

// detach takes the connection away from a request, which may get another. The
// connection is no longer closed for the request's sake.
func (lr *LiveRequest) detach() {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	lr.carrier, lr.subject.addrs, lr.subject.via = nil, nil, nil
}

// End says that the request is over. It does not close the connection. It may
// be called more than once.
func (lr *LiveRequest) End() {
	lr.Done()
	lr.mu.Lock()
	lr.active = false
	lr.subject, lr.carrier, lr.refusal = subject{}, nil, nil
	lr.mu.Unlock()
	if !lr.Persistent {
		lr.Leave()
	}
}

// Done ends the use of the grant that let the request in.
func (lr *LiveRequest) Done() {
	lr.mu.Lock()
	release := lr.release
	lr.release = nil
	lr.mu.Unlock()
	if release != nil {
		release()
	}
}

// Leave takes lr out of the set, when no further request will use it.
func (lr *LiveRequest) Leave() {
	if lr.requests != nil {
		lr.requests.remove(lr)
	}
}

// allowedBy reports whether a policy allows the request, and cuts it if not.
func (lr *LiveRequest) allowedBy(p *policy.Policy) bool {
	v, number, _ := lr.judgedBy(p)
	if !v.Allowed {
		lr.cut(v, number)
		return false
	}
	lr.judged.Store(p.Generation)
	return true
}

// judgedBy applies a policy to the request that is under way, if there is
// one. number is the request's.
func (lr *LiveRequest) judgedBy(p *policy.Policy) (v policy.Verdict, number uint64, active bool) {
	lr.mu.Lock()
	s, number, active := lr.subject, lr.number, lr.active
	lr.mu.Unlock()
	if !active {
		return policy.Verdict{}, number, false
	}
	return s.judge(p), number, true
}

// cut ends the request of that number because a policy refuses it, or because
// its grant was revoked. It reports whether it did: false means that the
// request was cut before, or is over.
func (lr *LiveRequest) cut(v policy.Verdict, number uint64) bool {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	if !lr.active || lr.number != number || lr.refusal != nil {
		return false
	}
	lr.refusal = NewRefusedError(lr.subject.req, v)
	if lr.carrier != nil {
		lr.carrier.Close()
	}
	return true
}

// close ends the request where its session or the proxy ends.
func (lr *LiveRequest) close() {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	if lr.carrier != nil {
		lr.carrier.Close()
	}
}

// Cause replaces an error that the request met by the refusal that caused
// it, if one did. It is for the owner.
func (lr *LiveRequest) Cause(err error) error {
	if err == nil {
		return nil
	}
	lr.mu.Lock()
	defer lr.mu.Unlock()
	switch {
	case lr.refusal != nil:
		return lr.refusal
	case lr.subject.grant.Revoked():
		return NewRefusedError(lr.subject.req, policy.Revoked(lr.judged.Load()))
	}
	return err
}
