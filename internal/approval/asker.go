// Calls of the decider: one for all identical requests that wait at the same
// time, with a deadline that holds even if the decider ignores it, and a limit on
// concurrent calls.

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
	// DefaultTimeout leaves a person time to read a prompt. It is shorter than
	// the timeouts of common clients.
	DefaultTimeout = 60 * time.Second

	// DefaultQuestions is more than a person can answer. It leaves room for a
	// decider that calls a slow service, and costs little memory.
	DefaultQuestions = 256
)

// Errors of an [Answer]. ErrCanceled wraps the cause.
var (
	ErrTimeout       = errors.New("the decider did not answer in time")
	ErrCanceled      = errors.New("the request ended before the decider answered")
	errDeciderExited = errors.New("the decider ended its goroutine without returning")
	errSettled       = errors.New("the answer to another question covers it")
	ErrBusy          = errors.New("too many questions are waiting for the decider")
)

// Asker puts allowlist misses to the decider. Safe for concurrent use.
//
// x/sync/singleflight would share the calls as well, but would not cancel a call
// when the last request that waits for it ends.
type Asker struct {
	Decider    Decider       // for requests without a decider of their own; nil means none
	Timeout    time.Duration // For one call; 0 means no limit.
	Limit      int           // Required. Concurrent calls, for all sessions together.
	Grants     *Grants
	LogLimiter *audit.LogLimiter // Required. For log lines about single requests.
	Log        *slog.Logger
	Calls      *hostcall.Calls // Optional. Counts the calls of the decider.
	Events     *audit.Stream   // Optional. Gets the questions, the answers and the new grants.

	mu      sync.Mutex
	pending map[questionKey]*question   // those that requests can join
	calls   share.Counter[*audit.Owner] // calls of the decider that have not returned
	denials denials
	lasting lastingDenials
}

// Decider is a function of the host that answers questions.
type Decider func(context.Context, *Request) (Decision, error)

// Request describes a request to the decider.
type Request struct {
	Owner       *audit.Owner // a session's, or that of another principal
	Attribution *audit.Attribution
	Decider     Decider // the session's own; nil means that of the Asker
	Protocol    policy.Protocol
	Target      hostname.Target
	Method      string
	Path        string // of an https:// URL, without the query; empty if it is not known
	Client      netip.AddrPort
}

// questionKey identifies requests that are the same to the decider. It holds
// everything that the decider sees except the client's port and the path. In a group, it leaves
// out the session and its command as well: the owner is that of the group.
type questionKey struct {
	owner                 *audit.Owner
	command, hint, labels string
	protocol              policy.Protocol
	target                hostname.Target
	method                string
	client                netip.Addr
}

func questionKeyOf(req *Request) questionKey {
	a := req.Attribution
	key := questionKey{req.Owner, a.Command, a.ExecPolicyHint, a.LabelText(), req.Protocol, req.Target, req.Method, req.Client.Addr()}
	// A session's own decider answers for that session only.
	if group := req.Owner.Group; group != nil && req.Decider == nil {
		key.owner, key.command = group, ""
	}
	return key
}

// question is one call of the decider with the requests that wait for its answer.
// Asker.mu guards waiting, shared, settled, answer, asked and admitted; the other
// fields do not change.
type question struct {
	key        questionKey
	first      *Request        // that the decider is asked about
	generation uint64          // of the policy whose allowlist the first request missed
	ctx        context.Context // ends at the deadline, with the owner of the key, and when no request waits
	cancel     context.CancelFunc
	waiting    int           // requests
	shared     bool          // requests of several sessions have waited
	settled    bool          // the answer to another question covers it
	done       chan struct{} // closed when answer or settled is set
	answer     *Answer       // nil until the decider has answered in time
	asked      time.Time     // zero unless the question was published
	admitted   int           // how many more of the waiting requests the answer's grant allows
}

// Answer is the result of a question: a grant, or a refusal if Grant is nil. Err
// says why the decider gave no decision; it is nil if it gave one.
type Answer struct {
	Grant    *Grant
	Decision Decision
	Err      error
}

