// Tests of the asker: shared questions, their ends, and remembered denials.

package approval_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

type (
	decider  = func(context.Context, *approval.Request) (approval.Decision, error)
	Decision = approval.Decision
	Reason   = policy.Reason
)

// asked is a gate with a decider, without listeners.
type asked struct {
	gate  *gate.Gate
	t     testing.TB
	base  policy.Policy // install changes a copy of it
	from  *gate.Principal
	close context.CancelFunc // ends the context of from
}

func newAsked(t testing.TB, decide decider, change func(*gate.Config)) *asked {
	t.Helper()
	c := gate.Config{
		Decider: decide, DeciderTimeout: approval.DefaultTimeout, Questions: approval.DefaultQuestions,
		BlockedKept: 200, LogValueBytes: 300, LogLinesPerSecond: 500, Log: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&c)
	}
	a := &asked{gate: gate.New(c), t: t}
	a.base = policy.Policy{
		Generation: 1, Enabled: true, Mode: policy.ModeFull, Self: &a.gate.Self,
		Allow: hosts(t, "allowed.example"), Deny: hosts(t, "denied.example"),
	}
	a.gate.Install(&a.base)
	a.from, a.close = a.principal("curl")
	return a
}

// hosts returns a list with one entry.
func hosts(t testing.TB, entry string) policy.RuleSets {
	t.Helper()
	p, err := domain.Parse(entry)
	if err != nil {
		t.Fatal(err)
	}
	return policy.RuleSets{{
		Entries: []string{entry}, Position: func(int) policy.Position { return policy.Position{} },
		Set: domain.Compile([]domain.Pattern{p}),
	}}
}

func (a *asked) principal(command string) (*gate.Principal, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	a.t.Cleanup(cancel)
	return gate.NewPrincipal(ctx, audit.NewAttribution(command, "", nil)), cancel
}

// install puts the base policy in force with a change, under the next generation.
func (a *asked) install(change func(*policy.Policy)) {
	next := a.base
	next.Generation = a.gate.Policy().Generation + 1
	if change != nil {
		change(&next)
	}
	a.gate.Install(&next)
	a.gate.Rejudge()
}

func testTarget(t testing.TB, hostport string) hostname.Target {
	t.Helper()
	target, err := hostname.ParseTarget(hostport)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// get returns a forwarded GET of a.from.
func (a *asked) get(hostport string) *gate.Request {
	return &gate.Request{
		Query:     policy.Query{Protocol: policy.ProtocolHTTP, Target: testTarget(a.t, hostport), Method: "GET"},
		Client:    netip.MustParseAddrPort("127.0.0.1:40000"),
		Principal: a.from,
	}
}

func (a *asked) decideGet(hostport string) gate.Ruling {
	return a.gate.Decide(context.Background(), a.get(hostport))
}

func (a *asked) nothingLeft() {
	a.t.Helper()
	if open, calls := a.gate.Asker.Pending(); open != 0 || calls != 0 {
		a.t.Errorf("%d pending questions and %d running calls, want none", open, calls)
	}
}

// panel is a decider whose answers the test sends.
type panel struct {
	calls   atomic.Int64
	answers chan Decision
	obeys   bool // return when the context ends
	ended   chan error
}

func newPanel(obeys bool) *panel {
	return &panel{answers: make(chan Decision), obeys: obeys, ended: make(chan error, 100)}
}

func (p *panel) decide(ctx context.Context, _ *approval.Request) (Decision, error) {
	p.calls.Add(1)
	if !p.obeys {
		return <-p.answers, nil
	}
	select {
	case d := <-p.answers:
		return d, nil
	case <-ctx.Done():
		p.ended <- context.Cause(ctx)
		return Decision{}, ctx.Err()
	}
}

// decideAll decides about n requests concurrently and counts the verdicts. If answer
// is not nil, it is called when all requests wait.
func (a *asked) decideAll(n int, each func(i int) *gate.Request, answer func()) (allowed int, refused map[Reason]int) {
	var mu sync.Mutex
	refused = make(map[Reason]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			v := a.gate.Decide(context.Background(), each(i))
			mu.Lock()
			defer mu.Unlock()
			if v.Allowed {
				allowed++
			} else {
				refused[v.Reason]++
			}
		})
	}
	if answer != nil {
		synctest.Wait()
		answer()
	}
	all.Wait()
	return allowed, refused
}

