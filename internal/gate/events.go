// Events about requests. Each is published at the one place where its request is
// accounted for.

package gate

import (
	"context"
	"io"
	"iter"
	"net/netip"
	"strings"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/policy"
)

// trace holds the data that all events of an allowed request share.
type trace struct {
	number  uint64 // of the request
	verdict *policy.Verdict
	grant   uint64    // the ID of the grant that allowed the request; 0 if none did
	begun   time.Time // when the request got a connection; zero before Connected
	opened  bool      // Opened was called
	atEnd   bool      // the event allowed is published by Opened or at the end of the request
}

// Trace makes the gate publish the events of an allowed request, if a consumer wants
// them. Begin calls it.
func (g *Gate) Trace(req *Request, v *Ruling) {
	if !g.Events.Wanted(&req.Principal.Owner) {
		return
	}
	req.trace = &trace{number: g.Events.NextRequest(), verdict: g.shared(&v.Verdict)}
	if v.Grant != nil {
		req.trace.grant = v.Grant.ID
	}
}

// shared returns a copy of v. Equal verdicts that follow each other share one, because
// most requests are allowed by the same entry as the one before. The gate keeps the last one,
// and so the rules of its policy, in memory.
func (g *Gate) shared(v *policy.Verdict) *policy.Verdict {
	if last := g.lastVerdict.Load(); last != nil && *last == *v {
		return last
	}
	kept := *v
	g.lastVerdict.Store(&kept)
	return &kept
}

// about returns an event about a request.
func about(req *Request, kind audit.Kind, v *policy.Verdict) audit.Event {
	e := audit.Event{Kind: kind, Query: &req.Query, Client: req.Client, Verdict: v, Attribution: req.attribution}
	if t := req.trace; t != nil {
		e.Request, e.Grant = t.number, t.grant
	}
	return e
}

// publishAllowed publishes that an allowed request has reached its target.
func (g *Gate) publishAllowed(req *Request) {
	if t := req.trace; t != nil {
		e := about(req, audit.KindAllowed, t.verdict)
		g.Events.Publish(&req.Principal.Owner, &e)
	}
}

// allowedAtEnd makes Opened or Ended publish that an allowed request has reached its
// target. A request that ends before a call of Opened has one event in place of three.
func (g *Gate) allowedAtEnd(req *Request) {
	switch t := req.trace; {
	case t == nil:
	case t.opened:
		g.publishAllowed(req)
	default:
		t.atEnd = true
	}
}

// publishRefused publishes the refusal r of a request.
func (g *Gate) publishRefused(req *Request, r *audit.Refusal) {
	if !g.Events.Wanted(&req.Principal.Owner) {
		return
	}
	v := r.Verdict
	v.ServerName = strings.Clone(v.ServerName) // a part of the ClientHello
	e := about(req, audit.KindRefused, &v)
	e.Time = r.Time
	if e.Request == 0 {
		e.Request = g.Events.NextRequest()
		// Requests that are refused before they are judged can have strings that
		// are parts of the whole header.
		q := req.Query
		q.Target, q.Method = q.Target.Clone(), strings.Clone(q.Method)
		e.Query = &q
	}
	g.Events.Publish(&req.Principal.Owner, &e)
}

// publishMalformed publishes the refusal of a request without a valid target.
func (g *Gate) publishMalformed(from *Principal, client netip.AddrPort, protocol policy.Protocol, err error) {
	if g.Events.Wanted(&from.Owner) {
		g.Events.Publish(&from.Owner, &audit.Event{
			Kind: audit.KindRefused, Request: g.Events.NextRequest(), Client: client,
			Verdict: &policy.Verdict{Reason: policy.ReasonInvalidTarget},
			Rare:    &audit.Rare{Protocol: protocol, Error: g.ErrorText(err)},
		})
	}
}

// publishFailed publishes that an allowed request has failed.
func (g *Gate) publishFailed(req *Request, reason policy.Reason, err error) {
	if !g.Events.Wanted(&req.Principal.Owner) {
		return
	}
	v := &policy.Verdict{Allowed: true}
	if req.trace != nil {
		v = req.trace.verdict
	}
	e := about(req, audit.KindFailed, v)
	e.Rare = &audit.Rare{Reason: reason, Error: g.ErrorText(err)}
	g.Events.Publish(&req.Principal.Owner, &e)
}

