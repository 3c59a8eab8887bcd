// How the decider is asked: one call for identical requests that wait
// together, with an end in sight whatever the decider does, and no more calls
// at a time than a bound.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

const (
	// defaultDeciderTimeout leaves a person time to read a prompt and is
	// still shorter than the time-outs of common clients.
	defaultDeciderTimeout = 60 * time.Second

	// defaultQuestions is more than any person answers, room for a decider
	// that is itself a slow service, and little memory.
	defaultQuestions = 256

	// denialMemory outlasts the tries that clients make on their own, a
	// second or so apart, and ends before a user who has changed their mind
	// wonders why nothing happens.
	denialMemory = 2 * time.Second

	// maxDenials bounds the denials remembered: a client may go through
	// names faster than they are forgotten.
	maxDenials = 1024
)

var (
	errDeciderTimeout  = errors.New("the decider did not answer in time")
	errDeciderCanceled = errors.New("the request ended before the decider answered")
	errDeciderExited   = errors.New("the decider ended its goroutine in place of returning")
	errDeciderBusy     = errors.New("too many questions wait for the decider")
)

// asker puts allowlist misses to the decider. Safe for concurrent use.
//
// x/sync/singleflight would share the calls, but not end one when the last of
// those who wait for it has gone.
type asker struct {
	decider func(context.Context, *askedRequest) (decision, error) // nil: nobody is asked
	timeout time.Duration                                          // of one question
	limit   int                                                    // calls of the decider at a time, of all sessions together
	grants  *grants
	lines   *logLimiter // on those of the log that follow from requests
	log     *slog.Logger
	host    *hostcall.Calls // counts the calls; may be nil

	mu      sync.Mutex
	open    map[questionKey]*question
	calls   share.Counter[*owner] // of the decider that have not returned
	running int                   // goroutines of calls
	idle    chan struct{}         // closed when running gets to 0; nil until somebody waits for that
	denials denials
}

// askedRequest is a request that only the decider can allow.
type askedRequest struct {
	Owner    *owner
	Protocol policy.Protocol
	Target   hostname.Target
	Method   string
	Client   netip.AddrPort
}

// questionKey is what makes requests identical to the decider: all that it is
// told but the client's port. The command, its hint and the labels are the
// principal's.
type questionKey struct {
	principal *owner
	protocol  Protocol
	target    hostname.Target
	method    string
	client    netip.Addr
}

func questionKeyOf(req *askedRequest) questionKey {
	return questionKey{req.Owner, req.Protocol, req.Target, req.Method, req.Client.Addr()}
}

// question is one question to the decider, and the requests that wait for the
// answer. Its fields are guarded by asking.mu, but ctx and done.
type question struct {
	key        questionKey
	generation uint64          // of the policy that the first request missed
	ctx        context.Context // of the call: ends at the deadline, with the principal, and when nobody waits
	cancel     context.CancelFunc
	waiting    int
	done       chan struct{} // closed with the answer
	answer     *answer       // nil until then
	admitted   int           // of the waiting, how many the answer's grant still lets through
}

// answer is what came of asking: a grant, or else a refusal.
type answer struct {
	grant    *grant
	decision decision
	err      error
}

// ask returns the answer to a request: from a grant, from a denial just
// given, or from the decider. again says that there is none, since others
// have used up what the decider granted.
func (a *asker) ask(ctx context.Context, req *askedRequest, generation uint64) (result answer, again bool) {
	q, known := a.join(ctx, req, generation)
	if q == nil {
		return known, false
	}
	select {
	case <-q.done:
	case <-q.ctx.Done():
	case <-ctx.Done():
	}
	return a.leave(ctx, q)
}

// join adds a request to those that wait for a question, which it begins if
// it is the first; or it returns what answers the request without one.
//
// All in one step: between looking for a grant and asking for one, the answer
// to an identical question could come and be missed.
func (a *asker) join(ctx context.Context, req *askedRequest, generation uint64) (*question, answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.grants.use(req.Owner, req.Target); g != nil {
		return nil, answer{grant: g}
	}
	key := questionKeyOf(req)
	if d, ok := a.denials.get(key, generation); ok {
		return nil, answer{decision: d}
	}
	q := a.open[key]
	if q == nil || q.ctx.Err() != nil {
		switch {
		case ctx.Err() != nil:
			return nil, answer{err: canceledBy(ctx)}
		case req.Owner.ctx.Err() != nil:
			return nil, answer{err: canceledBy(req.Owner.ctx)}
		}
		a.calls.Limit = a.limit
		if !a.calls.Acquire(req.Owner) {
			return nil, answer{err: errDeciderBusy}
		}
		q = a.begin(key, req, generation)
	}
	q.waiting++
	return q, answer{}
}

// begin calls the decider, on a goroutine of its own. a.mu is held, and the
// place among a.calls is taken.
func (a *asker) begin(key questionKey, req *askedRequest, generation uint64) *question {
	q := &question{key: key, generation: generation, done: make(chan struct{})}
	q.ctx, q.cancel = context.WithTimeoutCause(req.Owner.ctx, a.timeout, errDeciderTimeout)
	if a.open == nil {
		a.open = make(map[questionKey]*question)
	}
	a.open[key] = q
	a.running++
	a.host.Enter(hostcall.Decider)
	go a.call(q, req)
	return q
}

// call is one call of the decider. What goes wrong in there stays there.
func (a *asker) call(q *question, req *askedRequest) {
	defer a.host.Leave(hostcall.Decider)
	defer a.ended()
	var decision decision
	err := errDeciderExited
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decider panicked: %v", p)
			if a.lines.allow(q.key.principal) {
				a.log.Error("decider panicked", "panic", p, "host", req.Target.Host.String(), "stack", string(debug.Stack()))
			}
		}
		if err != nil && q.ctx.Err() == nil {
			a.unanswered(q, err)
		}
		if g, displaced := a.returned(q, decision, err); g != nil {
			a.granted(g, decision, displaced)
		}
	}()
	decision, err = a.decider(q.ctx, req)
}