// Ask returns the answer for a request: from an existing grant, from a remembered
// denial, or from the decider. If again is true, there is no answer, because other
// requests have used up the new grant, or because another answer covers the request;
// the caller judges the request again.
// generation is that of the policy whose allowlist the request missed.
func (a *Asker) Ask(ctx context.Context, req *Request, generation uint64) (result Answer, again bool) {
	q, known := a.join(ctx, req, generation)
	if q == nil {
		return known, false
	}
	select {
	case <-q.done:
	case <-q.ctx.Done():
	case <-req.Owner.Context.Done(): // a group's question continues for the other sessions
		ctx = req.Owner.Context
	case <-ctx.Done():
	}
	return a.leave(ctx, q)
}

// join adds a request to a question, and starts the question if it is the first.
// If a grant, a denial or an error answers the request at once, join returns that
// answer and a nil question.
//
// It holds the lock throughout. Otherwise the answer to an identical question could
// arrive after the search for a grant and before the search for the question.
func (a *Asker) join(ctx context.Context, req *Request, generation uint64) (*question, Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d, ok := a.lasting.get(req.Owner, req.Target); ok {
		return nil, Answer{Decision: d}
	}
	if g := a.Grants.Use(req.Owner, req.Target); g != nil {
		return nil, Answer{Grant: g}
	}
	key := questionKeyOf(req)
	if d, ok := a.denials.get(key, generation); ok {
		return nil, Answer{Decision: d}
	}
	q := a.pending[key]
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
		q = a.start(key, req, generation)
	}
	q.waiting++
	q.shared = q.shared || q.first.Owner != req.Owner
	return q, Answer{}
}

// start adds a question and calls the decider on a new goroutine. The caller holds
// a.mu and has acquired a place in a.calls.
func (a *Asker) start(key questionKey, req *Request, generation uint64) *question {
	q := &question{key: key, first: req, generation: generation, done: make(chan struct{})}
	if a.Timeout > 0 {
		q.ctx, q.cancel = context.WithTimeoutCause(key.owner.Context, a.Timeout, ErrTimeout)
	} else {
		q.ctx, q.cancel = context.WithCancel(key.owner.Context)
	}
	if a.pending == nil {
		a.pending = make(map[questionKey]*question)
	}
	a.pending[key] = q
	a.publishAsked(q)
	a.Calls.Enter(hostcall.Decider)
	go a.call(q)
	return q
}

// call calls the decider. It recovers panics, so that they cost one question only.
func (a *Asker) call(q *question) {
	defer a.Calls.Leave(hostcall.Decider)
	var decision Decision
	err := errDeciderExited
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the decider panicked: %v", p)
			if a.LogLimiter.Allow(q.first.Owner) {
				a.Log.Error("decider panicked", "panic", p, "host", q.first.Target.Host.String(), "stack", string(debug.Stack()))
			}
		}
		if err != nil && q.ctx.Err() == nil {
			a.logUnanswered(q, err)
		}
		if g, displaced := a.finish(q, decision, err); g != nil {
			a.logGranted(g, decision, displaced)
		}
	}()
	decision, err = a.DeciderOr(q.first.Decider)(q.deciderContext(), q.first)
}

// DeciderOr returns own, or the Asker's decider if own is nil. It is nil if there is
// neither; do not call Ask then.
func (a *Asker) DeciderOr(own Decider) Decider {
	if own != nil {
		return own
	}
	return a.Decider
}

// deciderContext returns the question's context with the values of the session that
// the decider is asked about.
func (q *question) deciderContext() context.Context {
	if q.first.Owner.Values == nil {
		return q.ctx
	}
	return valueContext{q.ctx, q.first.Owner.Values}
}

// valueContext is a context with the values of another.
type valueContext struct {
	context.Context
	values context.Context
}

// Value implements [context.Context].
func (c valueContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil { // package context looks for its own keys
		return v
	}
	return c.values.Value(key)
}

// finish records the decider's answer unless it comes too late. It returns the
// new grant, and the grant that was displaced by it; either may be nil.
func (a *Asker) finish(q *question, decision Decision, err error) (g, displaced *Grant) {
	defer q.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls.Release(q.first.Owner)
	if q.ctx.Err() != nil {
		return nil, nil
	}
	delete(a.pending, q.key)
	q.answer = &Answer{Decision: decision, Err: err}
	var covered *coverage
	switch {
	case err != nil:
	case decision.Allow:
		g, q.admitted, displaced = a.Grants.issue(q.first, decision, q.waiting, q.shared)
		q.answer.Grant = g
		if g.isUnlimited() {
			covered = &g.coverage
		}
	case !decision.Ask:
		covered = a.remember(q, decision)
	}
	a.publishAnswered(q, decision, err)
	close(q.done)
	if covered != nil {
		a.settle(covered)
	}
	return g, displaced
}

