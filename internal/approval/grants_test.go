// Tests of grants: their scope, duration and exact number of uses, and that they
// override nothing but the allowlist.

package approval_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// answerOnce returns a decider that answers d once and denies afterwards, and the
// number of its calls.
func answerOnce(d Decision) (decider, *atomic.Int64) {
	var calls atomic.Int64
	return func(context.Context, *approval.Request) (Decision, error) {
		if calls.Add(1) == 1 {
			return d, nil
		}
		return approval.Deny("only once"), nil
	}, &calls
}

func TestDecisionTerms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		want     string
	}{
		{Decision{}, "deny()"},
		{approval.Allow(), "allow"},
		{approval.Allow().Times(3), "allow(times 3)"},
		{approval.Allow().Times(3).Times(5), "allow(times 5)"},
		{approval.Allow().Times(0), "deny()"},
		{approval.Allow().Times(-1), "deny()"},
		{approval.Allow().Times(0).Times(5).For(time.Hour).ForSession().AnyPort().Subdomains(), "deny()"},
		{approval.Allow().For(time.Minute), "allow(for 1m0s)"},
		{approval.Allow().For(0), "deny()"},
		{approval.Allow().For(-time.Second), "deny()"},
		{approval.Allow().ForSession().AnyPort().Subdomains(), "allow(for the session, any port, subdomains)"},
		{approval.Allow().Times(2).For(time.Second).Subdomains(), "allow(times 2, for 1s, subdomains)"},
		{approval.Allow().ForGroup().For(time.Minute), "allow(for 1m0s, for the group)"},
		{approval.Deny("no").Times(5).For(time.Hour).ForSession().AnyPort().Subdomains(), "deny(no, for 1h0m0s, for the session, any port, subdomains)"},
		{approval.Deny("no").Times(0), "deny(no)"},
		{approval.Deny("no").For(0), "deny(no, not remembered)"},
		{approval.Deny("no").For(-1).ForGroup(), "deny(no, not remembered, for the group)"},
		{approval.Ask("please").Times(0).For(0).ForSession().ForGroup().AnyPort().Subdomains(), "ask(please)"},
	} {
		if got := test.decision.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		if allows := strings.HasPrefix(test.want, "allow"); test.decision.Allow != allows {
			t.Errorf("%s: allow is %t", test.want, test.decision.Allow)
		}
	}
}

func TestGrantScope(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		asked    string
		covers   []string
		not      []string
	}{
		{approval.Allow().ForSession(), "a.example:443",
			[]string{"a.example:443"},
			[]string{"a.example:80", "www.a.example:443", "example:443", "xa.example:443", "a.example.com:443"}},
		{approval.Allow().ForSession().AnyPort(), "a.example:443",
			[]string{"a.example:443", "a.example:80", "a.example:65535"},
			[]string{"www.a.example:443", "b.example:443"}},
		{approval.Allow().ForSession().Subdomains(), "a.example:443",
			[]string{"a.example:443", "www.a.example:443", "x.y.z.a.example:443"},
			[]string{"a.example:80", "www.a.example:80", "example:443", "b.example:443", "xa.example:443"}},
		{approval.Allow().ForSession().AnyPort().Subdomains(), "a.example:443",
			[]string{"a.example:443", "www.a.example:80"},
			[]string{"example:443", "xa.example:443"}},
		{approval.Allow().ForSession(), "8.8.8.8:53",
			[]string{"8.8.8.8:53"},
			[]string{"8.8.8.8:54", "8.8.4.4:53"}},
		{approval.Allow().ForSession().AnyPort().Subdomains(), "8.8.8.8:53",
			[]string{"8.8.8.8:53", "8.8.8.8:80"},
			[]string{"8.8.4.4:53", "1.8.8.8:53"}},
		{approval.Allow().ForSession().AnyPort().Subdomains(), "[2606:4700::1111]:53",
			[]string{"[2606:4700::1111]:80", "[2606:4700:0:0::1111]:80"},
			[]string{"[2606:4700::1112]:53"}},
		{approval.Allow().ForSession().Subdomains(), "localhost:80",
			[]string{"localhost:80"},
			[]string{"a.localhost:80", "localhost:81"}},
		{approval.Allow().ForSession().Subdomains(), "a.localhost:80",
			[]string{"a.localhost:80"},
			[]string{"b.a.localhost:80", "localhost:80"}},
	} {
		t.Run(test.decision.String()+" of "+test.asked, func(t *testing.T) {
			t.Parallel()
			decider, _ := answerOnce(test.decision)
			a := newAsked(t, decider, nil)
			asking := a.base
			asking.AskLocal = true
			a.gate.Install(&asking)
			if v := a.decideGet(test.asked); !v.Allowed || v.Source != policy.SourceDecider {
				t.Fatalf("%+v", v)
			}
			for _, target := range test.covers {
				for _, protocol := range []policy.Protocol{policy.ProtocolHTTP, policy.ProtocolHTTPSConnect, policy.ProtocolSOCKS5TCP, policy.ProtocolSOCKS5UDP} {
					req := a.get(target)
					req.Protocol = protocol
					if v := a.gate.Decide(context.Background(), req); !v.Allowed || v.Source != policy.SourceDecider {
						t.Errorf("%s over %s: %+v, want allowed by the grant", target, protocol, v)
					}
				}
			}
			for _, target := range test.not {
				if v := a.decideGet(target); v.Allowed {
					t.Errorf("%s is allowed, want refused", target)
				}
			}
			other := a.get(test.asked)
			other.Principal, _ = a.principal(other.Principal.Attribution().Command)
			if v := a.gate.Decide(context.Background(), other); v.Allowed {
				t.Error("the grant covers another session")
			}
		})
	}
}

