// Tests of groups: shared questions, and what is remembered for a group. And tests
// of denials that last.

package approval_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
)

// group is a group whose sessions a test opens.
type group struct {
	*asked
	audit.Owner
	end context.CancelFunc
}

func (a *asked) newGroup(name string) *group {
	g := &group{asked: a, Owner: audit.Owner{ID: name, IsGroup: true}}
	g.Owner.Context, g.end = context.WithCancel(context.Background())
	a.t.Cleanup(g.end)
	return g
}

// close ends the group and drops what is remembered for it.
func (g *group) close() {
	g.end()
	g.gate.Drop(&g.Owner)
}

// session returns a session of the group.
func (g *group) session(command string) (*gate.Principal, context.CancelFunc) {
	ctx, cancel := context.WithCancel(g.Owner.Context)
	p := gate.NewPrincipal(ctx, audit.NewAttribution(command, "", nil))
	p.ID, p.Group = command, &g.Owner
	return p, func() {
		cancel()
		g.gate.Drop(&p.Owner)
	}
}

// decide decides about a request and returns "allow" or the reason of the refusal.
func (a *asked) decide(from *gate.Principal, method, target string) string {
	req := a.by(from, target)
	req.Method = method
	v := a.gate.Decide(context.Background(), req)
	if v.Allowed {
		return "allow"
	}
	return string(v.Reason)
}

func TestQuestionsOfAGroup(t *testing.T) {
	t.Parallel()
	label := func(command, hint, label string) func(*group, *gate.Principal) {
		return func(_ *group, p *gate.Principal) {
			p.SetAttribution(audit.NewAttribution(command, hint, map[string]string{"label": label}))
		}
	}
	for _, test := range []struct {
		name          string
		first, second func(*group, *gate.Principal)
		calls         int64
	}{
		{"same session name", nil, nil, 1},
		{"another command", label("one", "", ""), label("two", "", ""), 1},
		{"another hint", label("one", "", ""), label("one", "unsafe", ""), 2},
		{"another label", label("one", "", "x"), label("one", "", "y"), 2},
		{"equal labels", label("one", "h", "x"), label("two", "h", "x"), 1},
		{"another group with the same name", nil, func(g *group, p *gate.Principal) { p.Group = &g.newGroup("group").Owner }, 2},
		{"no group", nil, func(_ *group, p *gate.Principal) { p.Group = nil }, 2},
		{"a decider of its own", nil, func(g *group, p *gate.Principal) { p.Decider = g.gate.Asker.Decider }, 2},
		{"deciders of their own", func(g *group, p *gate.Principal) { p.Decider = g.gate.Asker.Decider },
			func(g *group, p *gate.Principal) { p.Decider = g.gate.Asker.Decider }, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				g := a.newGroup("group")
				var from [2]*gate.Principal
				for i, change := range []func(*group, *gate.Principal){test.first, test.second} {
					from[i], _ = g.session("command")
					if change != nil {
						change(g, from[i])
					}
				}
				allowed, _ := a.decideAll(10, func(i int) *gate.Request { return a.by(from[i%2], "miss.example:80") }, func() {
					if got := p.calls.Load(); got != test.calls {
						t.Errorf("%d questions, want %d", got, test.calls)
					}
					for range p.calls.Load() {
						p.answers <- approval.Allow()
					}
				})
				if allowed != 10 {
					t.Errorf("%d of 10 requests allowed", allowed)
				}
				a.nothingLeft()
			})
		})
	}
}

