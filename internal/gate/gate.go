// The enforcer puts the policy to work: it decides about requests under the
// current snapshot, dials what was allowed, keeps account of what was
// refused, and judges open connections again when the policy changes.

package gate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// Gate is shared by every listener of one proxy. Safe for concurrent use.
type Gate struct {
	current      atomic.Pointer[policy.Policy]
	Self         policy.SelfListeners
	Asker        approval.Asker
	Grants       *approval.Grants
	Dialer       pindial.Dialer
	sockets      unixsock.Dialer
	Live         LiveRequests
	Blocked      audit.Record
	observer     *hostcall.Mailbox[audit.Refusal] // of OnBlocked; nil: there is none
	Log          *slog.Logger
	LogLimiter   audit.LogLimiter // on those of log that are about single requests
	debugLines   audit.LogLimiter // the same for the level debug
	ClientLog    *slog.Logger     // log for lines that clients cause, within lines and debug
	Counters     audit.Counters
	Observations *audit.Observations // nil: allowlist misses are not let pass
	config       Config
}

var (
	// ErrClosed is the error of requests after the proxy has ended.
	ErrClosed = errors.New("the proxy is closed")

	// ErrNoGrant is the error of Revoke if there is no such grant.
	ErrNoGrant = errors.New("no such grant: it may have ended; GET /grants and Handle.Grants list the current ones")
)

// Config holds the settings of an enforcer. All limits must be set.
type Config struct {
	Decider        func(context.Context, *approval.Request) (approval.Decision, error) // nil if there is none
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

	Observe   bool                 // let allowlist misses pass and record them
	OnBlocked func(*audit.Refusal) // called for every refusal from one goroutine; nil if there is none

	Log   *slog.Logger
	Calls *hostcall.Calls // counts the calls of the host's functions
}

// New returns an enforcer without a policy. Install one before use.
func New(c Config) *Gate {
	grants := approval.NewGrants()
	g := &Gate{
		Asker: approval.Asker{
			Decider: c.Decider, Timeout: c.DeciderTimeout, Limit: c.Questions,
			Grants: grants, Log: c.Log, Calls: c.Calls,
		},
		Grants: grants,
		Dialer: pindial.Dialer{
			Resolver: hostcall.SafeResolver(c.Resolver, c.Calls), Lookups: new(pindial.Lookups),
			Connect: c.Connect, ConnectUDP: c.ConnectUDP,
			ResolveTimeout: c.LookupTimeout, ConnectTimeout: c.DialTimeout,
		},
		config:     c,
		Blocked:    audit.Record{Limit: c.BlockedKept},
		sockets:    unixsock.Dialer{Timeout: c.DialTimeout, Connect: c.ConnectUnix},
		LogLimiter: audit.LogLimiter{Limit: c.LogLinesPerSecond, Log: c.Log},
		debugLines: audit.LogLimiter{Limit: c.LogLinesPerSecond, Log: c.Log},
		Log:        c.Log,
	}
	if c.Observe {
		g.Observations = new(audit.Observations)
	}
	g.sockets.Exclude = g.Self.ContainsFile
	g.Self.ViaProxy = func(q *policy.Query) bool { return upstreamFor(c.Upstreams, q) != nil }
	g.Asker.LogLimiter = &g.LogLimiter
	g.ClientLog = slog.New(audit.NewLimitedHandler(c.Log.Handler(), &g.LogLimiter, &g.debugLines))
	g.observer = g.newObserver(c.OnBlocked)
	return g
}

// CloseLogs reports the log lines that were dropped and waits until nothing of
// their limiters runs.
func (g *Gate) CloseLogs() {
	g.LogLimiter.Close()
	g.debugLines.Close()
}

// Policy returns the policy in force.
func (g *Gate) Policy() *policy.Policy { return g.current.Load() }

// Install puts a policy in force. Call rejudge afterwards.
func (g *Gate) Install(p *policy.Policy) { g.current.Store(p) }

// Ruling is the verdict on a request, and the grant that let it in.
type Ruling struct {
	policy.Verdict
	Grant *approval.Grant // nil if none did
}

// Decide applies every check that can be made before the name is looked up.
// Where only the allowlist stands in the way, it looks for a grant and asks
// the decider. What an allowlist lets through takes no lock.
func (g *Gate) Decide(ctx context.Context, req *Request) Ruling {
	req.Overlay = req.Principal.Overlay // of whichever listener made the request
	for {
		p := g.Policy()
		req.policy = p
		v, miss := p.Judge(&req.Query, g.StandingApproval(), nil)
		if !miss || g.Asker.Decider == nil {
			return Ruling{Verdict: v}
		}
		if v, ok := p.JudgeMode(&req.Query, nil); !ok {
			return Ruling{Verdict: v} // whatever the decider says, so it is not asked
		}
		a, again := g.Asker.Ask(ctx, req.ApprovalRequest(), p.Generation)
		switch {
		case again:
		case a.Grant != nil:
			return g.granted(req, a.Grant)
		default:
			return Ruling{Verdict: refusedBy(a, p.Generation)}
		}
	}
}