func TestGrantDuration(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		uses     int           // requests allowed before one is refused; -1 means unlimited
		after    time.Duration // time until requests are refused; 0 means never
	}{
		{approval.Allow(), 1, 1},
		{approval.Allow().AnyPort().Subdomains(), 1, 1},
		{approval.Allow().Times(1), 1, 1},
		{approval.Allow().Times(3), 3, 0},
		{approval.Allow().Times(3).ForSession(), 3, 0},
		{approval.Allow().For(time.Minute), -1, time.Minute},
		{approval.Allow().For(time.Minute).ForSession(), -1, time.Minute},
		{approval.Allow().Times(3).For(time.Minute), 3, time.Minute},
		{approval.Allow().ForSession(), -1, 0},
	} {
		t.Run(test.decision.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				decider, _ := answerOnce(test.decision)
				a := newAsked(t, decider, nil)
				uses := 0
				for uses < 100 && a.decideGet("miss.example:80").Allowed {
					uses++
				}
				if want := test.uses; uses != want && (want != -1 || uses != 100) {
					t.Errorf("%d allowed, want %d", uses, want)
				}
				if test.uses >= 0 && len(a.gate.Grants.List()) != 0 {
					t.Errorf("used up but listed: %+v", a.gate.Grants.List())
				}

				decider, _ = answerOnce(test.decision)
				a = newAsked(t, decider, nil)
				a.decideGet("miss.example:80")
				if test.after == 0 {
					time.Sleep(1000 * time.Hour)
					if !a.decideGet("miss.example:80").Allowed {
						t.Error("refused after a long time")
					}
					a.close()
					a.gate.Drop(&a.from.Owner)
					if len(a.gate.Grants.List()) != 0 {
						t.Errorf("grants after the end of the session: %+v", a.gate.Grants.List())
					}
					return
				}
				time.Sleep(test.after - 1)
				if test.after > 1 && !a.decideGet("miss.example:80").Allowed {
					t.Error("refused just before its end")
				}
				time.Sleep(time.Nanosecond)
				if a.decideGet("miss.example:80").Allowed {
					t.Error("allowed after its end")
				}
				if len(a.gate.Grants.List()) != 0 {
					t.Errorf("expired but listed: %+v", a.gate.Grants.List())
				}
			})
		})
	}
}

func TestTimesIsExact(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		each  func(a *asked, i int) *gate.Request
		early int // requests before
	}{
		{"one question", func(a *asked, _ int) *gate.Request { return a.get("miss.example:80") }, 0},
		{"an existing grant", func(a *asked, _ int) *gate.Request { return a.get("miss.example:80") }, 1},
		{"different requests, an existing grant", func(a *asked, i int) *gate.Request {
			req := a.get("miss.example:80")
			req.Method = fmt.Sprint("M", i)
			return req
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			decider, _ := answerOnce(approval.Allow().Times(5))
			a := newAsked(t, decider, func(c *gate.Config) { c.Questions = 10_000 })
			for range test.early {
				if !a.decideGet("miss.example:80").Allowed {
					t.Fatal("the first was refused")
				}
			}
			allowed, _ := a.decideAll(1000, func(i int) *gate.Request { return test.each(a, i) }, nil)
			if allowed+test.early != 5 {
				t.Errorf("%d allowed, want 5", allowed+test.early)
			}
		})
	}
}

