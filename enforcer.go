// The enforcer puts the policy to work: it decides about requests under the
// current snapshot, dials what was allowed, keeps account of what was
// refused, and judges open connections again when the policy changes.

package networkproxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/pindial"
)

// enforcer is shared by every listener of one proxy. Safe for concurrent use.
type enforcer struct {
	current        atomic.Pointer[policy]
	own            ownListeners
	decider        PolicyDecider // nil: an allowlist miss is a refusal
	deciderTimeout time.Duration
	deciding       sync.WaitGroup // calls of the decider
	dialer         pindial.Dialer
	live           liveConns
	blocked        blockedRecord
	onBlocked      func(BlockedRequest)
	log            *slog.Logger
	count          counters
	observed       *observations // nil: allowlist misses are not let pass
}

// counters count requests by how they ended: every request ends as exactly
// one of allowed, refused and failed.
type counters struct {
	allowed atomic.Uint64 // reached its target
	refused atomic.Uint64 // by policy, or malformed
	failed  atomic.Uint64 // allowed, but the target could not be reached
	cut     atomic.Uint64 // connections ended because a later policy refuses them

	// A datagram is part of a flow, which is the request. Those that came to
	// nothing beside that are counted by cause, and are no requests.
	dropped [dropCauses]atomic.Uint64
}

func newEnforcer(s *settings) *enforcer {
	return &enforcer{
		decider:        s.decider,
		deciderTimeout: s.deciderTimeout,
		dialer:         pindial.Dialer{Resolver: s.resolver, Connect: s.connect, ConnectUDP: s.connectUDP},
		onBlocked:      s.onBlocked,
		log:            s.log,
		observed:       s.observed(),
	}
}

// decide applies every check that can be made before the name is looked up.
// It asks the decider where only the allowlist stands in the way.
func (e *enforcer) decide(ctx context.Context, req *request) Verdict {
	p := e.current.Load()
	v, miss := p.judge(&req.query, e.standingApproval(), nil)
	if !miss || e.decider == nil {
		return v
	}
	if !p.mode.permits(&req.query) {
		// Whatever the answer, the mode would refuse: nobody is bothered.
		return p.modeRefusal()
	}
	decision, err := e.ask(ctx, req.public())
	if err == nil && decision.allow {
		// A deny or a mode that arrived while the decider thought wins.
		v, _ = e.current.Load().judge(&req.query, SourceDecider, nil)
		return v
	}
	v = Verdict{Reason: decision.reason, Source: SourceDecider, Ask: decision.ask, Generation: p.generation, check: checkAllowlist}
	switch {
	case errors.Is(err, errDeciderTimeout):
		v.Reason, v.Ask = ReasonDeciderTimeout, false
	case errors.Is(err, errDeciderCanceled):
		v.Reason, v.Ask = ReasonCanceled, false
	case err != nil:
		v.Reason, v.Ask = ReasonDeciderFailed, false
	}
	if err != nil {
		e.log.Warn("decider gave no answer", "host", req.target.Host.String(), "port", req.target.Port, "error", err)
	}
	if v.Reason == "" {
		v.Reason = ReasonPolicyDenied
	}
	return v
}

// dial connects to a target that decide has allowed: one lookup, every
// address judged, and a connection to one of exactly those addresses. The
// error is a *RefusedError where the addresses were refused.
//
// The connection is judged again at every change of the policy until the
// caller calls its release.
func (e *enforcer) dial(ctx context.Context, req *request, v Verdict) (*net.TCPConn, *liveConn, error) {
	return reach(ctx, e, req, v, e.dialer.DialAddr)
}

