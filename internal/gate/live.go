// Open requests. Each keeps the input of its verdict, so that a policy change can
// judge it again and cut it.

package gate

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// LiveRequest is an allowed request that is open: a tunnel, a forwarded request
// with its response, a UDP flow, or a request of the host.
//
// It keeps the input of the verdict: the request, the source of its approval, and
// its grant. Every policy change judges the request again, not the connection that
// carries it, because the requests of a pooled connection differ in all of these. A
// pooled connection without a request has its own LiveRequest, see [PooledConn].
//
// The caller of [Gate.Decide] owns the LiveRequest and calls Begin, Attach, detach
// and End, in this order. Attach and detach may be repeated, and detach may be left
// out if the connection ends with the request. A client connection uses one
// LiveRequest for its forwarded requests in turn. The other methods may be called
// from any goroutine. The zero value is ready to use.
type LiveRequest struct {
	Persistent bool          // keep it in the set between requests, until Leave
	requests   *LiveRequests // the set that contains it; nil if none does

	judged atomic.Uint64 // the generation of the last policy that allowed it

	// mu is held during the close of the carrier, so that a connection is not
	// closed for an earlier request after it went back to its pool. No other
	// lock of this package is taken while mu is held.
	mu      sync.Mutex
	number  uint64 // counts the requests, so that a verdict is applied to the right one
	active  bool
	subject subject
	carrier io.Closer // its Close ends the request; nil without a connection
	refusal *RefusedError
	release func() // releases the grant's use count; nil if released
}

// subject is the input of the verdict on an open request.
type subject struct {
	req      *Request        // does not change while the request is open
	approval policy.Source   // the source that allowed an allowlist miss; empty if none was needed
	addrs    []netip.Addr    // all addresses of the target, because a new request would be judged by all
	via      *upstream.Proxy // the upstream proxy in use; nil if none is
	grant    *approval.Grant // nil if none was needed
}

// judge returns the verdict of a policy, with the rules that the session has now,
// on the open request.
func (s *subject) judge(p *policy.Policy) policy.Verdict {
	q := s.req.Query
	q.Overlay = s.req.Principal.Overlay.Load()
	v, _ := p.Judge(&q, s.approval, nil)
	if v.Allowed && v.Content != httprule.ContentAny && v.Content != s.req.checked {
		return p.JudgeContent(&q, v, "it had begun before the policy asked for this check")
	}
	if v.Allowed {
		v = p.JudgeAddrs(&q, v, s.addrs, nil)
	}
	if v.Allowed && s.via != nil {
		v = p.JudgeUpstream(v)
	}
	return v
}

// Destination describes the far end of a connection.
type Destination struct {
	addrs      []netip.Addr    // of the target; nil if a proxy resolves its name
	via        *upstream.Proxy // nil if none
	generation uint64          // of the policy that last judged the addresses
}

// Begin adds an allowed request to the open requests as lr. The error is ErrClosed
// if the proxy has closed.
func (g *Gate) Begin(lr *LiveRequest, req *Request, v *Ruling) error {
	g.Trace(req, v)
	return g.begin(lr, req, v)
}

// begin is Begin without events, for connections that are not a request.
func (g *Gate) begin(lr *LiveRequest, req *Request, v *Ruling) error {
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

// Attach gives an open request the connection that carries it. Closing the carrier
// must end the request. If the request is no longer allowed, Attach closes the
// carrier and returns the reason.
func (g *Gate) Attach(lr *LiveRequest, carrier io.Closer, to Destination) error {
	lr.mu.Lock()
	lr.carrier, lr.subject.addrs, lr.subject.via = carrier, to.addrs, to.via
	refused, number := lr.refusal != nil, lr.number
	req, grant := lr.subject.req, lr.subject.grant
	lr.mu.Unlock()

	// Each of these events may have come before the lines above, and then did
	// not close the carrier.
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
		lr.cut(policy.Revoked(lr.judged.Load()), number, nil)
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

// ErrCut is the error of a request that was cut. [LiveRequest.Cause] replaces it with
// the refusal.
var ErrCut = errors.New("the request was cut")

// StillAllowed reports whether the policy in force allows an open request, and cuts
// the request if not. Callers that relay single messages call it for each one, so
// that none passes between a policy change and the cut.
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
	g.cut(lr, v, number)
	return false
}

// detach removes the connection from the request, which may get another. A cut of the
// request then no longer closes the connection.
func (lr *LiveRequest) detach() {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	lr.carrier, lr.subject.addrs, lr.subject.via = nil, nil, nil
}

// End marks the request as over. It does not close the connection. It may be called
// more than once.
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

// Done releases the use count of the request's grant. It may be called more than once.
func (lr *LiveRequest) Done() {
	lr.mu.Lock()
	release := lr.release
	lr.release = nil
	lr.mu.Unlock()
	if release != nil {
		release()
	}
}

// Leave removes lr from the set. Call it when no further request will use lr.
func (lr *LiveRequest) Leave() {
	if lr.requests != nil {
		lr.requests.remove(lr)
	}
}

// allowedBy reports whether a policy allows the request, and cuts it if not.
func (lr *LiveRequest) allowedBy(p *policy.Policy) bool {
	v, number, _ := lr.judgedBy(p)
	if !v.Allowed {
		lr.cut(v, number, nil)
		return false
	}
	lr.judged.Store(p.Generation)
	return true
}

// judgedBy returns the verdict of a policy on the open request, and the request's
// number for cut. active is false if there is no open request.
func (lr *LiveRequest) judgedBy(p *policy.Policy) (v policy.Verdict, number uint64, active bool) {
	// The lock is held while the policy reads the header of the request, because the
	// front may use the header's memory for the next request after End.
	lr.mu.Lock()
	defer lr.mu.Unlock()
	if !lr.active {
		return policy.Verdict{}, lr.number, false
	}
	return lr.subject.judge(p), lr.number, true
}

// cut ends the request with this number because of a refusal. It returns false if
// the request was cut before or is over. It calls publish, if not nil, before the
// request can end.
func (lr *LiveRequest) cut(v policy.Verdict, number uint64, publish func(*Request, policy.Verdict)) bool {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	if !lr.active || lr.number != number || lr.refusal != nil {
		return false
	}
	lr.refusal = NewRefusedError(lr.subject.req, v)
	if publish != nil {
		publish(lr.subject.req, v)
	}
	if lr.carrier != nil {
		lr.carrier.Close()
	}
	return true
}

// close closes the carrier, which ends the request.
func (lr *LiveRequest) close() {
	lr.mu.Lock()
	defer lr.mu.Unlock()
	if lr.carrier != nil {
		lr.carrier.Close()
	}
}

// Cause returns the refusal that caused err, if the request was cut or its grant was
// revoked, and err otherwise. Only the owner may call it.
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
