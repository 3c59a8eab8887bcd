// How the decider is asked: one call for identical requests that wait
// together, with an end in sight whatever the decider does, and no more calls
// at a time than a bound.

package approval

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

const (
	// DefaultTimeout leaves a person time to read a prompt and is
	// still shorter than the time-outs of common clients.
	DefaultTimeout = 60 * time.Second

	// DefaultQuestions is more than any person answers, room for a decider
	// that is itself a slow service, and little memory.
	DefaultQuestions = 256
)

var (
	ErrTimeout       = errors.New("the decider did not answer in time")
	ErrCanceled      = errors.New("the request ended before the decider answered")
	errDeciderExited = errors.New("the decider ended its goroutine in place of returning")
	ErrBusy          = errors.New("too many questions wait for the decider")
)

// Asker puts allowlist misses to the decider. Safe for concurrent use.
//
// x/sync/singleflight would share the calls, but not end one when the last of
// those who wait for it has gone.
type Asker struct {
	Decider    func(context.Context, *Request) (Decision, error) // nil: nobody is asked
	Timeout    time.Duration                                     // of one question
	Limit      int                                               // calls of the decider at a time, of all sessions together
	Grants     *Grants
	LogLimiter *audit.LogLimiter // on those of the log that follow from requests
	Log        *slog.Logger
	Calls      *hostcall.Calls // counts the calls; may be nil

	mu      sync.Mutex
	open    map[questionKey]*question
	calls   share.Counter[*audit.Owner] // of the decider that have not returned
	denials denials
}

// Request is a request that only the decider can allow.
type Request struct {
	Owner    *audit.Owner
	Protocol policy.Protocol
	Target   hostname.Target
	Method   string
	Client   netip.AddrPort
}

// questionKey is what makes requests identical to the decider: all that it is
// told but the client's port. The command, its hint and the labels are the
// principal's.
type questionKey struct {
	principal *audit.Owner
	protocol  policy.Protocol
	target    hostname.Target
	method    string
	client    netip.Addr
}

func questionKeyOf(req *Request) questionKey {
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
	answer     *Answer       // nil until then
	admitted   int           // of the waiting, how many the answer's grant still lets through
}

// Answer is what came of asking: a grant, or else a refusal.
type Answer struct {
	Grant    *Grant
	Decision Decision
	Err      error
}

// Ask returns the answer to a request: from a grant, from a denial just
// given, or from the decider. again says that there is none, since others
// have used up what the decider granted.
func (a *Asker) Ask(ctx context.Context, req *Request, generation uint64) (result Answer, again bool) {
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
func (a *Asker) join(ctx context.Context, req *Request, generation uint64) (*question, Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if g := a.Grants.Use(req.Owner, req.Target); g != nil {
		return nil, Answer{Grant: g}
	}
	key := questionKeyOf(req)
	if d, ok := a.denials.get(key, generation); ok {
		return nil, Answer{Decision: d}
	}
	q := a.open[key]
	if q == nil || q.ctx.Err() != nil {
		switch {
		case ctx.Err() != nil:
			return nil, Answer{Err: canceledBy(ctx)}
		case req.Owner.Context.Err() != nil:
			return nil, Answer{Err: canceledBy(req.Owner.Context)}
		}
		a.calls.Limit = a.Limit
		if !a.calls.Acquire(req.Owner) {
			return nil, Answer{Err: ErrBusy}
		}
		q = a.begin(key, req, generation)
	}
	q.waiting++
	return q, Answer{}
}

// begin calls the decider, on a goroutine of its own. a.mu is held, and the
// place among a.calls is taken.
func (a *Asker) begin(key questionKey, req *Request, generation uint64) *question {
	q := &question{key: key, generation: generation, done: make(chan struct{})}
	q.ctx, q.cancel = context.WithTimeoutCause(req.Owner.Context, a.Timeout, ErrTimeout)
	if a.open == nil {
		a.open = make(map[questionKey]*question)
	}
	a.open[key] = q
	a.Calls.Enter(hostcall.Decider)
	go a.call(q, req)
	return q
}

// call is one call of the decider. What goes wrong in there stays there.
func (a *Asker) call(q *question, req *Request) {
	defer a.Calls.Leave(hostcall.Decider)
	var decision Decision
	err := errDeciderExited
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decider panicked: %v", p)
			if a.LogLimiter.Allow(q.key.principal) {
				a.Log.Error("decider panicked", "panic", p, "host", req.Target.Host.String(), "stack", string(debug.Stack()))
			}
		}
		if err != nil && q.ctx.Err() == nil {
			a.unanswered(q, err)
		}
		if g, displaced := a.returned(q, decision, err); g != nil {
			a.granted(g, decision, displaced)
		}
	}()
	decision, err = a.Decider(q.ctx, req)
}

// returned takes the decider's answer, unless it comes too late, and returns
// what it grants, and the grant that had to make room for that, if any.
func (a *Asker) returned(q *question, decision Decision, err error) (g, displaced *Grant) {
	defer q.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls.Release(q.key.principal)
	if q.ctx.Err() != nil {
		return nil, nil
	}
	delete(a.open, q.key)
	q.answer = &Answer{Decision: decision, Err: err}
	switch {
	case err != nil:
	case decision.Allow:
		q.answer.Grant, q.admitted, displaced = a.Grants.issue(q.key.principal, q.key.target, decision, q.waiting)
	case !decision.Ask:
		a.denials.add(q.key, denial{decision, q.generation, time.Now().Add(DenialTTL)})
	}
	close(q.done)
	return q.answer.Grant, displaced
}

// Len is how many questions the decider has before it.
func (a *Asker) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls.Len()
}

// leave takes a request away from a question that was answered, that has
// ended, or that the request's own end makes it turn from. An answer that is
// there counts, whatever else has happened meanwhile.
func (a *Asker) leave(ctx context.Context, q *question) (result Answer, again bool) {
	a.mu.Lock()
	q.waiting--
	if q.answer != nil {
		defer a.mu.Unlock()
		if q.answer.Grant != nil {
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
	if first && err == ErrTimeout {
		a.unanswered(q, err)
	}
	return Answer{Err: err}, false
}

// unanswered tells the log of a question that remains without an answer.
func (a *Asker) unanswered(q *question, err error) {
	if !a.LogLimiter.Allow(q.key.principal) {
		return
	}
	a.Log.Warn("decider gave no answer", "host", q.key.target.Host.String(), "port", q.key.target.Port,
		"command", q.key.principal.Attribution.Command, "error", err)
}

// granted logs a new grant, and the one that it displaced, if any.
func (a *Asker) granted(g *Grant, decision Decision, displaced *Grant) {
	if old := displaced; old != nil && a.LogLimiter.Allow(g.principal) {
		a.Log.Warn("too many grants; the one unused for longest is over", "grant", old.ID, "host", old.Target.Host.String(),
			"command", old.principal.Attribution.Command, "limit", MaxGrants)
	}
	if !a.LogLimiter.Allow(g.principal) {
		return
	}
	a.Log.Info("granted", "grant", g.ID, "host", g.Target.Host.String(), "port", g.Target.Port,
		"command", g.principal.Attribution.Command, "decision", decision.String())
}

// Drop drops what a principal that has ended leaves behind.
func (a *Asker) Drop(from *audit.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denials.dropAll(from)
}

// canceledBy is why a context that has ended leaves a request unanswered.
func canceledBy(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ErrTimeout) {
		return fmt.Errorf("%w: %w", ErrCanceled, cause)
	}
	return ErrTimeout
}