// TestAnswerToSeveralSessions checks what an answer means for the sessions that
// wait for it: it decides about all, and is remembered as its terms say, for the
// session that the decider was asked about or for the group.
func TestAnswerToSeveralSessions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answer  Decision
		waiting int // of three requests each of two sessions: those that the answer allows

		// What a later request of the first session, the second session and a new
		// session of the group gets without another question.
		first, second, later string
	}{
		{approval.Allow(), 6, "asked", "asked", "asked"},
		{approval.Allow().ForSession(), 6, "allow", "asked", "asked"},
		{approval.Allow().For(time.Hour), 6, "allow", "asked", "asked"},
		{approval.Allow().Times(7), 6, "allow", "asked", "asked"},
		{approval.Allow().Times(4), 4, "asked", "asked", "asked"},
		{approval.Allow().ForGroup(), 6, "allow", "allow", "allow"},
		{approval.Allow().ForGroup().For(time.Hour), 6, "allow", "allow", "allow"},
		{approval.Allow().ForGroup().Times(8), 6, "allow", "allow", "asked"},
		{approval.Deny("no"), 0, "no", "no", "no"}, // retries
		{approval.Deny("no").For(0), 0, "asked", "asked", "asked"},
		{approval.Deny("no").For(time.Hour), 0, "no", "asked", "asked"},
		{approval.Deny("no").ForGroup(), 0, "no", "no", "no"},
		{approval.Ask("wait"), 0, "asked", "asked", "asked"},
	} {
		t.Run(test.answer.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, nil)
				g := a.newGroup("group")
				first, _ := g.session("first")
				second, _ := g.session("second")
				var all sync.WaitGroup
				all.Go(func() { a.decide(first, "GET", "miss.example:80") })
				synctest.Wait() // the decider is asked about the first session
				allowed, _ := a.decideAll(5, func(i int) *gate.Request {
					return a.by([]*gate.Principal{first, second}[i%2], "miss.example:80")
				}, func() {
					p.answers <- test.answer
					synctest.Wait()
					for p.calls.Load() > 1 { // after Times(4), about the rest
						p.calls.Add(-1)
						p.answers <- approval.Deny("rest").For(0)
						synctest.Wait()
					}
				})
				all.Wait()
				if want := test.waiting; allowed != max(want-1, 0) && allowed != want {
					t.Errorf("%d of 5 waiting requests allowed, want %d of 6", allowed, want)
				}
				later, _ := g.session("later")
				for _, c := range []struct {
					from *gate.Principal
					want string
				}{{first, test.first}, {second, test.second}, {later, test.later}} {
					got := make(chan string, 1)
					go func() { got <- a.decide(c.from, "GET", "miss.example:80") }()
					synctest.Wait()
					if open, _ := a.gate.Asker.Pending(); open == 1 {
						p.answers <- approval.Ask("asked")
					}
					if got := <-got; got != c.want {
						t.Errorf("a later request of the session %q: %s, want %s", c.from.ID, got, c.want)
					}
				}
				synctest.Wait()
				a.nothingLeft()
			})
		})
	}
}

// TestQuestionOutlivesItsFirstSession checks that a question of a group continues
// for the other sessions when the session ends that the decider was asked about, and
// that nothing is remembered for an ended session.
func TestQuestionOutlivesItsFirstSession(t *testing.T) {
	t.Parallel()
	for i, answer := range []Decision{
		approval.Allow(), approval.Allow().ForSession(), approval.Allow().Times(9), approval.Deny("no").For(time.Hour), approval.Allow().ForGroup(),
		approval.Allow(), // without a time limit
	} {
		t.Run(answer.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(true)
				a := newAsked(t, p.decide, func(c *gate.Config) {
					if i == 5 {
						c.DeciderTimeout = 0
					}
				})
				g := a.newGroup("group")
				first, end := g.session("first")
				second, _ := g.session("second")
				var ended, waits string
				var all sync.WaitGroup
				all.Go(func() { ended = a.decide(first, "GET", "miss.example:80") })
				synctest.Wait()
				all.Go(func() { waits = a.decide(second, "GET", "miss.example:80") })
				synctest.Wait()
				end()
				synctest.Wait()
				p.answers <- answer
				all.Wait()
				want := "no"
				if answer.Allow {
					want = "allow"
				}
				if ended != string(policy.ReasonCanceled) || waits != want || p.calls.Load() != 1 {
					t.Errorf("the ended session: %s; the other one: %s; %d questions", ended, waits, p.calls.Load())
				}
				if n := len(a.gate.Grants.List()); n != 0 && answer.String() != "allow(for the group)" {
					t.Errorf("%d grants of an ended session", n)
				}
				if a.gate.Asker.Remembers(&first.Owner) {
					t.Error("something is remembered for an ended session")
				}
			})
		})
	}
}