// publishCut publishes that an open request or an idle connection was cut.
func (g *Gate) publishCut(req *Request, v policy.Verdict) {
	if g.Events.Wanted(&req.Principal.Owner) {
		kept := v // on the heap, unlike v
		e := about(req, audit.KindCut, &kept)
		g.Events.Publish(&req.Principal.Owner, &e)
	}
}

// Connected notes that an allowed request has a connection to its target, and
// publishes nothing. Calls after the first do nothing.
func (g *Gate) Connected(req *Request) {
	if t := req.trace; t != nil && t.begun.IsZero() {
		t.begun = time.Now()
	}
}

// Opened publishes that an allowed request has a connection to its target, with the
// time of the connection. Calls after the first do nothing.
func (g *Gate) Opened(req *Request) {
	t := req.trace
	if t == nil || t.opened {
		return
	}
	g.Connected(req)
	t.opened = true
	e := about(req, audit.KindOpened, nil)
	e.Time = t.begun
	g.Events.Publish(&req.Principal.Owner, &e)
	if t.atEnd {
		t.atEnd = false
		g.publishAllowed(req)
	}
}

// publishEnd publishes the end of a request whose beginning was published, or the
// whole request after allowedAtEnd.
func (g *Gate) publishEnd(req *Request, sent, received int64) {
	t := req.trace
	if t == nil {
		return
	}
	var e audit.Event
	switch {
	case t.opened:
		e = about(req, audit.KindClosed, nil)
		e.Time = time.Now()
		e.Duration = e.Time.Sub(t.begun)
	case t.atEnd:
		e = about(req, audit.KindAllowed, t.verdict)
		e.Duration = time.Since(t.begun) // reads one clock, and time.Now two
		e.Time = t.begun.Add(e.Duration)
	default:
		return
	}
	e.Sent, e.Received = sent, received
	g.Events.Publish(&req.Principal.Owner, &e)
}

// Opened returns when the session of the principal began.
func (p *Principal) Opened() time.Time { return p.opened }

// SessionOpened publishes that the session of a principal begins. Call it before the
// principal's first request.
func (g *Gate) SessionOpened(p *Principal) {
	p.opened = time.Now()
	if g.Events.Wanted(&p.Owner) {
		g.Events.Publish(&p.Owner, &audit.Event{Kind: audit.KindSessionOpened, Time: p.opened})
	}
}

// SessionClosed publishes that the session of a principal has ended. It first waits for
// its requests, which are cut, so that their events come before. The wait is
// bounded, because connections to the shared listeners stay open.
func (g *Gate) SessionClosed(p *Principal) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	p.Clients.Wait(ctx)
	if g.Events.Wanted(&p.Owner) {
		g.Events.Publish(&p.Owner, &audit.Event{
			Kind: audit.KindSessionClosed, Duration: time.Since(p.opened),
			Sent: int64(p.Traffic.Sent.Load()), Received: int64(p.Traffic.Received.Load()),
		})
	}
}

// PublishReload publishes that a policy from a reload is about to be put in force,
// or the error of a reload.
func (g *Gate) PublishReload(generation uint64, err error) {
	if !g.Events.Wanted(nil) {
		return
	}
	rare := &audit.Rare{Generation: generation}
	if err != nil {
		rare.Error = g.ErrorText(err)
	}
	g.Events.Publish(nil, &audit.Event{Kind: audit.KindReload, Rare: rare})
}

// publishMode publishes that p is about to change the mode.
func (g *Gate) publishMode(p *policy.Policy) {
	if g.Events.Wanted(nil) {
		g.Events.Publish(nil, &audit.Event{Kind: audit.KindMode, Rare: &audit.Rare{Mode: p.Mode, Generation: p.Generation}})
	}
}

// PublishRule publishes that an entry was added to the rules at run time, or removed. from is the session
// that it is for; nil means all or a group. decision is empty for a removal.
func (g *Gate) PublishRule(from *Principal, decision policy.DecisionKind, pattern, message string) {
	var owner *audit.Owner
	if from != nil {
		owner = &from.Owner
	}
	if g.Events.Wanted(owner) {
		g.Events.Publish(owner, &audit.Event{Kind: audit.KindRule, Rare: &audit.Rare{Decision: decision, Pattern: pattern, Message: message, Generation: g.Policy().Generation}})
	}
}