func TestIdenticalMissesAreOneQuestion(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answer  Decision
		allowed int
		reason  Reason
	}{
		{approval.Allow(), 1000, ""},
		{approval.Allow().ForSession(), 1000, ""},
		{approval.Allow().Times(1000), 1000, ""},
		{approval.Deny("no"), 0, "no"},
		{approval.Deny(""), 0, policy.ReasonPolicyDenied},
		{approval.Ask("a moment"), 0, "a moment"},
	} {
		t.Run(test.answer.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				allowed, refused := a.decideAll(1000, func(i int) *gate.Request {
					req := a.get("miss.example:80")
					req.Client = netip.AddrPortFrom(req.Client.Addr(), uint16(1+i))
					return req
				}, func() { p.answers <- test.answer })
				if calls := p.calls.Load(); calls != 1 {
					t.Errorf("the decider was called %d times, want once", calls)
				}
				if allowed != test.allowed || refused[test.reason] != 1000-test.allowed {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
				synctest.Wait()
				a.nothingLeft()
			})
		})
	}
}

func TestDifferentMissesAreSeparateQuestions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(a *asked, req *gate.Request)
		calls  int64
	}{
		{"client port", func(_ *asked, req *gate.Request) { req.Client = netip.MustParseAddrPort("127.0.0.1:40001") }, 1},
		{"client address", func(_ *asked, req *gate.Request) { req.Client = netip.MustParseAddrPort("127.0.0.2:40000") }, 2},
		{"protocol", func(_ *asked, req *gate.Request) { req.Protocol = policy.ProtocolHTTPSConnect }, 2},
		{"method", func(_ *asked, req *gate.Request) { req.Method = "POST" }, 2},
		{"host", func(a *asked, req *gate.Request) { req.Target = testTarget(a.t, "other.example:80") }, 2},
		{"port", func(a *asked, req *gate.Request) { req.Target = testTarget(a.t, "miss.example:81") }, 2},
		{"principal", func(a *asked, req *gate.Request) {
			req.Principal, _ = a.principal(req.Principal.Attribution().Command)
		}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				first, second := a.get("miss.example:80"), a.get("miss.example:80")
				test.change(a, second)
				a.decideAll(2, func(i int) *gate.Request { return []*gate.Request{first, second}[i] }, func() {
					if got := p.calls.Load(); got != test.calls {
						t.Errorf("%d questions, want %d", got, test.calls)
					}
					for range p.calls.Load() {
						p.answers <- approval.Deny("")
					}
				})
			})
		})
	}
}

func TestDeciderThatNeverAnswers(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%t", obeys), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(obeys)
				a := newAsked(t, p.decide, func(c *gate.Config) { c.DeciderTimeout = 7 * time.Second })
				began := time.Now()
				allowed, refused := a.decideAll(1000, func(int) *gate.Request { return a.get("miss.example:80") }, nil)
				if allowed != 0 || refused[policy.ReasonDeciderTimeout] != 1000 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
				if took := time.Since(began); took != 7*time.Second {
					t.Errorf("refused after %v, want 7s", took)
				}
				if p.calls.Load() != 1 {
					t.Errorf("the decider was called %d times, want once", p.calls.Load())
				}
				if !obeys {
					if open, calls := a.gate.Asker.Pending(); open != 0 || calls != 1 {
						t.Errorf("%d questions and %d calls, want only the call", open, calls)
					}
					p.answers <- approval.Allow().ForSession() // too late
				}
				synctest.Wait()
				a.nothingLeft()
				if grants := a.gate.Grants.List(); len(grants) != 0 {
					t.Errorf("a late answer granted %v", grants)
				}
			})
		})
	}
}