func TestQuestionEndsWithItsGroup(t *testing.T) {
	t.Parallel()
	for _, obeys := range []bool{true, false} {
		t.Run(fmt.Sprintf("obeys=%t", obeys), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPanel(obeys)
				a := newAsked(t, p.decide, nil)
				g := a.newGroup("group")
				first, _ := g.session("first")
				second, _ := g.session("second")
				_, refused := a.decideAll(10, func(i int) *gate.Request {
					return a.by([]*gate.Principal{first, second}[i%2], "miss.example:80")
				}, g.close)
				if refused[policy.ReasonCanceled] != 10 {
					t.Errorf("refused: %v", refused)
				}
				if !obeys {
					p.answers <- approval.Deny("late").ForGroup()
				}
				synctest.Wait()
				a.nothingLeft()
				if a.gate.Asker.Remembers(&g.Owner) {
					t.Error("a late answer is remembered for a closed group")
				}
			})
		})
	}
}

// TestGrantOutlivesItsSessionForOthers checks that a request of another session,
// which waited for the same answer, stays listed and can be revoked.
func TestGrantOutlivesItsSessionForOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		g := a.newGroup("group")
		first, end := g.session("first")
		second, _ := g.session("second")
		var rulings [2]gate.Ruling
		var all sync.WaitGroup
		for i, from := range []*gate.Principal{first, second} {
			all.Go(func() { rulings[i] = a.gate.Decide(context.Background(), a.by(from, "miss.example:80")) })
			synctest.Wait()
		}
		p.answers <- approval.Allow().ForSession()
		all.Wait()
		release := rulings[1].Grant.Acquire()
		end()
		list := a.gate.Grants.List()
		if len(list) != 1 || list[0].SessionID != "first" || list[0].Active != 1 || list[0].UsesLeft != 0 {
			t.Errorf("got %+v, want the grant that a request of another session uses", list)
		}
		if _, err := a.gate.Revoke(list[0].ID); err != nil || !rulings[1].Grant.Revoked() {
			t.Errorf("Revoke: %v, revoked: %t", err, rulings[1].Grant.Revoked())
		}
		release()
		if n := a.gate.Grants.Len(); n != 0 {
			t.Errorf("%d grants are kept", n)
		}
	})
}

