// The enforcer puts the policy to work: it decides about requests under the
// current snapshot, dials what was allowed, keeps account of what was
// refused, and judges open connections again when the policy changes.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// enforcer is shared by every listener of one proxy. Safe for concurrent use.
type enforcer struct {
	current  atomic.Pointer[policy.Policy]
	self     policy.SelfListeners
	asker    asker
	grants   *grants
	dialer   pindial.Dialer
	sockets  unixsock.Dialer
	live     liveRequests
	blocked  refusalRecord
	observer *hostcall.Mailbox[refusal] // of OnBlocked; nil: there is none
	log      *slog.Logger
	lines    logLimiter   // on those of log that are about single requests
	debug    logLimiter   // the same for the level debug
	bounded  *slog.Logger // log for lines that clients cause, within lines and debug
	count    counters
	observed *observations // nil: allowlist misses are not let pass
	config   gateConfig
}

var (
	// errClosed is the error of requests after the proxy has ended.
	errClosed = errors.New("the proxy is closed")

	// errNoGrant is the error of Revoke if there is no such grant.
	errNoGrant = errors.New("no such grant: it may have ended; GET /grants and Handle.Grants list the current ones")
)

// gateConfig holds the settings of an enforcer. All limits must be set.
type gateConfig struct {
	Decider        func(context.Context, *askedRequest) (decision, error) // nil if there is none
	DeciderTimeout time.Duration
	Questions      int // the decider has at a time

	Resolver    pindial.Resolver
	Connect     func(context.Context, netip.AddrPort) (*net.TCPConn, error) // nil for the system's
	ConnectUDP  func(context.Context, netip.AddrPort) (*net.UDPConn, error)
	ConnectUnix unixsock.ConnectFunc
	Upstreams   *upstream.Proxies // those of the environment; nil if there are none

	LookupTimeout    time.Duration
	DialTimeout      time.Duration
	HandshakeTimeout time.Duration // until a ClientHello in a tunnel is complete
	TunnelIdle       time.Duration
	TunnelLifetime   time.Duration // 0 means no limit

	BlockedKept       int
	LogValueBytes     int
	LogLinesPerSecond int

	Observe   bool           // let allowlist misses pass and record them
	OnBlocked func(*refusal) // called for every refusal from one goroutine; nil if there is none

	Log   *slog.Logger
	Calls *hostcall.Calls // counts the calls of the host's functions
}

// newEnforcer returns an enforcer without a policy. Install one before use.
func newEnforcer(c gateConfig) *enforcer {
	grants := newGrants()
	e := &enforcer{
		asker: asker{
			decider: c.Decider, timeout: c.DeciderTimeout, limit: c.Questions,
			grants: grants, log: c.Log, host: c.Calls,
		},
		grants: grants,
		dialer: pindial.Dialer{
			Resolver: hostcall.SafeResolver(c.Resolver, c.Calls), Lookups: new(pindial.Lookups),
			Connect: c.Connect, ConnectUDP: c.ConnectUDP,
			ResolveTimeout: c.LookupTimeout, ConnectTimeout: c.DialTimeout,
		},
		config:  c,
		blocked: refusalRecord{limit: c.BlockedKept},
		sockets: unixsock.Dialer{Timeout: c.DialTimeout, Connect: c.ConnectUnix},
		lines:   logLimiter{limit: c.LogLinesPerSecond, log: c.Log},
		debug:   logLimiter{limit: c.LogLinesPerSecond, log: c.Log},
		log:     c.Log,
	}
	if c.Observe {
		e.observed = new(observations)
	}
	e.sockets.Exclude = e.self.ContainsFile
	e.self.ViaProxy = func(q *policy.Query) bool { return upstreamFor(c.Upstreams, q) != nil }
	e.asker.lines = &e.lines
	e.bounded = slog.New(limitedHandler{c.Log.Handler(), &e.lines, &e.debug})
	e.observer = e.newObserver(c.OnBlocked)
	return e
}

// installed returns the policy in force.
func (e *enforcer) installed() *policy.Policy { return e.current.Load() }