// reach is dial for any kind of connection: connect makes it, to one of the
// addresses that it is given.
func reach[C net.Conn](ctx context.Context, e *enforcer, req *request, v Verdict,
	connect func(context.Context, []netip.Addr, uint16) (C, error)) (C, *liveConn, error) {
	var none C
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(req.from.ends, cancel)()
	addrs, err := e.resolve(ctx, req, v)
	if err != nil {
		return none, nil, err
	}
	conn, err := connect(ctx, addrs, req.target.Port)
	if err != nil {
		return none, nil, err
	}
	live := &liveConn{
		query:    req.query,
		approval: approvalOf(v),
		addrs:    addrs,
		conn:     conn,
		from:     req.from,
		of:       &e.live,
	}
	live.judged.Store(v.Generation)
	if !e.live.add(live) {
		conn.Close()
		return none, nil, ErrClosed
	}
	// The policy may have changed between the verdict and the line above.
	if p := e.current.Load(); p.generation != v.Generation {
		if v := live.judge(p); !v.Allowed {
			refusal, _ := live.cut(v)
			return none, nil, refusal
		}
	}
	e.observed.add(req.target)
	return conn, live, nil
}

// resolve returns the addresses of a target that decide has allowed, by one
// lookup, and none unless all of them pass.
func (e *enforcer) resolve(ctx context.Context, req *request, v Verdict) ([]netip.Addr, error) {
	addrs := fixedAddrs(req.target.Host)
	if addrs == nil {
		var err error
		if addrs, err = e.dialer.Resolve(ctx, req.target.Host.Name()); err != nil {
			return nil, err
		}
	}
	if v := e.current.Load().judgeAddrs(&req.query, v, addrs, nil); !v.Allowed {
		return nil, newRefusedError(req, v)
	}
	return addrs, nil
}

// refused keeps account of one refusal: counters, record, log, observer.
func (e *enforcer) refused(req *request, v Verdict) {
	e.count.refused.Add(1)
	b := BlockedRequest{
		Time:       time.Now(),
		Host:       req.target.Host.String(),
		Port:       req.target.Port,
		Protocol:   req.protocol,
		Method:     req.method,
		Client:     req.client,
		Reason:     v.Reason,
		Source:     v.Source,
		Decision:   v.decision(),
		Rule:       v.Rule,
		Address:    v.Address,
		Command:    req.from.attribution.Command,
		Generation: v.Generation,
	}
	e.blocked.add(b)
	e.log.Info("refused", "host", b.Host, "port", b.Port, "protocol", string(b.Protocol), "method", b.Method,
		"reason", string(b.Reason), "source", string(b.Source), "rule", b.Rule.Pattern, "client", b.Client)
	if e.onBlocked != nil {
		e.notify(b)
	}
}

// notify calls the host's observer; what goes wrong in there stays there.
func (e *enforcer) notify(b BlockedRequest) {
	defer func() {
		if p := recover(); p != nil {
			e.log.Error("OnBlocked panicked", "panic", p)
		}
	}()
	e.onBlocked(b)
}

// malformed keeps account of a request that names no target at all.
func (e *enforcer) malformed(client netip.AddrPort, protocol Protocol, err error) {
	e.count.refused.Add(1)
	e.log.Warn("malformed request", "protocol", string(protocol), "client", client, "error", err)
}

// failure keeps account of an allowed request whose target was out of reach.
func (e *enforcer) failure(req *request, err error) {
	e.count.failed.Add(1)
	e.log.Info("failed", "host", req.target.Host.String(), "port", req.target.Port,
		"protocol", string(req.protocol), "method", req.method, "client", req.client, "error", err)
}

// stands reports whether the policy in force allows what is open, and cuts it
// if not. It is for what consists of single messages: none of them may pass in
// the moment between a swap and the cut.
func (e *enforcer) stands(c *liveConn) bool {
	p := e.current.Load()
	if c.judged.Load() == p.generation {
		return true
	}
	v := c.judge(p)
	if v.Allowed {
		c.judged.Store(p.generation)
		return true
	}
	if _, first := c.cut(v); first {
		e.count.cut.Add(1)
	}
	return false
}

// asks reports whether decide would put a request to the decider, and so may
// take its time. It decides nothing.
func (e *enforcer) asks(req *request) bool {
	p := e.current.Load()
	_, miss := p.judge(&req.query, e.standingApproval(), nil)
	return miss && e.decider != nil && p.mode.permits(&req.query)
}

// swap puts a policy in force. What it refuses of the open connections is
// cut; the number of those is returned.
func (e *enforcer) swap(p *policy) int {
	e.current.Store(p)
	n := e.live.rejudge(p)
	e.count.cut.Add(uint64(n))
	return n
}