// TestDeciderWithoutATimeout checks that a question without a deadline waits for
// its answer, and ends with its client as any other.
func TestDeciderWithoutATimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, func(c *gate.Config) { c.DeciderTimeout = 0 })
		allowed, refused := a.decideAll(10, func(int) *gate.Request { return a.get("miss.example:80") }, func() {
			time.Sleep(30 * 24 * time.Hour)
			p.answers <- approval.Allow()
		})
		if allowed != 10 || len(refused) != 0 {
			t.Errorf("%d allowed after a month, refused: %v", allowed, refused)
		}
		ctx, leave := context.WithTimeout(t.Context(), time.Hour)
		defer leave()
		if v := a.gate.Decide(ctx, a.get("miss.example:80")); v.Allowed || v.Reason != policy.ReasonCanceled {
			t.Errorf("client gone: %+v", v)
		}
		synctest.Wait()
		a.nothingLeft()
	})
}

func TestQuestionEndsWithItsLastClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		var verdicts [2]gate.Ruling
		var leave [2]context.CancelFunc
		var all sync.WaitGroup
		for i := range verdicts {
			var ctx context.Context
			ctx, leave[i] = context.WithCancel(context.Background())
			all.Go(func() { verdicts[i] = a.gate.Decide(ctx, a.get("miss.example:80")) })
		}
		synctest.Wait()
		leave[0]()
		synctest.Wait()
		if len(p.ended) != 0 {
			t.Error("the question ended while a client was waiting")
		}
		leave[1]()
		all.Wait()
		synctest.Wait()
		if len(p.ended) != 1 {
			t.Error("the question continues although no request waits")
		}
		a.nothingLeft()
		for i, v := range verdicts {
			if v.Allowed || v.Reason != policy.ReasonCanceled {
				t.Errorf("client %d: %+v", i, v)
			}
		}

		// The next is a new question.
		allowed, _ := a.decideAll(1, func(int) *gate.Request { return a.get("miss.example:80") }, func() { p.answers <- approval.Allow() })
		if allowed != 1 || p.calls.Load() != 2 {
			t.Errorf("%d allowed after %d calls", allowed, p.calls.Load())
		}
	})
}

func TestGoneClientIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) {
		t.Error("the decider was asked")
		return approval.Allow(), nil
	}, nil)
	gone, leave := context.WithCancel(context.Background())
	leave()
	if v := a.gate.Decide(gone, a.get("miss.example:80")); v.Allowed || v.Reason != policy.ReasonCanceled {
		t.Errorf("client gone: %+v", v)
	}
	a.close()
	if v := a.decideGet("miss.example:80"); v.Allowed || v.Reason != policy.ReasonCanceled {
		t.Errorf("principal closed: %+v", v)
	}
}

func TestQuestionEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%t", obeys), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(obeys)
				a := newAsked(t, p.decide, nil)
				other, _ := a.principal("")
				began := time.Now()
				allowed, refused := a.decideAll(10, func(int) *gate.Request { return a.get("miss.example:80") }, func() {
					a.close()
					a.gate.Drop(&a.from.Owner)
				})
				if allowed != 0 || refused[policy.ReasonCanceled] != 10 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
				if !obeys {
					p.answers <- approval.Allow().ForSession() // too late
				}
				synctest.Wait()
				a.nothingLeft()
				if len(a.gate.Grants.List()) != 0 {
					t.Errorf("grants after the end: %v", a.gate.Grants.List())
				}

				// Other sessions are not affected.
				allowed, _ = a.decideAll(1, func(int) *gate.Request {
					req := a.get("miss.example:80")
					req.Principal = other
					return req
				}, func() { p.answers <- approval.Allow() })
				if allowed != 1 {
					t.Error("the other session was refused")
				}
			})
		})
	}
}