// install puts a policy in force. Call rejudge afterwards.
func (e *enforcer) install(p *policy.Policy) { e.current.Store(p) }

// ruling is the verdict on a request, and the grant that let it in.
type ruling struct {
	policy.Verdict
	grant *grant // nil if none did
}

// decide applies every check that can be made before the name is looked up.
// Where only the allowlist stands in the way, it looks for a grant and asks
// the decider. What an allowlist lets through takes no lock.
func (e *enforcer) decide(ctx context.Context, req *request) ruling {
	req.Overlay = req.principal.overlay // of whichever listener made the request
	for {
		p := e.installed()
		req.policy = p
		v, miss := p.Judge(&req.Query, e.standingApproval(), nil)
		if !miss || e.asker.decider == nil {
			return ruling{Verdict: v}
		}
		if v, ok := p.JudgeMode(&req.Query, nil); !ok {
			return ruling{Verdict: v} // whatever the decider says, so it is not asked
		}
		a, again := e.asker.ask(ctx, req.asked(), p.Generation)
		switch {
		case again:
		case a.grant != nil:
			return e.granted(req, a.grant)
		default:
			return ruling{Verdict: refusedBy(a, p.Generation)}
		}
	}
}

// granted returns the ruling on a request that a grant covers. A deny or a mode
// that arrived while the decider thought wins.
func (e *enforcer) granted(req *request, g *grant) ruling {
	v, _ := e.installed().Judge(&req.Query, SourceDecider, nil)
	if v.Source != SourceDecider {
		return ruling{Verdict: v}
	}
	e.bounded.Debug("let through by a grant", "grant", g.id, "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.client)
	return ruling{v, g}
}

// refusedBy is the verdict where the decider refused or gave no answer.
func refusedBy(a answer, generation uint64) policy.Verdict {
	v := policy.Verdict{Reason: a.decision.Reason, Source: SourceDecider, Ask: a.decision.Ask, Generation: generation, Check: policy.CheckAllowlist}
	switch {
	case errors.Is(a.err, errDeciderTimeout):
		v.Reason, v.Ask = ReasonDeciderTimeout, false
	case errors.Is(a.err, errDeciderCanceled):
		v.Reason, v.Ask = ReasonCanceled, false
	case errors.Is(a.err, errDeciderBusy):
		v.Reason, v.Ask, v.Check = ReasonDeciderBusy, false, policy.CheckLimit
	case a.err != nil:
		v.Reason, v.Ask = ReasonDeciderFailed, false
	}
	if v.Reason == "" {
		v.Reason = ReasonPolicyDenied
	}
	return v
}

// dial connects to a target that decide has allowed: one lookup, every
// address judged, and a connection to one of exactly those addresses. The
// error is a *refusedError if the addresses were refused.
//
// The request is under way as lr from here on, until the caller calls lr.end.
// Where dial fails it is over.
func (e *enforcer) dial(ctx context.Context, req *request, v *ruling, lr *liveRequest) (net.Conn, error) {
	r := e.route(e.installed(), &req.Query)
	return dialLive(ctx, e, req, v, lr, func(ctx context.Context) (net.Conn, destination, error) {
		return e.connect(ctx, req, &v.Verdict, r)
	})
}

// connect makes a connection for a request by a route, and judges the
// addresses that it leads to. The connection is a *net.TCPConn, a
// *net.UnixConn, or a *tls.Conn to a proxy.
func (e *enforcer) connect(ctx context.Context, req *request, v *policy.Verdict, r route) (net.Conn, destination, error) {
	switch {
	case !req.Socket.IsZero():
		conn, err := e.sockets.Dial(ctx, req.Socket.Asked, req.Socket.Real)
		return conn, destination{generation: v.Generation}, socketRefusal(req, v, err)
	case r.proxy != nil:
		// A target that is an address has been judged by that; those of a
		// name are the proxy's to find.
		conn, err := r.dial(ctx, e.dialProxy, req.Target)
		return conn, destination{via: r.proxy, generation: v.Generation}, err
	}
	addrs, err := e.resolve(ctx, req, v)
	if err != nil {
		return nil, destination{}, err
	}
	conn, err := e.dialer.DialAddr(ctx, addrs, req.Target.Port)
	return conn, destination{addrs: addrs, generation: v.Generation}, err
}

// dialLive puts a request under way as lr and has a connection made for it.
func dialLive[C net.Conn](ctx context.Context, e *enforcer, req *request, v *ruling, lr *liveRequest,
	connect func(context.Context) (C, destination, error)) (C, error) {
	var none C
	if err := e.begin(lr, req, v); err != nil {
		return none, err
	}
	conn, to, err := withPrincipal(ctx, req, v, connect)
	if err == nil {
		err = e.attach(lr, transportOf(conn), to)
	}
	if err != nil {
		err = lr.cause(err)
		lr.end()
		return none, err
	}
	return conn, nil
}

// withPrincipal calls connect with a context that ends with the principal
// that the request came in by, and with the grant that let it through.
func withPrincipal[C net.Conn](ctx context.Context, req *request, v *ruling,
	connect func(context.Context) (C, destination, error)) (C, destination, error) {
	if req.listener != req.principal {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(req.principal.ctx, cancel)()
	}
	ctx, done := v.grant.withContext(ctx)
	defer done()
	return connect(ctx)
}

// resolve returns the addresses of a target that decide has allowed, by one
// lookup, and none unless all of them pass.
func (e *enforcer) resolve(ctx context.Context, req *request, v *policy.Verdict) ([]netip.Addr, error) {
	addrs := fixedAddrs(req.Target.Host)
	if addrs == nil {
		var err error
		if addrs, err = e.dialer.Resolve(ctx, req.Target.Host.Name()); err != nil {
			return nil, err
		}
	}
	if v := e.installed().JudgeAddrs(&req.Query, *v, addrs, nil); !v.Allowed {
		return nil, newRefusedError(req, v)
	}
	return addrs, nil
}

// standingApproval is who lets allowlist misses pass without being asked.
func (e *enforcer) standingApproval() policy.Source {
	if e.observed == nil {
		return ""
	}
	return policy.SourceObserver
}

// resolverPatience is how long the end of the proxy waits for calls of the
// host's resolver whose contexts have ended.
const resolverPatience = time.Second

// awaitLookups waits for the calls of the host's resolver that were left
// behind, and returns the number of those that have not returned by then.
func (e *enforcer) awaitLookups(patience time.Duration) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return e.dialer.Lookups.Wait(ctx)
}