// The waiting requests take the uses first. Later requests get the rest.
func TestTimesServesTheWaitingFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		get := func(int) *gate.Request { return a.get("miss.example:80") }
		allowed, refused := a.decideAll(10, get, func() {
			p.answers <- approval.Allow().Times(4)
			synctest.Wait()
			p.answers <- approval.Allow().Times(3)
			synctest.Wait()
			p.answers <- approval.Deny("enough")
		})
		if allowed != 7 || refused["enough"] != 3 || p.calls.Load() != 3 {
			t.Errorf("%d allowed, refused: %v, %d calls", allowed, refused, p.calls.Load())
		}
		time.Sleep(approval.DenialTTL)
		allowed, _ = a.decideAll(2, get, func() { p.answers <- approval.Allow().Times(5) })
		if list := a.gate.Grants.List(); allowed != 2 || len(list) != 1 || list[0].UsesLeft != 3 {
			t.Errorf("%d allowed, then %+v", allowed, list)
		}
	})
}

func TestGrantOverridesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*testing.T, *policy.Policy)
		reason Reason
	}{
		{"denylist", func(t *testing.T, p *policy.Policy) { p.Deny = hosts(t, "**.miss.example") }, policy.ReasonDenied},
		{"mode", func(_ *testing.T, p *policy.Policy) { p.Mode = policy.ModeLimited }, policy.ReasonMethodNotAllowed},
		{"off", func(_ *testing.T, p *policy.Policy) { p.Enabled = false }, policy.ReasonProxyDisabled},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				post := func(a *asked) *gate.Request {
					req := a.get("miss.example:80")
					req.Method = "POST"
					return req
				}
				decider, _ := answerOnce(approval.Allow().Times(10).AnyPort().Subdomains())
				a := newAsked(t, decider, nil)
				a.gate.Decide(context.Background(), post(a))
				a.install(func(p *policy.Policy) { test.change(t, p) })
				if v := a.gate.Decide(context.Background(), post(a)); v.Allowed || v.Reason != test.reason {
					t.Errorf("%+v", v)
				}
				if left := a.gate.Grants.List()[0].UsesLeft; left != 9 {
					t.Errorf("%d uses left; a refusal took one", left)
				}
				a.install(nil)
				if v := a.gate.Decide(context.Background(), post(a)); !v.Allowed {
					t.Errorf("after the policy was restored: %+v", v)
				}

				// The policy changes during the call of the decider.
				p := newPanel(true)
				a = newAsked(t, p.decide, nil)
				allowed, refused := a.decideAll(3, func(int) *gate.Request { return post(a) }, func() {
					a.install(func(p *policy.Policy) { test.change(t, p) })
					p.answers <- approval.Allow().ForSession()
				})
				if allowed != 0 || refused[test.reason] != 3 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
			})
		})
	}

	t.Run("local network", func(t *testing.T) {
		t.Parallel()
		decider, _ := answerOnce(approval.Allow().ForSession().AnyPort().Subdomains())
		a := newAsked(t, decider, nil)
		a.decideGet("miss.example:80")
		for _, local := range []string{"127.0.0.1:80", "localhost:80", "miss.localhost:80", "10.0.0.1:80", "[::1]:80"} {
			if v := a.decideGet(local); v.Allowed || v.Reason != policy.ReasonNotAllowedLocal {
				t.Errorf("%s: %+v", local, v)
			}
		}
	})
}

// A host that is added to the allowlist during the question needs no grant.
func TestAllowlistedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		var v gate.Ruling
		var decided sync.WaitGroup
		decided.Go(func() { v = a.decideGet("miss.example:80") })
		synctest.Wait()
		a.install(func(p *policy.Policy) { p.Allow = hosts(t, "miss.example") })
		p.answers <- approval.Allow()
		decided.Wait()
		if !v.Allowed || v.Source != policy.SourceBaselinePolicy || v.Grant != nil {
			t.Errorf("%+v", v)
		}
	})
}