// granted returns the ruling on a request that a grant covers. A deny or a mode
// that arrived while the decider thought wins.
func (g *Gate) granted(req *Request, grant *approval.Grant) Ruling {
	v, _ := g.Policy().Judge(&req.Query, policy.SourceDecider, nil)
	if v.Source != policy.SourceDecider {
		return Ruling{Verdict: v}
	}
	g.ClientLog.Debug("let through by a grant", "grant", grant.ID, "host", req.Target.Host.String(), "port", req.Target.Port,
		"protocol", string(req.Protocol), "client", req.Client)
	return Ruling{v, grant}
}

// refusedBy is the verdict where the decider refused or gave no answer.
func refusedBy(a approval.Answer, generation uint64) policy.Verdict {
	v := policy.Verdict{Reason: a.Decision.Reason, Source: policy.SourceDecider, Ask: a.Decision.Ask, Generation: generation, Check: policy.CheckAllowlist}
	switch {
	case errors.Is(a.Err, approval.ErrTimeout):
		v.Reason, v.Ask = policy.ReasonDeciderTimeout, false
	case errors.Is(a.Err, approval.ErrCanceled):
		v.Reason, v.Ask = policy.ReasonCanceled, false
	case errors.Is(a.Err, approval.ErrBusy):
		v.Reason, v.Ask, v.Check = policy.ReasonDeciderBusy, false, policy.CheckLimit
	case a.Err != nil:
		v.Reason, v.Ask = policy.ReasonDeciderFailed, false
	}
	if v.Reason == "" {
		v.Reason = policy.ReasonPolicyDenied
	}
	return v
}

// Dial connects to a target that decide has allowed: one lookup, every
// address judged, and a connection to one of exactly those addresses. The
// error is a *refusedError if the addresses were refused.
//
// The request is under way as lr from here on, until the caller calls lr.end.
// Where dial fails it is over.
func (g *Gate) Dial(ctx context.Context, req *Request, v *Ruling, lr *LiveRequest) (net.Conn, error) {
	r := g.Route(g.Policy(), &req.Query)
	return dialLive(ctx, g, req, v, lr, func(ctx context.Context) (net.Conn, Destination, error) {
		return g.connect(ctx, req, &v.Verdict, r)
	})
}