// refused accounts for a refusal: counters, record, log, observer.
func (e *enforcer) refused(req *request, v policy.Verdict) {
	e.count.refuse(req.Protocol, &v)
	r := refusal{
		Time:       time.Now(),
		Host:       req.Target.Host.String(),
		Port:       req.Target.Port,
		Protocol:   req.Protocol,
		Method:     req.Method,
		UnixSocket: req.Socket.Asked,
		Client:     req.client,
		Command:    req.principal.attribution.Command,
		Verdict:    v,
	}
	e.blocked.add(&req.principal.owner, &r)
	if req.principal.blocked != nil {
		req.principal.blocked.add(&req.principal.owner, &r)
	}
	e.logRefusal(req, &r)
	if e.observer != nil {
		e.notify(r)
	}
}

// logRefusal calls the slog handler directly. slog.Logger would capture the
// caller's PC, which doubles the cost.
func (e *enforcer) logRefusal(req *request, r *refusal) {
	handler := req.logger(e.log).Handler()
	if !handler.Enabled(context.Background(), slog.LevelInfo) || !e.lines.allow(&req.principal.owner) {
		return
	}
	record := slog.NewRecord(r.Time, slog.LevelInfo, "refused", 0)
	attrs := [9]slog.Attr{
		slog.String("host", r.Host), slog.Uint64("port", uint64(r.Port)), slog.String("protocol", string(r.Protocol)),
		slog.String("method", r.Method), slog.String("reason", string(r.Verdict.Reason)), slog.String("source", string(r.Verdict.Source)),
		slog.String("client", r.Client.String()),
	}
	n := 7
	for _, a := range [...]slog.Attr{slog.String("rule", r.Verdict.Pattern()), slog.String("session", req.principal.id)} {
		if a.Value.String() != "" {
			attrs[n] = a
			n++
		}
	}
	record.AddAttrs(attrs[:n]...)
	handler.Handle(context.Background(), record) // log/slog's loggers ignore the error, too
}