// TestEndedQuestionIsNotJoined checks that requests do not join a question whose
// context has ended, even if other requests have not left it yet.
func TestEndedQuestionIsNotJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsked(t, newPanel(true).decide, nil)
		join := func() *approval.Question {
			q, _ := approval.Join(&a.gate.Asker, context.Background(), a.get("miss.example:80").ApprovalRequest(), 1)
			return q
		}
		first := join()
		if again := join(); again != first || first.Waiting() != 2 {
			t.Error("identical requests do not share a question")
		}
		time.Sleep(approval.DefaultTimeout)
		synctest.Wait()
		second := join()
		if second == first {
			t.Error("joined after the deadline")
		}
		approval.Leave(&a.gate.Asker, context.Background(), first)
		if !a.gate.Asker.IsPending(second) {
			t.Error("leaving the old question removed the new one")
		}
		a.close()
	})
}

func TestRememberedAnswers(t *testing.T) {
	t.Parallel()
	failure := errors.New("out of order")
	for _, test := range []struct {
		name   string
		answer Decision
		err    error
		then   func(a *asked)
		again  func(a *asked) *gate.Request
		calls  int
	}{
		{name: "a deny", answer: approval.Deny("no"), calls: 1},
		{name: "a deny, just before its end", answer: approval.Deny("no"), then: func(*asked) { time.Sleep(approval.DenialTTL - 1) }, calls: 1},
		{name: "a deny, expired", answer: approval.Deny("no"), then: func(*asked) { time.Sleep(approval.DenialTTL) }, calls: 2},
		{name: "a deny under another policy", answer: approval.Deny("no"), then: func(a *asked) { a.install(nil) }, calls: 2},
		{name: "a deny of a dropped session", answer: approval.Deny("no"), then: func(a *asked) { a.gate.Drop(&a.from.Owner) }, calls: 2},
		{name: "a deny of another host", answer: approval.Deny("no"), again: func(a *asked) *gate.Request { return a.get("www.miss.example:80") }, calls: 2},
		{name: "a deny of another session", answer: approval.Deny("no"), again: func(a *asked) *gate.Request {
			req := a.get("miss.example:80")
			req.Principal, _ = a.principal("curl")
			return req
		}, calls: 2},
		{name: "an ask", answer: approval.Ask("please"), calls: 2},
		{name: "an allow", answer: approval.Allow(), calls: 2},
		{name: "an error", answer: approval.Deny("no"), err: failure, calls: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) {
					calls++
					return test.answer, test.err
				}, nil)
				first := a.decideGet("miss.example:80")
				if test.then != nil {
					test.then(a)
				}
				req := a.get("miss.example:80")
				if test.again != nil {
					req = test.again(a)
				}
				second := a.gate.Decide(context.Background(), req)
				if calls != test.calls {
					t.Errorf("the decider was called %d times, want %d", calls, test.calls)
				}
				if first.Allowed != second.Allowed || first.Reason != second.Reason || first.Source != second.Source || first.Ask != second.Ask {
					t.Errorf("at first %+v, then %+v", first, second)
				}
			})
		})
	}
}

// A deny for a question that was asked under an older policy is not remembered,
// because the decider may have considered that policy.
func TestDenyAcrossPoliciesIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		get := func(int) *gate.Request { return a.get("miss.example:80") }
		a.decideAll(1, get, func() {
			a.install(nil)
			p.answers <- approval.Deny("no")
		})
		allowed, _ := a.decideAll(1, get, func() { p.answers <- approval.Allow() })
		if allowed != 1 {
			t.Error("the deny was remembered")
		}
	})
}

func TestDenialsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return approval.Deny("no"), nil }, nil)
	for i := range 3 * approval.MaxDenials {
		a.decideGet(fmt.Sprintf("h%d.example:80", i))
	}
	if n, listed := a.gate.Asker.Denials(); n > approval.MaxDenials || n != listed {
		t.Errorf("%d denials, %d in the list; the limit is %d", n, listed, approval.MaxDenials)
	}
	a.gate.Drop(&a.from.Owner)
	if n, listed := a.gate.Asker.Denials(); n != 0 || listed != 0 {
		t.Errorf("%d denials, %d in the list after they were dropped", n, listed)
	}
}