// Follow passes the events of an owner to a function of the host. Call it before
// the owner's first event. It does nothing if f is nil.
func (g *Gate) Follow(o *audit.Owner, f func(*audit.Event)) {
	if f != nil {
		g.Events.Attach(g.newEventFunc(f), o)
	}
}

// newEventFunc returns a queue whose events are passed to a function of the host,
// one after the other. A panic of f is logged.
func (g *Gate) newEventFunc(f func(*audit.Event)) *audit.Queue {
	q := &audit.Queue{Limit: audit.QueueLimit, Consumer: audit.OnEvent, Overflowing: g.overflowing(audit.OnEvent)}
	p := &hostcall.Pump[audit.Event]{
		Take:    func(spare []audit.Event) []audit.Event { events, _ := q.Take(spare); return events },
		Deliver: func(e *audit.Event) { g.observe("OnEvent", func() { f(e) }) },
		Calls:   g.config.Calls, Kind: hostcall.OnEvent,
	}
	q.Wake = p.Start
	return q
}

// Settings of the audit log. Lines are written together, because a write for each
// would cost more than the request that it reports.
const (
	auditLogDelay = 5 * time.Millisecond // longest delay of an event
	auditLogQueue = 8 * audit.QueueLimit // several delays of events at the rate that the proxy forwards
)

// newEventLog returns an audit log that is written to w.
func (g *Gate) newEventLog(w io.Writer) *audit.EventLog {
	l := &audit.EventLog{
		Encoder: g.config.EventEncoder,
		Write: func(lines []byte) (int, error) {
			return hostcall.Call(context.Background(), nil, hostcall.AuditLog, func(context.Context) (int, error) { return w.Write(lines) })
		},
		Failed: func(err error) {
			g.Log.Error("the audit log cannot be written; lost events are counted, and the next line that is written reports their number", "error", err)
		},
		Recovered: func(lost uint64) { g.Log.Info("the audit log is written again", "events_lost", lost) },
	}
	q := &audit.Queue{Limit: auditLogQueue, Consumer: audit.AuditLog, Encoder: l.Encoder, Overflowing: g.overflowing(audit.AuditLog)}
	p := &hostcall.Pump[audit.Lines]{
		Take: q.TakeLines, Deliver: l.Append, Delay: auditLogDelay,
		Calls: g.config.Calls, Kind: hostcall.AuditLog,
	}
	q.Wake = p.Start
	g.Events.Subscribe(q)
	return l
}

// FollowEvents returns the events from now on, until ctx or the loop ends, and until
// the stream is closed. The sequence can be used once.
func (g *Gate) FollowEvents(ctx context.Context) iter.Seq[*audit.Event] {
	ready := make(chan struct{}, 1)
	q := &audit.Queue{
		Limit: audit.QueueLimit, Consumer: audit.Iterator, Overflowing: g.overflowing(audit.Iterator),
		Wake: func() {
			select {
			case ready <- struct{}{}:
			default:
			}
		},
	}
	g.Events.Subscribe(q)
	unsubscribe := func() { g.Events.Unsubscribe(q) }
	stop := context.AfterFunc(ctx, unsubscribe)
	return func(yield func(*audit.Event) bool) {
		defer unsubscribe()
		defer stop()
		var batch []audit.Event
		for open := true; open && ctx.Err() == nil; {
			if batch, open = q.Take(batch); len(batch) == 0 && open {
				select {
				case <-ready:
				case <-ctx.Done():
				}
			}
			for i := range batch {
				if ctx.Err() != nil || !yield(&batch[i]) {
					return
				}
			}
		}
	}
}

// overflowing returns a function that logs that a consumer is too slow. The log
// handler may block, so the function does not wait.
func (g *Gate) overflowing(consumer audit.Consumer) func() {
	return func() {
		g.notices.Go(func() {
			g.Log.Warn("events are dropped, because their consumer is too slow", "consumer", consumer.String(), "waiting", audit.QueueLimit)
		})
	}
}