// malformed keeps account of a request that names no target at all.
func (e *enforcer) malformed(client netip.AddrPort, protocol Protocol, err error) {
	e.count.add(outcomeRefused, protocol, ReasonInvalidTarget)
	if e.lines.allow(nil) {
		e.log.Warn("malformed request", "protocol", string(protocol), "client", client, "error", e.logText(err))
	}
}

// failed accounts for an allowed request that did not reach its target.
func (e *enforcer) failed(req *request, err error) { e.failedFor(req, failureReason(err), err) }

// failedFor is failed for a reason that the caller knows better.
func (e *enforcer) failedFor(req *request, reason policy.Reason, err error) {
	e.count.fail(req.Protocol, reason)
	if e.lines.allow(&req.principal.owner) {
		req.logger(e.log).Info("failed", "host", req.Target.Host.String(), "port", req.Target.Port,
			"protocol", string(req.Protocol), "method", req.Method, "client", req.client, "error", e.logText(err))
	}
}

// stillAllowed reports whether the policy in force allows what is open, and cuts it
// if not. It is for what consists of single messages: none of them may pass in
// the moment between a swap and the cut.
func (e *enforcer) stillAllowed(lr *liveRequest) bool {
	p := e.installed()
	if lr.judged.Load() == p.Generation {
		return true
	}
	v, number, _ := lr.judgedBy(p)
	if v.Allowed {
		lr.judged.Store(p.Generation)
		return true
	}
	if lr.cut(v, number) {
		e.count.cut.Add(1)
	}
	return false
}

// asks reports whether decide would put a request to the decider, and so may
// take its time. It decides nothing.
func (e *enforcer) asks(req *request) bool {
	req.Overlay = req.principal.overlay
	p := e.installed()
	if _, miss := p.Judge(&req.Query, e.standingApproval(), nil); !miss || e.asker.decider == nil {
		return false
	}
	_, permitted := p.JudgeMode(&req.Query, nil)
	return permitted
}

// rejudge applies the policy in force to the open connections. It cuts those
// that the policy refuses and returns their number. Call it after a change,
// without the lock that guards the change.
func (e *enforcer) rejudge() int {
	n := e.live.rejudge(e.installed())
	e.count.cut.Add(uint64(n))
	return n
}

// refusedError is a refusal by policy where it travels as an error.
type refusedError struct {
	req     *request
	verdict policy.Verdict
}

func newRefusedError(req *request, v policy.Verdict) *refusedError {
	return &refusedError{req, v}
}

func (e *refusedError) Error() string {
	return fmt.Sprintf("%s refused: %s", e.req.Target, e.verdict.Reason)
}

// revoke returns how many connections were cut.
func (e *enforcer) revoke(id uint64) (cut int, err error) {
	g := e.grants.take(id)
	if g == nil {
		return 0, fmt.Errorf("grant %d: %w", id, errNoGrant)
	}
	// Requests are cut before the grant's context ends, because they would end
	// with it and not be counted, and again afterwards, because one may have
	// begun meanwhile.
	v := policy.Revoked(e.installed().Generation)
	cut = e.live.cutGrant(g, v)
	g.revoke(errRevoked)
	cut += e.live.cutGrant(g, v)
	e.count.cut.Add(uint64(cut))
	e.log.Info("grant revoked", "grant", id, "host", g.pattern(), "port", g.target.Port, "connections_cut", cut)
	return cut, nil
}

// drop drops what was granted and denied to a principal. Its ends must have
// ended before, so that no answer that is still to come adds to it.
func (e *enforcer) drop(from *owner) {
	e.asker.drop(from)
	e.grants.drop(from)
	e.blocked.drop(from)
}