// settle ends the questions that a new lasting decision covers, so that the user need
// not answer them as well. The caller holds a.mu.
func (a *Asker) settle(c *coverage) {
	for key, q := range a.pending {
		if (key.owner == c.owner || key.owner.Group == c.owner) && c.covers(q.first.Target) {
			delete(a.pending, key)
			q.settled = true
			a.publishAnswered(q, Decision{}, errSettled)
			close(q.done)
			q.cancel()
		}
	}
}

// remember keeps a denial as long as its terms say. It returns the coverage of a
// lasting denial, and nil for any other. The caller holds a.mu.
func (a *Asker) remember(q *question, d Decision) (covered *coverage) {
	if d.lasts() && d.owner(q.first.Owner).Context.Err() == nil {
		n := &lastingDenial{coverage: newCoverage(q.first, d), decision: d}
		a.lasting.add(n)
		covered = &n.coverage
	}
	if !d.timed { // other sessions of a group may retry, too
		a.denials.add(q.key, denial{d, q.generation, time.Now().Add(DenialTTL)})
	}
	return covered
}

// Len returns the number of calls of the decider that have not returned.
func (a *Asker) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.calls.Len()
}

// leave removes a request from a question that was answered, whose context has
// ended, or whose answer the request no longer waits for. An existing answer
// counts even if a context has ended meanwhile. The results are those of Ask.
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
	if q.settled {
		a.mu.Unlock()
		return Answer{}, true
	}
	if q.ctx.Err() != nil {
		ctx = q.ctx
	}
	if q.waiting == 0 {
		q.cancel()
	}
	first := q.ctx.Err() != nil && a.pending[q.key] == q // later requests log nothing
	if first {
		delete(a.pending, q.key)
	}
	err := canceledBy(ctx)
	if q.ctx.Err() != nil {
		a.publishAnswered(q, Decision{}, err)
	}
	a.mu.Unlock()

	if first && err == ErrTimeout {
		a.logUnanswered(q, err)
	}
	return Answer{Err: err}, false
}

// logUnanswered logs a question that gets no answer.
func (a *Asker) logUnanswered(q *question, err error) {
	if !a.LogLimiter.Allow(q.first.Owner) {
		return
	}
	a.Log.Warn("decider gave no answer", "host", q.first.Target.Host.String(), "port", q.first.Target.Port,
		"command", q.first.Attribution.Command, "error", err)
}

// logGranted logs a new grant, and the grant that was displaced by it if not nil.
func (a *Asker) logGranted(g *Grant, decision Decision, displaced *Grant) {
	if old := displaced; old != nil && a.LogLimiter.Allow(g.owner) {
		a.Log.Warn("ended the grant that was unused longest, because there are too many", "grant", old.ID, "host", old.Target.Host.String(),
			"command", old.command, "limit", MaxGrants)
	}
	if !a.LogLimiter.Allow(g.owner) {
		return
	}
	a.Log.Info("granted", "grant", g.ID, "host", g.Target.Host.String(), "port", g.Target.Port,
		"command", g.command, "decision", decision.String())
}

// Drop removes the denials of an owner whose context has ended.
func (a *Asker) Drop(owner *audit.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denials.dropAll(owner)
	a.lasting.dropAll(owner)
}

// Remembers reports whether an owner has grants, denials or questions.
func (a *Asker) Remembers(owner *audit.Owner) bool {
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for key := range a.pending {
		if key.owner == owner {
			return true
		}
	}
	return a.denials.holds(owner, now) || a.lasting.holds(owner, now) || a.Grants.holds(owner)
}

// canceledBy returns the error of a request whose answer did not come before ctx
// ended.
func canceledBy(ctx context.Context) error {
	if cause := context.Cause(ctx); !errors.Is(cause, ErrTimeout) {
		return fmt.Errorf("%w: %w", ErrCanceled, cause)
	}
	return ErrTimeout
}