// connect makes a connection for a request by a route, and judges the
// addresses that it leads to. The connection is a *net.TCPConn, a
// *net.UnixConn, or a *tls.Conn to a proxy.
func (g *Gate) connect(ctx context.Context, req *Request, v *policy.Verdict, r Route) (net.Conn, Destination, error) {
	switch {
	case !req.Socket.IsZero():
		conn, err := g.sockets.Dial(ctx, req.Socket.Asked, req.Socket.Real)
		return conn, Destination{generation: v.Generation}, socketRefusal(req, v, err)
	case r.Proxy != nil:
		// A target that is an address has been judged by that; those of a
		// name are the proxy's to find.
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

// dialLive puts a request under way as lr and has a connection made for it.
func dialLive[C net.Conn](ctx context.Context, g *Gate, req *Request, v *Ruling, lr *LiveRequest,
	connect func(context.Context) (C, Destination, error)) (C, error) {
	var none C
	if err := g.Begin(lr, req, v); err != nil {
		return none, err
	}
	conn, to, err := withPrincipal(ctx, req, v, connect)
	if err == nil {
		err = g.Attach(lr, UnderlyingConn(conn), to)
	}
	if err != nil {
		err = lr.Cause(err)
		lr.End()
		return none, err
	}
	return conn, nil
}

// withPrincipal calls connect with a context that ends with the principal
// that the request came in by, and with the grant that let it through.
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

// resolve returns the addresses of a target that decide has allowed, by one
// lookup, and none unless all of them pass.
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

// StandingApproval is who lets allowlist misses pass without being asked.
func (g *Gate) StandingApproval() policy.Source {
	if g.Observations == nil {
		return ""
	}
	return policy.SourceObserver
}

// LookupGracePeriod is how long the end of the proxy waits for calls of the
// host's resolver whose contexts have ended.
const LookupGracePeriod = time.Second

// AwaitLookups waits for the calls of the host's resolver that were left
// behind, and returns the number of those that have not returned by then.
func (g *Gate) AwaitLookups(patience time.Duration) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return g.Dialer.Lookups.Wait(ctx)
}

// Allowed accounts for a request that reached its target.
func (g *Gate) Allowed(req *Request) { g.Counters.Allow(req.Protocol) }

// Refused accounts for a refusal: counters, record, log, observer.
func (g *Gate) Refused(req *Request, v policy.Verdict) {
	g.Counters.Refuse(req.Protocol, &v)
	r := audit.Refusal{
		Time:       time.Now(),
		Host:       req.Target.Host.String(),
		Port:       req.Target.Port,
		Protocol:   req.Protocol,
		Method:     req.Method,
		UnixSocket: req.Socket.Asked,
		Client:     req.Client,
		Command:    req.Principal.Attribution.Command,
		Verdict:    v,
	}
	g.Blocked.Add(&req.Principal.Owner, &r)
	if req.Principal.Blocked != nil {
		req.Principal.Blocked.Add(&req.Principal.Owner, &r)
	}
	g.logRefusal(req, &r)
	if g.observer != nil {
		g.notify(r)
	}
}

// logRefusal calls the slog handler directly. slog.Logger would capture the
// caller's PC, which doubles the cost.
func (g *Gate) logRefusal(req *Request, r *audit.Refusal) {
	handler := req.logger(g.Log).Handler()
	if !handler.Enabled(context.Background(), slog.LevelInfo) || !g.LogLimiter.Allow(&req.Principal.Owner) {
		return
	}
	record := slog.NewRecord(r.Time, slog.LevelInfo, "refused", 0)
	attrs := [9]slog.Attr{
		slog.String("host", r.Host), slog.Uint64("port", uint64(r.Port)), slog.String("protocol", string(r.Protocol)),
		slog.String("method", r.Method), slog.String("reason", string(r.Verdict.Reason)), slog.String("source", string(r.Verdict.Source)),
		slog.String("client", r.Client.String()),
	}
	n := 7
	for _, a := range [...]slog.Attr{slog.String("rule", r.Verdict.Pattern()), slog.String("session", req.Principal.ID)} {
		if a.Value.String() != "" {
			attrs[n] = a
			n++
		}
	}
	record.AddAttrs(attrs[:n]...)
	handler.Handle(context.Background(), record) // log/slog's loggers ignore the error, too
}

// Malformed keeps account of a request that names no target at all.
func (g *Gate) Malformed(client netip.AddrPort, protocol policy.Protocol, err error) {
	g.Counters.Add(audit.Refused, protocol, policy.ReasonInvalidTarget)
	if g.LogLimiter.Allow(nil) {
		g.Log.Warn("malformed request", "protocol", string(protocol), "client", client, "error", g.LogText(err))
	}
}

// Failed accounts for an allowed request that did not reach its target.
func (g *Gate) Failed(req *Request, err error) { g.FailedWithReason(req, FailureReason(err), err) }

// FailedWithReason is failed for a reason that the caller knows better.
func (g *Gate) FailedWithReason(req *Request, reason policy.Reason, err error) {
	g.Counters.Fail(req.Protocol, reason)
	if g.LogLimiter.Allow(&req.Principal.Owner) {
		req.logger(g.Log).Info("failed", "host", req.Target.Host.String(), "port", req.Target.Port,
			"protocol", string(req.Protocol), "method", req.Method, "client", req.Client, "error", g.LogText(err))
	}
}

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

// NeedsDecider reports whether decide would put a request to the decider, and so may
// take its time. It decides nothing.
func (g *Gate) NeedsDecider(req *Request) bool {
	req.Overlay = req.Principal.Overlay
	p := g.Policy()
	if _, miss := p.Judge(&req.Query, g.StandingApproval(), nil); !miss || g.Asker.Decider == nil {
		return false
	}
	_, permitted := p.JudgeMode(&req.Query, nil)
	return permitted
}

// Rejudge applies the policy in force to the open connections. It cuts those
// that the policy refuses and returns their number. Call it after a change,
// without the lock that guards the change.
func (g *Gate) Rejudge() int {
	n := g.Live.rejudge(g.Policy())
	g.Counters.Cut.Add(uint64(n))
	return n
}

// RefusedError is a refusal by policy where it travels as an error.
type RefusedError struct {
	Request *Request
	Verdict policy.Verdict
}

func NewRefusedError(req *Request, v policy.Verdict) *RefusedError {
	return &RefusedError{req, v}
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s refused: %s", e.Request.Target, e.Verdict.Reason)
}

// Revoke returns how many connections were cut.
func (g *Gate) Revoke(id uint64) (cut int, err error) {
	grant := g.Grants.Take(id)
	if grant == nil {
		return 0, fmt.Errorf("grant %d: %w", id, ErrNoGrant)
	}
	// Requests are cut before the grant's context ends, because they would end
	// with it and not be counted, and again afterwards, because one may have
	// begun meanwhile.
	v := policy.Revoked(g.Policy().Generation)
	cut = g.Live.cutGrant(grant, v)
	grant.Revoke()
	cut += g.Live.cutGrant(grant, v)
	g.Counters.Cut.Add(uint64(cut))
	g.Log.Info("grant revoked", "grant", id, "host", grant.Pattern(), "port", grant.Target.Port, "connections_cut", cut)
	return cut, nil
}

// Drop drops what was granted and denied to a principal. Its ends must have
// ended before, so that no answer that is still to come adds to it.
func (g *Gate) Drop(from *audit.Owner) {
	g.Asker.Drop(from)
	g.Grants.Drop(from)
	g.Blocked.Release(from)
}
