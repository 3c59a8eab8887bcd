// Asking: who shares a question, how each one ends, and what is remembered.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

// asked is an enforcer with a decider, without listeners.
type asked struct {
	gate   *enforcer
	t      testing.TB
	from   *principal
	close  context.CancelFunc // ends from
	config Config
}

func newAsked(t testing.TB, decider PolicyDecider, change func(*Builder)) *asked {
	t.Helper()
	config := DefaultConfig()
	config.Enabled = true
	config.Policy.AllowedDomains = []string{"allowed.example"}
	config.Policy.DeniedDomains = []string{"denied.example"}
	b := NewBuilder().Config(config).PolicyDecider(decider)
	if change != nil {
		change(b)
	}
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{gate: p.planned(), t: t, config: config}
	a.from, a.close = a.principal(Attribution{Command: "curl"})
	return a
}

func (a *asked) principal(by Attribution) (*principal, context.CancelFunc) {
	ends, end := context.WithCancel(context.Background())
	a.t.Cleanup(end)
	return newPrincipal(ends, attribution(by)), end
}

// install puts another configuration in force, under the next generation.
func (a *asked) install(change func(*Config)) {
	a.t.Helper()
	config := a.config.clone()
	change(&config)
	p, err := NewBuilder().Config(config).Build()
	if err != nil {
		a.t.Fatal(err)
	}
	next := p.first.compile(a.gate.installed().Generation+1, config.Mode, runtimeRules{}, &a.gate.self)
	next.Enabled = config.Enabled
	a.gate.install(next)
	a.gate.rejudge()
}

func testTarget(t testing.TB, hostport string) hostname.Target {
	t.Helper()
	target, err := hostname.ParseTarget(hostport)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

// get is a forwarded GET from the principal that every asked has.
func (a *asked) get(hostport string) *request {
	return &request{
		Query:     policy.Query{Protocol: ProtocolHTTP, Target: testTarget(a.t, hostport), Method: "GET"},
		client:    netip.MustParseAddrPort("127.0.0.1:40000"),
		principal: a.from,
	}
}

func (a *asked) decideGet(hostport string) ruling {
	return a.gate.decide(context.Background(), a.get(hostport))
}

// left is what asking still holds: questions, calls and their goroutines.
func (a *asked) left() (open, calls, running int) {
	a.gate.asker.mu.Lock()
	defer a.gate.asker.mu.Unlock()
	return len(a.gate.asker.open), a.gate.asker.calls.Len(), a.gate.asker.running
}

func (a *asked) nothingLeft() {
	a.t.Helper()
	if open, calls, running := a.left(); open != 0 || calls != 0 || running != 0 {
		a.t.Errorf("left behind: %d questions, %d calls, %d goroutines", open, calls, running)
	}
}

// panel is a decider that answers when the test does.
type panel struct {
	calls   atomic.Int64
	answers chan Decision
	heedful bool // returns when its context ends
	ended   chan error
}

func newPanel(heedful bool) *panel {
	return &panel{answers: make(chan Decision), heedful: heedful, ended: make(chan error, 100)}
}

func (p *panel) decide(ctx context.Context, _ PolicyRequest) (Decision, error) {
	p.calls.Add(1)
	if !p.heedful {
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

// decideAll decides about n requests at once and counts the verdicts that
// allow, once answer, which may be nil, has returned.
func (a *asked) decideAll(n int, each func(i int) *request, answer func()) (allowed int, refused map[Reason]int) {
	var mu sync.Mutex
	refused = make(map[Reason]int)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			v := a.gate.decide(context.Background(), each(i))
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
		{Allow(), 1000, ""},
		{Allow().ForSession(), 1000, ""},
		{Allow().Times(1000), 1000, ""},
		{Deny("no"), 0, "no"},
		{Deny(""), 0, ReasonPolicyDenied},
		{Ask("a moment"), 0, "a moment"},
	} {
		t.Run(test.answer.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				allowed, refused := a.decideAll(1000, func(i int) *request {
					req := a.get("miss.example:80")
					req.client = netip.AddrPortFrom(req.client.Addr(), uint16(1+i))
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

func TestDifferentMissesAreQuestionsOfTheirOwn(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(a *asked, req *request)
		calls  int64
	}{
		{"client port", func(_ *asked, req *request) { req.client = netip.MustParseAddrPort("127.0.0.1:40001") }, 1},
		{"client address", func(_ *asked, req *request) { req.client = netip.MustParseAddrPort("127.0.0.2:40000") }, 2},
		{"protocol", func(_ *asked, req *request) { req.Protocol = ProtocolHTTPSConnect }, 2},
		{"method", func(_ *asked, req *request) { req.Method = "POST" }, 2},
		{"host", func(a *asked, req *request) { req.Target = testTarget(a.t, "other.example:80") }, 2},
		{"port", func(a *asked, req *request) { req.Target = testTarget(a.t, "miss.example:81") }, 2},
		{"principal", func(a *asked, req *request) { req.principal, _ = a.principal(Attribution(req.principal.attribution)) }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				first, second := a.get("miss.example:80"), a.get("miss.example:80")
				test.change(a, second)
				a.decideAll(2, func(i int) *request { return []*request{first, second}[i] }, func() {
					if got := p.calls.Load(); got != test.calls {
						t.Errorf("%d questions, want %d", got, test.calls)
					}
					for range p.calls.Load() {
						p.answers <- Deny("")
					}
				})
			})
		})
	}
}

func TestDeciderThatNeverAnswers(t *testing.T) {
	t.Parallel()
	for _, heedful := range []bool{true, false} {
		t.Run(fmt.Sprintf("heedful=%t", heedful), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(heedful)
				a := newAsked(t, p.decide, func(b *Builder) { b.DeciderTimeout(7 * time.Second) })
				began := time.Now()
				allowed, refused := a.decideAll(1000, func(int) *request { return a.get("miss.example:80") }, nil)
				if allowed != 0 || refused[ReasonDeciderTimeout] != 1000 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
				if took := time.Since(began); took != 7*time.Second {
					t.Errorf("refused after %v, want 7s", took)
				}
				if p.calls.Load() != 1 {
					t.Errorf("the decider was called %d times, want once", p.calls.Load())
				}
				if !heedful {
					if open, calls, _ := a.left(); open != 0 || calls != 1 {
						t.Errorf("%d questions and %d calls, want the call alone", open, calls)
					}
					p.answers <- Allow().ForSession() // too late
				}
				synctest.Wait()
				a.nothingLeft()
				if grants := a.gate.grants.list(); len(grants) != 0 {
					t.Errorf("a late answer granted %v", grants)
				}
			})
		})
	}
}

func TestQuestionEndsWithItsLastClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		var verdicts [2]ruling
		var leave [2]context.CancelFunc
		var all sync.WaitGroup
		for i := range verdicts {
			var ctx context.Context
			ctx, leave[i] = context.WithCancel(context.Background())
			all.Go(func() { verdicts[i] = a.gate.decide(ctx, a.get("miss.example:80")) })
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
			t.Error("the question goes on although nobody waits")
		}
		a.nothingLeft()
		for i, v := range verdicts {
			if v.Allowed || v.Reason != ReasonCanceled {
				t.Errorf("client %d: %+v", i, v)
			}
		}

		// The next is a new question.
		allowed, _ := a.decideAll(1, func(int) *request { return a.get("miss.example:80") }, func() { p.answers <- Allow() })
		if allowed != 1 || p.calls.Load() != 2 {
			t.Errorf("%d allowed after %d calls", allowed, p.calls.Load())
		}
	})
}

func TestGoneClientIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) {
		t.Error("the decider was asked")
		return Allow(), nil
	}, nil)
	gone, leave := context.WithCancel(context.Background())
	leave()
	if v := a.gate.decide(gone, a.get("miss.example:80")); v.Allowed || v.Reason != ReasonCanceled {
		t.Errorf("client gone: %+v", v)
	}
	a.close()
	if v := a.decideGet("miss.example:80"); v.Allowed || v.Reason != ReasonCanceled {
		t.Errorf("principal closed: %+v", v)
	}
}