func TestLimitQuestions(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%t", obeys), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(obeys)
				a := newAsked(t, p.decide, func(c *gate.Config) { c.Questions, c.DeciderTimeout = 2, time.Second })
				each := func(i int) *gate.Request { return a.get(fmt.Sprintf("miss%d.example:80", i%2)) }
				_, refused := a.decideAll(20, each, func() {
					v := a.decideGet("one-more.example:80")
					if v.Allowed || v.Reason != policy.ReasonDeciderBusy || v.Source != policy.SourceDecider || v.Ask {
						t.Errorf("over the limit: %+v", v)
					}
				})
				if refused[policy.ReasonDeciderTimeout] != 20 {
					t.Errorf("refused: %v", refused)
				}
				synctest.Wait()
				if !obeys {
					// Calls that do not return keep their places.
					if v := a.decideGet("one-more.example:80"); v.Reason != policy.ReasonDeciderBusy {
						t.Errorf("with two stuck calls: %+v", v)
					}
					p.answers <- approval.Deny("")
					p.answers <- approval.Deny("")
					synctest.Wait()
				}
				allowed, _ := a.decideAll(1, func(int) *gate.Request { return a.get("one-more.example:80") }, func() { p.answers <- approval.Allow() })
				if allowed != 1 {
					t.Error("refused although there was room again")
				}
			})
		})
	}
}

func TestDeciderThatBreaks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		decider decider
	}{
		{"error", func(context.Context, *approval.Request) (Decision, error) {
			return approval.Allow(), errors.New("out of order")
		}},
		{"panic", func(context.Context, *approval.Request) (Decision, error) { panic("out of order") }},
		{"exit", func(context.Context, *approval.Request) (Decision, error) {
			runtime.Goexit()
			return approval.Allow(), nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAsked(t, test.decider, nil)
				v := a.decideGet("miss.example:80")
				if v.Allowed || v.Reason != policy.ReasonDeciderFailed || v.Source != policy.SourceDecider || v.Ask {
					t.Errorf("%+v", v)
				}
				synctest.Wait()
				a.nothingLeft()
			})
		})
	}
}

// TestAllowedTakesNoLock checks that the lists decide while every lock is held.
func TestAllowedTakesNoLock(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return approval.Allow().ForSession(), nil }, nil)
	if v := a.decideGet("miss.example:80"); !v.Allowed {
		t.Fatal(v)
	}
	questions, grants := a.gate.Asker.Locks()
	questions.Lock()
	defer questions.Unlock()
	grants.Lock()
	defer grants.Unlock()
	if v := a.decideGet("allowed.example:80"); !v.Allowed {
		t.Errorf("allowed: %+v", v)
	}
	if v := a.decideGet("denied.example:80"); v.Allowed {
		t.Errorf("denied: %+v", v)
	}
}

// TestNoGrantTakesNoLock checks that a search for a grant takes no lock if there are
// no grants.
func TestNoGrantTakesNoLock(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return approval.Deny("no"), nil }, nil)
	_, grants := a.gate.Asker.Locks()
	grants.Lock()
	defer grants.Unlock()
	if v := a.decideGet("miss.example:80"); v.Allowed {
		t.Errorf("%+v", v)
	}
}

func BenchmarkDecide(b *testing.B) {
	a := newAsked(b, func(_ context.Context, req *approval.Request) (Decision, error) {
		if req.Target.Host.String() == "granted.example" {
			return approval.Allow().ForSession(), nil
		}
		return approval.Allow(), nil
	}, nil)
	for _, bench := range []struct{ name, target string }{
		{"allowlisted", "allowed.example:443"},
		{"granted", "granted.example:443"},
		{"asked", "asked.example:443"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			req := a.get(bench.target)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				if v := a.gate.Decide(ctx, req); !v.Allowed {
					b.Fatal(v)
				}
			}
		})
	}
}