// TestLastingDenials checks what a denial covers that lasts, and how long.
func TestLastingDenials(t *testing.T) {
	t.Parallel()
	type try struct {
		from           string // "first", "second", "other" (group), "alone"
		method, target string
		want           string // "asked" or the reason
	}
	same := try{"first", "GET", "a.example:80", "no"}
	asked := func(t try) try { t.want = "asked"; return t }
	for _, test := range []struct {
		answer Decision
		after  time.Duration
		change func(*group)
		tries  []try
	}{
		{answer: approval.Deny("no").For(0), tries: []try{asked(same)}},
		{answer: approval.Deny("no").For(-time.Second), tries: []try{asked(same)}},
		{answer: approval.Deny("no").For(0).ForGroup(), tries: []try{asked(same)}},
		{answer: approval.Allow().Times(0).For(time.Hour).ForGroup(), after: approval.DenialTTL, tries: []try{asked(same)}},
		{answer: approval.Deny("no"), after: approval.DenialTTL, tries: []try{asked(same)}},
		{answer: approval.Deny("no").For(time.Hour), after: time.Hour - 1, tries: []try{
			same, {"first", "POST", "a.example:80", "no"}, {"first", "GET", "a.example:81", "asked"},
			{"first", "GET", "b.a.example:80", "asked"}, {"second", "GET", "a.example:80", "asked"},
		}},
		{answer: approval.Deny("no").For(time.Hour), after: time.Hour, tries: []try{asked(same)}},
		{answer: approval.Deny("no").For(time.Millisecond), after: time.Millisecond, tries: []try{asked(same)}},
		{answer: approval.Deny("no").ForSession(), after: 1000 * time.Hour, tries: []try{
			same, {"second", "GET", "a.example:80", "asked"}, {"alone", "GET", "a.example:80", "asked"},
		}},
		{answer: approval.Deny("no").ForGroup(), after: 1000 * time.Hour, tries: []try{
			same, {"second", "POST", "a.example:80", "no"}, {"other", "GET", "a.example:80", "asked"}, {"alone", "GET", "a.example:80", "asked"},
		}},
		{answer: approval.Deny("no").ForGroup().AnyPort().Subdomains(), tries: []try{
			{"second", "GET", "a.example:443", "no"}, {"second", "GET", "x.y.a.example:443", "no"}, {"second", "GET", "example:80", "asked"},
		}},
		{answer: approval.Deny("no").ForGroup().For(time.Hour), after: time.Hour, tries: []try{asked(same)}},
		{answer: approval.Deny("no").ForGroup(), change: func(g *group) { g.install(nil) }, tries: []try{same}},
		{answer: approval.Deny("no").ForGroup(), change: func(g *group) { g.gate.Drop(&g.Owner) }, tries: []try{asked(same)}},
		{answer: approval.Deny("no").ForGroup(), change: func(g *group) {
			g.install(func(p *policy.Policy) { p.Allow = hosts(g.t, "a.example") })
		}, tries: []try{{"first", "GET", "a.example:80", "allow"}, {"second", "GET", "a.example:80", "allow"}}},
	} {
		t.Run(fmt.Sprintf("%s after %v", test.answer, test.after), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answer := test.answer
				a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return answer, nil }, nil)
				g := a.newGroup("group")
				from := map[string]*gate.Principal{"alone": a.from}
				from["first"], _ = g.session("first")
				from["second"], _ = g.session("second")
				from["other"], _ = a.newGroup("other").session("other")
				if got := a.decide(from["first"], "GET", "a.example:80"); got == "allow" {
					t.Fatal("allowed")
				}
				answer = approval.Ask("asked")
				time.Sleep(test.after)
				if test.change != nil {
					test.change(g)
				}
				for _, try := range test.tries {
					if got := a.decide(from[try.from], try.method, try.target); got != try.want {
						t.Errorf("%s %s of %s: %s, want %s", try.method, try.target, try.from, got, try.want)
					}
				}
			})
		})
	}
}

// TestDenialOverridesGrants checks that a lasting denial wins over a grant for the
// same host, whichever came first.
func TestDenialOverridesGrants(t *testing.T) {
	t.Parallel()
	for _, order := range [][2]Decision{
		{approval.Deny("no").For(time.Hour), approval.Allow().ForGroup().Subdomains()},
		{approval.Allow().For(time.Hour).AnyPort(), approval.Deny("no").ForGroup().Subdomains()},
	} {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		g := a.newGroup("group")
		s, _ := g.session("s")
		for i, host := range []string{"a.b.example:80", "b.example:80"} {
			got := make(chan string)
			go func() { got <- a.decide(s, "GET", host) }()
			p.answers <- order[i]
			<-got
		}
		if got := a.decide(s, "POST", "a.b.example:80"); got != "no" {
			t.Errorf("%s, then %s: %s", order[0], order[1], got)
		}
	}
}

func TestLastingDenialsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := approval.Deny("no").ForGroup()
		a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return answer, nil }, nil)
		greedy, modest := a.newGroup("greedy"), a.newGroup("modest")
		from, _ := greedy.session("greedy")
		other, _ := modest.session("modest")
		for i := range 3 * approval.MaxDenials {
			if i == approval.MaxDenials {
				a.decide(other, "GET", "m.example:80")
			}
			a.decide(from, "GET", fmt.Sprintf("h%d.example:80", i))
			a.decide(from, "POST", fmt.Sprintf("h%d.example:80", i)) // no second denial
		}
		if n, listed := a.gate.Asker.LastingDenials(); n != approval.MaxDenials || listed != n {
			t.Errorf("%d denials, %d in the list; want %d", n, listed, approval.MaxDenials)
		}
		answer = approval.Ask("asked")
		if got := a.decide(other, "GET", "m.example:80"); got != "no" {
			t.Errorf("a greedy group has displaced the denial of another: %s", got)
		}
		greedy.close()
		if n, listed := a.gate.Asker.LastingDenials(); n != 1 || listed != 1 {
			t.Errorf("%d denials, %d in the list after the greedy group has ended", n, listed)
		}
		modest.close()
		if n, listed := a.gate.Asker.LastingDenials(); n != 0 || listed != 0 {
			t.Errorf("%d denials, %d in the list after both have ended", n, listed)
		}
	})
}

