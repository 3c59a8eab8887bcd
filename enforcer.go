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
}

func newEnforcer(s *settings) *enforcer {
	return &enforcer{
		decider:        s.decider,
		deciderTimeout: s.deciderTimeout,
		dialer:         pindial.Dialer{Resolver: s.resolver, Connect: s.connect},
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
	var vetted []netip.Addr
	vet := func(addrs []netip.Addr) error {
		vetted = addrs
		if v := e.current.Load().judgeAddrs(&req.query, v, addrs, nil); !v.Allowed {
			return &RefusedError{Host: req.target.Host.String(), Port: req.target.Port, Verdict: v}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(req.from.ends, cancel)()
	conn, err := e.connect(ctx, req, vet)
	if err != nil {
		return nil, nil, err
	}
	live := &liveConn{
		query:    req.query,
		approval: approvalOf(v),
		addrs:    vetted,
		conn:     conn,
		from:     req.from,
		of:       &e.live,
	}
	if !e.live.add(live) {
		conn.Close()
		return nil, nil, ErrClosed
	}
	// The policy may have changed between the verdict and the line above.
	if p := e.current.Load(); p.generation != v.Generation {
		if v := live.judge(p); !v.Allowed {
			return nil, nil, live.cut(v)
		}
	}
	e.observed.add(req.target)
	return conn, live, nil
}

func (e *enforcer) connect(ctx context.Context, req *request, vet pindial.Vet) (*net.TCPConn, error) {
	addrs := fixedAddrs(req.target.Host)
	if addrs == nil {
		return e.dialer.DialName(ctx, req.target.Host.Name(), req.target.Port, vet)
	}
	if err := vet(addrs); err != nil {
		return nil, err
	}
	return e.dialer.DialAddr(ctx, addrs, req.target.Port)
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

// swap puts a policy in force. What it refuses of the open connections is
// cut; the number of those is returned.
func (e *enforcer) swap(p *policy) int {
	e.current.Store(p)
	n := e.live.rejudge(p)
	e.count.cut.Add(uint64(n))
	return n
}