// returned takes the decider's answer, unless it comes too late, and returns
// what it grants, and the grant that had to make room for that, if any.
func (a *asker) returned(q *question, decision decision, err error) (g, displaced *grant) {
	defer q.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls.Release(q.key.principal)
	if q.ctx.Err() != nil {
		return nil, nil
	}
	delete(a.open, q.key)
	q.answer = &answer{decision: decision, err: err}
	switch {
	case err != nil:
	case decision.Allow:
		q.answer.grant, q.admitted, displaced = a.grants.issue(q.key.principal, q.key.target, decision, q.waiting)
	case !decision.Ask:
		a.denials.add(q.key, denial{decision, q.generation, time.Now().Add(denialMemory)})
	}
	close(q.done)
	return q.answer.grant, displaced
}

// len is how many questions the decider has before it.
func (a *asker) len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls.Len()
}

// ended takes note of the end of a call's goroutine.
func (a *asker) ended() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running--
	if a.running == 0 && a.idle != nil {
		close(a.idle)
		a.idle = nil
	}
}

// leave takes a request away from a question that was answered, that has
// ended, or that the request's own end makes it turn from. An answer that is
// there counts, whatever else has happened meanwhile.
func (a *asker) leave(ctx context.Context, q *question) (result answer, again bool) {
	a.mu.Lock()
	q.waiting--
	if q.answer != nil {
		defer a.mu.Unlock()
		if q.answer.grant != nil {
			q.admitted--
			again = q.admitted < 0
		}
		return *q.answer, again
	}
	if q.ctx.Err() != nil {
		ctx = q.ctx
	}
	if q.waiting == 0 {
		q.cancel()
	}
	first := q.ctx.Err() != nil && a.open[q.key] == q
	if first {
		delete(a.open, q.key)
	}
	a.mu.Unlock()

	err := canceledBy(ctx)
	if first && err == errDeciderTimeout {
		a.unanswered(q, err)
	}
	return answer{err: err}, false
}

// unanswered tells the log of a question that remains without an answer.
func (a *asker) unanswered(q *question, err error) {
	if !a.lines.allow(q.key.principal) {
		return
	}
	a.log.Warn("decider gave no answer", "host", q.key.target.Host.String(), "port", q.key.target.Port,
		"command", q.key.principal.attribution.Command, "error", err)
}

// granted logs a new grant, and the one that it displaced, if any.
func (a *asker) granted(g *grant, decision decision, displaced *grant) {
	if old := displaced; old != nil && a.lines.allow(g.principal) {
		a.log.Warn("too many grants; the one unused for longest is over", "grant", old.id, "host", old.target.Host.String(),
			"command", old.principal.attribution.Command, "limit", maxGrants)
	}
	if !a.lines.allow(g.principal) {
		return
	}
	a.log.Info("granted", "grant", g.id, "host", g.target.Host.String(), "port", g.target.Port,
		"command", g.principal.attribution.Command, "decision", decision.String())
}

// drop drops what a principal that has ended leaves behind.
func (a *asker) drop(from *owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denials.dropAll(from)
}

// wait waits for the calls of the decider to return, but not longer than
// patience, and returns how many are left.
func (a *asker) wait(patience time.Duration) int {
	a.mu.Lock()
	if a.running == 0 {
		a.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	a.idle = idle
	a.mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.running
}

// canceledBy is why a context that has ended leaves a request unanswered.
func canceledBy(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, errDeciderTimeout) {
		return fmt.Errorf("%w: %w", errDeciderCanceled, cause)
	}
	return errDeciderTimeout
}

// denial is a Deny that stands for a while.
type denial struct {
	decision   decision
	generation uint64 // of the policy that it was given under
	until      time.Time
}

// denials are the newest denials, at most maxDenials, shared fairly among the
// sessions. The zero value is empty.
type denials struct {
	by   map[questionKey]*remembered
	list share.List[*owner, questionKey]
}

// remembered is a denial with its place in the list.
type remembered struct {
	denial
	place share.Item[*owner, questionKey]
}

func (d *denials) get(key questionKey, generation uint64) (decision, bool) {
	n := d.by[key]
	if n == nil || n.generation != generation || !time.Now().Before(n.until) {
		return decision{}, false
	}
	return n.decision, true
}

// add remembers a denial. It forgets those of the same principal that are over,
// and another one where there are too many.
func (d *denials) add(key questionKey, n denial) {
	if d.by == nil {
		d.by = make(map[questionKey]*remembered)
		d.list.Limit = maxDenials
	}
	now := time.Now()
	for item := range d.list.Of(key.principal) { // all stand equally long: the oldest is the first to be over
		if now.Before(d.by[item.Value].until) {
			break
		}
		d.drop(item)
	}
	if old := d.by[key]; old != nil {
		d.drop(&old.place)
	}
	if old := d.list.Victim(key.principal); old != nil {
		d.drop(old)
	}
	r := &remembered{denial: n}
	r.place.Value = key
	d.by[key] = r
	d.list.Push(key.principal, &r.place)
}

func (d *denials) drop(item *share.Item[*owner, questionKey]) {
	delete(d.by, item.Value)
	d.list.Remove(item)
}

// dropAll forgets the denials of a principal.
func (d *denials) dropAll(from *owner) {
	for item := range d.list.Of(from) {
		d.drop(item)
	}
}