// TestExpiredDenialsMakeRoom checks that expired denials are displaced before those
// that hold.
func TestExpiredDenialsMakeRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := approval.Deny("no").ForSession()
		a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return answer, nil }, nil)
		a.decideGet("kept.example:80")
		answer = approval.Deny("no").For(time.Second)
		for i := range approval.MaxDenials - 1 {
			a.decideGet(fmt.Sprintf("h%d.example:80", i))
		}
		time.Sleep(time.Second)
		a.decideGet("one-more.example:80")
		if n, _ := a.gate.Asker.LastingDenials(); n != 2 {
			t.Errorf("%d denials, want the two that hold", n)
		}
		time.Sleep(time.Second)
		a.decideGet("one-more.example:80")
		if n, _ := a.gate.Asker.LastingDenials(); n != 2 {
			t.Errorf("%d denials, want 2: the new one in place of the expired one for the same host", n)
		}
		answer = approval.Allow()
		if v := a.decideGet("kept.example:80"); v.Allowed {
			t.Error("a denial that holds was displaced")
		}
	})
}

// TestUsedDenialsStay checks that the denial makes room that was unused longest.
func TestUsedDenialsStay(t *testing.T) {
	t.Parallel()
	answer := approval.Deny("no").ForSession()
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return answer, nil }, nil)
	for i := range approval.MaxDenials {
		a.decideGet(fmt.Sprintf("h%d.example:80", i))
	}
	a.decideGet("h0.example:80")
	a.decideGet("one-more.example:80")
	answer = approval.Allow()
	if used, unused := a.decide(a.from, "POST", "h0.example:80"), a.decide(a.from, "POST", "h1.example:80"); used != "no" || unused != "allow" {
		t.Errorf("the used denial: %s, the unused one: %s", used, unused)
	}
}

// TestGroupGrantIsExact counts the requests of many sessions that a grant for their
// group lets pass.
func TestGroupGrantIsExact(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		decide, calls := answerOnce(approval.Allow().ForGroup().Times(50))
		a := newAsked(t, decide, nil)
		g := a.newGroup("group")
		sessions := make([]*gate.Principal, 10)
		for i := range sessions {
			sessions[i], _ = g.session(fmt.Sprint(i))
		}
		allowed, refused := a.decideAll(200, func(i int) *gate.Request { return a.by(sessions[i%10], "miss.example:80") }, nil)
		if allowed != 50 || refused["only once"] != 150 {
			t.Errorf("%d allowed, want 50; refused: %v; %d questions", allowed, refused, calls.Load())
		}
	})
}

func TestRemembers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		g := a.newGroup("group")
		s, _ := g.session("s")
		ask := func(d Decision) {
			done := make(chan string)
			go func() { done <- a.decide(s, "GET", "miss.example:80") }()
			synctest.Wait()
			if !a.gate.Asker.Remembers(&g.Owner) {
				t.Error("a question that waits is not remembered")
			}
			p.answers <- d
			<-done
			synctest.Wait()
		}
		for _, test := range []struct {
			answer Decision
			until  time.Duration
		}{
			{approval.Allow(), 0},
			{approval.Ask("please"), 0},
			{approval.Deny("no").For(0), 0},
			{approval.Deny("no"), approval.DenialTTL},
			{approval.Deny("no").For(time.Hour).ForGroup(), time.Hour},
			{approval.Allow().For(time.Hour).ForGroup(), time.Hour},
		} {
			ask(test.answer)
			if test.until > 0 {
				time.Sleep(test.until - 1)
				if !a.gate.Asker.Remembers(&g.Owner) {
					t.Errorf("%s is forgotten before its end", test.answer)
				}
				time.Sleep(time.Nanosecond)
			}
			if a.gate.Asker.Remembers(&g.Owner) {
				t.Errorf("%s is remembered after its end", test.answer)
			}
		}
	})
}