// A request to an allowlisted host takes no use of a grant.
func TestAllowlistedUsesNoGrant(t *testing.T) {
	t.Parallel()
	decider, calls := answerOnce(approval.Allow().Times(3))
	a := newAsked(t, decider, nil)
	a.decideGet("miss.example:80")
	a.install(func(p *policy.Policy) { p.Allow = hosts(t, "miss.example") })
	for range 10 {
		if v := a.decideGet("miss.example:80"); !v.Allowed || v.Source != policy.SourceBaselinePolicy || v.Grant != nil {
			t.Fatalf("%+v", v)
		}
	}
	if left := a.gate.Grants.List()[0].UsesLeft; left != 2 || calls.Load() != 1 {
		t.Errorf("%d uses left, %d calls", left, calls.Load())
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	decider, calls := answerOnce(approval.Allow().ForSession())
	a := newAsked(t, decider, nil)
	v := a.decideGet("miss.example:80")
	id := a.gate.Grants.List()[0].ID
	if _, err := a.gate.Revoke(id); err != nil {
		t.Fatal(err)
	}
	if !v.Grant.Revoked() || len(a.gate.Grants.List()) != 0 {
		t.Errorf("revoked: %t; left: %v", v.Grant.Revoked(), a.gate.Grants.List())
	}
	if v := a.decideGet("miss.example:80"); v.Allowed || calls.Load() != 2 {
		t.Errorf("after it was revoked: %+v, %d calls", v, calls.Load())
	}
	for _, id := range []uint64{id, 0, 99} {
		if _, err := a.gate.Revoke(id); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("grant %d: ", id)) {
			t.Errorf("revoking %d: %v", id, err)
		}
	}
}

// A used-up grant is listed and can be revoked while a request that it has let in is
// open.
func TestGrantInUseIsListed(t *testing.T) {
	t.Parallel()
	decider, _ := answerOnce(approval.Allow())
	a := newAsked(t, decider, nil)
	v := a.decideGet("miss.example:80")
	if list := a.gate.Grants.List(); len(list) != 0 {
		t.Errorf("before: %v", list)
	}
	ctx, stop := v.Grant.WithContext(context.Background())
	defer stop()
	first := v.Grant.Acquire()
	second := v.Grant.Acquire()
	if list := a.gate.Grants.List(); len(list) != 1 || list[0].Active != 2 || list[0].UsesLeft != 0 {
		t.Errorf("during: %+v", list)
	}
	second()
	second()
	if list := a.gate.Grants.List(); len(list) != 1 || list[0].Active != 1 {
		t.Errorf("during: %+v", list)
	}
	if _, err := a.gate.Revoke(v.Grant.ID); err != nil {
		t.Error(err)
	}
	<-ctx.Done()
	if list := a.gate.Grants.List(); len(list) != 0 {
		t.Errorf("revoked: %+v", list)
	}
	first()
	late := v.Grant.Acquire()
	if list := a.gate.Grants.List(); len(list) != 0 {
		t.Errorf("after: %+v", list)
	}
	late()
}

// An answer that arrives after the end of its session creates no grant.
func TestClosedSessionIsGrantedNothing(t *testing.T) {
	t.Parallel()
	a := newAsked(t, nil, nil)
	a.close()
	approval.Issue(a.gate.Grants, a.get("miss.example:80").ApprovalRequest(), approval.Allow().ForSession(), 1, false)
	if list := a.gate.Grants.List(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestGrantInfo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		for _, d := range []Decision{
			approval.Allow().Times(3).For(time.Hour).Subdomains(), approval.Allow().ForSession().AnyPort(), approval.Allow().ForSession().Subdomains(),
		} {
			target := []string{"a.example:443", "a.example:444", "8.8.8.8:53"}[p.calls.Load()]
			a.decideAll(1, func(int) *gate.Request { return a.get(target) }, func() { p.answers <- d })
		}
		created := time.Now().Round(0)
		want := []approval.GrantInfo{
			{ID: 1, Host: "**.a.example", Port: 443, Command: "curl", UsesLeft: 2, Created: created, Expires: created.Add(time.Hour)},
			{ID: 2, Host: "a.example", Command: "curl", UsesLeft: -1, Created: created},
			{ID: 3, Host: "8.8.8.8", Port: 53, Command: "curl", UsesLeft: -1, Created: created},
		}
		if got := a.gate.Grants.List(); !slices.Equal(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestGrantsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) {
			return approval.Allow().For(time.Minute), nil
		}, nil)
		for i := range approval.MaxGrants + 10 {
			if !a.decideGet(fmt.Sprintf("h%d.example:80", i)).Allowed {
				t.Fatalf("request %d was refused", i)
			}
		}
		if n := len(a.gate.Grants.List()); n != approval.MaxGrants {
			t.Errorf("%d grants, want %d", n, approval.MaxGrants)
		}
		time.Sleep(time.Minute)
		a.decideGet("fresh.example:80")
		if n := a.gate.Grants.Len(); n != 1 {
			t.Errorf("%d grants after all expired and one was added, want 1", n)
		}
	})
}

// modelGrant is a grant of the model, which has no index.
type modelGrant struct {
	id                  uint64
	session, port       int
	host                string
	anyPort, subdomains bool
	left                int // -1: unlimited
	expires             time.Time
}