func TestQuestionEndsWithItsSession(t *testing.T) {
	t.Parallel()
	for _, heedful := range []bool{true, false} {
		t.Run(fmt.Sprintf("heedful=%t", heedful), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(heedful)
				a := newAsked(t, p.decide, nil)
				other, _ := a.principal(Attribution{})
				began := time.Now()
				allowed, refused := a.decideAll(10, func(int) *request { return a.get("miss.example:80") }, func() {
					a.close()
					a.gate.drop(&a.from.owner)
				})
				if allowed != 0 || refused[ReasonCanceled] != 10 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %v", took)
				}
				if !heedful {
					p.answers <- Allow().ForSession() // too late
				}
				synctest.Wait()
				a.nothingLeft()
				if len(a.gate.grants.list()) != 0 {
					t.Errorf("grants after the end: %v", a.gate.grants.list())
				}

				// Another session is not concerned.
				allowed, _ = a.decideAll(1, func(int) *request {
					req := a.get("miss.example:80")
					req.principal = other
					return req
				}, func() { p.answers <- Allow() })
				if allowed != 1 {
					t.Error("the other session was refused")
				}
			})
		})
	}
}

// A question that is over but not yet left by those who wait takes no more in.
func TestOverQuestionIsNotJoined(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsked(t, newPanel(true).decide, nil)
		join := func() *question {
			q, _ := a.gate.asker.join(context.Background(), a.get("miss.example:80").asked(), 1)
			return q
		}
		first := join()
		if again := join(); again != first || first.waiting != 2 {
			t.Error("identical requests do not share a question")
		}
		time.Sleep(defaultDeciderTimeout)
		synctest.Wait()
		second := join()
		if second == first {
			t.Error("joined after the deadline")
		}
		a.gate.asker.leave(context.Background(), first)
		if a.gate.asker.open[second.key] != second {
			t.Error("leaving the old question removed the new one")
		}
		a.close()
	})
}

func TestWhatIsRemembered(t *testing.T) {
	t.Parallel()
	failure := errors.New("out of order")
	for _, test := range []struct {
		name   string
		answer Decision
		err    error
		then   func(a *asked)
		again  func(a *asked) *request
		calls  int
	}{
		{name: "a deny", answer: Deny("no"), calls: 1},
		{name: "a deny, just not over", answer: Deny("no"), then: func(*asked) { time.Sleep(denialMemory - 1) }, calls: 1},
		{name: "a deny, over", answer: Deny("no"), then: func(*asked) { time.Sleep(denialMemory) }, calls: 2},
		{name: "a deny under another policy", answer: Deny("no"), then: func(a *asked) { a.install(func(*Config) {}) }, calls: 2},
		{name: "a deny of a forgotten session", answer: Deny("no"), then: func(a *asked) { a.gate.drop(&a.from.owner) }, calls: 2},
		{name: "a deny of another host", answer: Deny("no"), again: func(a *asked) *request { return a.get("www.miss.example:80") }, calls: 2},
		{name: "a deny of another session", answer: Deny("no"), again: func(a *asked) *request {
			req := a.get("miss.example:80")
			req.principal, _ = a.principal(Attribution{Command: "curl"})
			return req
		}, calls: 2},
		{name: "an ask", answer: Ask("please"), calls: 2},
		{name: "an allow", answer: Allow(), calls: 2},
		{name: "an error", answer: Deny("no"), err: failure, calls: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) {
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
				second := a.gate.decide(context.Background(), req)
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

// A deny that was given to a question asked under an older policy is not kept
// either: the decider may have gone by it.
func TestDenyAcrossPoliciesIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		get := func(int) *request { return a.get("miss.example:80") }
		a.decideAll(1, get, func() {
			a.install(func(*Config) {})
			p.answers <- Deny("no")
		})
		allowed, _ := a.decideAll(1, get, func() { p.answers <- Allow() })
		if allowed != 1 {
			t.Error("the deny was remembered")
		}
	})
}

func TestDenialsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) { return Deny("no"), nil }, nil)
	for i := range 3 * maxDenials {
		a.decideGet(fmt.Sprintf("h%d.example:80", i))
	}
	d := &a.gate.asker.denials
	if len(d.by) > maxDenials || len(d.by) != d.list.Len() {
		t.Errorf("%d denials, %d in the list; the bound is %d", len(d.by), d.list.Len(), maxDenials)
	}
	a.gate.drop(&a.from.owner)
	if len(d.by) != 0 || d.list.Len() != 0 {
		t.Errorf("%d denials, %d in the list after they were forgotten", len(d.by), d.list.Len())
	}
}