// TestLastingAnswerSettlesOtherQuestions checks that a decision that lasts also
// answers the questions that wait and that it covers, and no others.
func TestLastingAnswerSettlesOtherQuestions(t *testing.T) {
	t.Parallel()
	forever := approval.Allow().ForGroup()
	for _, test := range []struct {
		name           string
		answer         Decision // to GET a.example:80 of the session "first"
		from           string   // "first", "second", "own" (decider), "other" (group), "alone"
		method, target string   // of the other question
		want           string   // "waits", "allow" or the reason
	}{
		{"another method", forever, "first", "POST", "a.example:80", "allow"},
		{"another session", forever, "second", "POST", "a.example:80", "allow"},
		{"a denial", approval.Deny("no").ForGroup(), "second", "POST", "a.example:80", "no"},
		{"another port", forever, "second", "GET", "a.example:81", "waits"},
		{"any port", forever.AnyPort(), "second", "GET", "a.example:81", "allow"},
		{"a name below", forever, "second", "GET", "b.a.example:80", "waits"},
		{"subdomains", forever.Subdomains(), "second", "GET", "b.a.example:80", "allow"},
		{"another name", forever.Subdomains(), "second", "GET", "ba.example:80", "waits"},
		{"a decider of its own", forever, "own", "GET", "a.example:80", "allow"},
		{"another group", forever, "other", "GET", "a.example:80", "waits"},
		{"no group", forever, "alone", "GET", "a.example:80", "waits"},
		{"a session", approval.Allow().ForSession(), "second", "POST", "a.example:80", "waits"},
		{"a time", approval.Allow().ForGroup().For(time.Hour), "second", "POST", "a.example:80", "allow"},
		{"a number of requests", approval.Allow().ForGroup().Times(9), "second", "POST", "a.example:80", "waits"},
		{"an allow once", approval.Allow(), "first", "POST", "a.example:80", "waits"},
		{"a plain denial", approval.Deny("no"), "first", "POST", "a.example:80", "waits"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				answers := map[string]chan Decision{"first": make(chan Decision), "then": make(chan Decision)}
				var withdrawn error
				a := newAsked(t, func(ctx context.Context, r *approval.Request) (Decision, error) {
					if r.Owner.ID == "first" && r.Method == "GET" {
						return <-answers["first"], nil
					}
					select {
					case d := <-answers["then"]:
						return d, nil
					case <-ctx.Done():
						withdrawn = ctx.Err()
						return approval.Deny("late").ForGroup(), nil
					}
				}, nil)
				g := a.newGroup("group")
				from := map[string]*gate.Principal{"alone": a.from}
				for _, name := range []string{"first", "second", "own"} {
					from[name], _ = g.session(name)
				}
				from["own"].Decider = a.gate.Asker.Decider
				from["other"], _ = a.newGroup("other").session("other")
				first, then := make(chan string, 1), make(chan string, 2)
				go func() { first <- a.decide(from["first"], "GET", "a.example:80") }()
				for range 2 {
					go func() { then <- a.decide(from[test.from], test.method, test.target) }()
				}
				synctest.Wait()
				answers["first"] <- test.answer
				<-first
				synctest.Wait()
				got := "waits"
				if len(then) == 2 {
					got = <-then
					if again := <-then; again != got {
						t.Errorf("one request got %s, the other %s", got, again)
					}
				} else {
					answers["then"] <- approval.Ask("")
				}
				if got != test.want || (withdrawn != nil) != (got != "waits") {
					t.Errorf("the other question: %s, withdrawn: %v; want %s", got, withdrawn, test.want)
				}
				synctest.Wait()
				a.nothingLeft()
			})
		})
	}
}