func (m *modelGrant) covers(session int, host string, port int, now time.Time) bool {
	return m.left != 0 && m.session == session && (m.expires.IsZero() || now.Before(m.expires)) &&
		(m.anyPort || m.port == port) && (m.host == host || m.subdomains && strings.HasSuffix(host, "."+m.host))
}

// TestGrantsOracle compares Grants with a model that searches a plain list.
func TestGrantsOracle(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { grantsOracle(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func grantsOracle(t *testing.T, r *rand.Rand) {
	hosts := []string{"example", "a.example", "b.a.example", "c.b.a.example", "b.example", "aa.example"}
	var answer Decision
	a := newAsked(t, func(context.Context, *approval.Request) (Decision, error) { return answer, nil }, nil)
	sessions := make([]*gate.Principal, 3)
	for i := range sessions {
		sessions[i], _ = a.principal("")
	}
	var model []*modelGrant
	last := uint64(0)
	for step := range testnet.Scaled(2000) {
		now := time.Now()
		switch r.IntN(12) {
		case 0:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 1:
			if len(model) > 0 {
				m := model[r.IntN(len(model))]
				alive := m.left != 0 && (m.expires.IsZero() || now.Before(m.expires))
				if _, err := a.gate.Revoke(m.id); (err == nil) != alive {
					t.Fatalf("step %d: revoking %+v: %v", step, m, err)
				}
				m.left = 0
			}
		case 2:
			s := r.IntN(len(sessions))
			a.gate.Drop(&sessions[s].Owner)
			for _, m := range model {
				if m.session == s {
					m.left = 0
				}
			}
		default:
			s, host, port := r.IntN(len(sessions)), hosts[r.IntN(len(hosts))], 80+r.IntN(2)
			made := &modelGrant{session: s, host: host, port: port}
			answer = approval.Allow()
			switch r.IntN(4) {
			case 0:
				n := 1 + r.IntN(3)
				answer = answer.Times(n)
				made.left = n - 1
			case 1:
				answer = answer.ForSession()
				made.left = -1
			case 2:
				d := time.Duration(1+r.IntN(5)) * time.Second
				answer = answer.For(d)
				made.left, made.expires = -1, now.Add(d)
			}
			if r.IntN(3) == 0 {
				answer = answer.AnyPort()
				made.anyPort = true
			}
			if r.IntN(3) == 0 {
				answer = answer.Subdomains()
				made.subdomains = true
			}
			req := a.get(fmt.Sprintf("%s:%d", host, port))
			req.Principal = sessions[s]
			v := a.gate.Decide(context.Background(), req)
			if !v.Allowed || v.Grant == nil {
				t.Fatalf("step %d: %+v", step, v)
			}

			covering := slices.DeleteFunc(slices.Clone(model), func(m *modelGrant) bool { return !m.covers(s, host, port, now) })
			if (v.Grant.ID > last) != (len(covering) == 0) {
				t.Fatalf("step %d: %s:%d of session %d allowed by grant %d; the model has %v", step, host, port, s, v.Grant.ID, covering)
			}
			if v.Grant.ID > last {
				last = v.Grant.ID
				made.id = last
				model = append(model, made)
				break
			}
			best := slices.MaxFunc(covering, func(m, o *modelGrant) int {
				if len(m.host) != len(o.host) {
					return len(m.host) - len(o.host)
				}
				return int(o.id) - int(m.id)
			})
			if best.id != v.Grant.ID {
				t.Fatalf("step %d: allowed by grant %d, want %+v", step, v.Grant.ID, best)
			}
			if best.left > 0 {
				best.left--
			}
		}
		checkGrants(t, step, a.gate.Grants, model)
	}
}

// checkGrants compares the list with the model, and the index with the list.
func checkGrants(t *testing.T, step int, g *approval.Grants, model []*modelGrant) {
	t.Helper()
	now := time.Now()
	want := make(map[uint64]int)
	for _, m := range model {
		if m.left != 0 && (m.expires.IsZero() || now.Before(m.expires)) {
			want[m.id] = m.left
		}
	}
	got := make(map[uint64]int)
	for _, l := range g.List() {
		got[l.ID] = l.UsesLeft
	}
	if !maps.Equal(got, want) {
		t.Fatalf("step %d: uses left by grant: %v, want %v", step, got, want)
	}
	if n, ok := g.Indexed(); !ok || n != len(want) {
		t.Fatalf("step %d: %d indexed, all in place: %t, want %d", step, n, ok, len(want))
	}
}