func TestLimitQuestions(t *testing.T) {
	t.Parallel()
	for _, heedful := range []bool{true, false} {
		t.Run(fmt.Sprintf("heedful=%t", heedful), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(heedful)
				a := newAsked(t, p.decide, func(b *Builder) { b.Limits(Limits{Questions: 2}).DeciderTimeout(time.Second) })
				each := func(i int) *request { return a.get(fmt.Sprintf("miss%d.example:80", i%2)) }
				_, refused := a.decideAll(20, each, func() {
					v := a.decideGet("one-more.example:80")
					if v.Allowed || v.Reason != ReasonDeciderBusy || v.Source != SourceDecider || v.Ask {
						t.Errorf("beyond the bound: %+v", v)
					}
				})
				if refused[ReasonDeciderTimeout] != 20 {
					t.Errorf("refused: %v", refused)
				}
				synctest.Wait()
				if !heedful {
					// Calls that do not return keep their places.
					if v := a.decideGet("one-more.example:80"); v.Reason != ReasonDeciderBusy {
						t.Errorf("with two stuck calls: %+v", v)
					}
					p.answers <- Deny("")
					p.answers <- Deny("")
					synctest.Wait()
				}
				allowed, _ := a.decideAll(1, func(int) *request { return a.get("one-more.example:80") }, func() { p.answers <- Allow() })
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
		decider PolicyDecider
	}{
		{"error", func(context.Context, PolicyRequest) (Decision, error) { return Allow(), errors.New("out of order") }},
		{"panic", func(context.Context, PolicyRequest) (Decision, error) { panic("out of order") }},
		{"exit", func(context.Context, PolicyRequest) (Decision, error) { runtime.Goexit(); return Allow(), nil }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				a := newAsked(t, test.decider, nil)
				v := a.decideGet("miss.example:80")
				if v.Allowed || v.Reason != ReasonDeciderFailed || v.Source != SourceDecider || v.Ask {
					t.Errorf("%+v", v)
				}
				synctest.Wait()
				a.nothingLeft()
			})
		})
	}
}

func TestWaitingForTheDecider(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(false)
		a := newAsked(t, p.decide, nil)
		if n := a.gate.asker.wait(time.Hour); n != 0 {
			t.Errorf("%d calls before there was any", n)
		}
		a.decideAll(1, func(int) *request { return a.get("miss.example:80") }, a.close)
		began := time.Now()
		if n := a.gate.asker.wait(time.Second); n != 1 || time.Since(began) != time.Second {
			t.Errorf("%d calls are out after %v", n, time.Since(began))
		}
		go func() {
			time.Sleep(time.Minute)
			p.answers <- Deny("")
		}()
		began = time.Now()
		if n := a.gate.asker.wait(time.Hour); n != 0 || time.Since(began) != time.Minute {
			t.Errorf("%d calls are out after %v", n, time.Since(began))
		}
	})
}

// What the lists decide goes through while every lock is taken.
func TestAllowedTakesNoLock(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) { return Allow().ForSession(), nil }, nil)
	if v := a.decideGet("miss.example:80"); !v.Allowed {
		t.Fatal(v)
	}
	a.gate.asker.mu.Lock()
	a.gate.grants.mu.Lock()
	defer a.gate.asker.mu.Unlock()
	defer a.gate.grants.mu.Unlock()
	if v := a.decideGet("allowed.example:80"); !v.Allowed {
		t.Errorf("allowed: %+v", v)
	}
	if v := a.decideGet("denied.example:80"); v.Allowed {
		t.Errorf("denied: %+v", v)
	}
}

// Without a grant, looking for one takes no lock.
func TestNoGrantTakesNoLock(t *testing.T) {
	t.Parallel()
	a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) { return Deny("no"), nil }, nil)
	a.gate.grants.mu.Lock()
	defer a.gate.grants.mu.Unlock()
	if v := a.decideGet("miss.example:80"); v.Allowed {
		t.Errorf("%+v", v)
	}
}

func BenchmarkDecide(b *testing.B) {
	a := newAsked(b, func(_ context.Context, req PolicyRequest) (Decision, error) {
		if req.Host == "granted.example" {
			return Allow().ForSession(), nil
		}
		return Allow(), nil
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
				if v := a.gate.decide(ctx, req); !v.Allowed {
					b.Fatal(v)
				}
			}
		})
	}
}
