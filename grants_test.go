// Grants: how far and how long each goes, that it is counted exactly, and
// that it is never more than the decider's word.

package networkproxy

import (
	"context"
	"encoding/json"
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
)

// answerOnce is a decider that gives one answer, and denies from then on.
func answerOnce(d Decision) (PolicyDecider, *atomic.Int64) {
	var calls atomic.Int64
	return func(context.Context, PolicyRequest) (Decision, error) {
		if calls.Add(1) == 1 {
			return d, nil
		}
		return Deny("once was enough"), nil
	}, &calls
}

func TestDecisionTerms(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		want     string
	}{
		{Decision{}, "deny()"},
		{Allow(), "allow"},
		{Allow().Times(3), "allow(times 3)"},
		{Allow().Times(3).Times(5), "allow(times 5)"},
		{Allow().Times(0), "deny()"},
		{Allow().Times(-1), "deny()"},
		{Allow().Times(0).Times(5).For(time.Hour).ForSession().AnyPort().Subdomains(), "deny()"},
		{Allow().For(time.Minute), "allow(for 1m0s)"},
		{Allow().For(0), "deny()"},
		{Allow().For(-time.Second), "deny()"},
		{Allow().ForSession().AnyPort().Subdomains(), "allow(for the session, any port, subdomains)"},
		{Allow().Times(2).For(time.Second).Subdomains(), "allow(times 2, for 1s, subdomains)"},
		{Deny("no").Times(5).For(time.Hour).ForSession().AnyPort().Subdomains(), "deny(no)"},
		{Ask("please").Times(0).For(0).ForSession().AnyPort().Subdomains(), "ask(please)"},
	} {
		if got := test.decision.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
		if allows := strings.HasPrefix(test.want, "allow"); test.decision.d.Allow != allows {
			t.Errorf("%s: allow is %t", test.want, test.decision.d.Allow)
		}
	}
}

func TestHowFarAGrantGoes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		asked    string
		covers   []string
		not      []string
	}{
		{Allow().ForSession(), "a.example:443",
			[]string{"a.example:443"},
			[]string{"a.example:80", "www.a.example:443", "example:443", "xa.example:443", "a.example.com:443"}},
		{Allow().ForSession().AnyPort(), "a.example:443",
			[]string{"a.example:443", "a.example:80", "a.example:65535"},
			[]string{"www.a.example:443", "b.example:443"}},
		{Allow().ForSession().Subdomains(), "a.example:443",
			[]string{"a.example:443", "www.a.example:443", "x.y.z.a.example:443"},
			[]string{"a.example:80", "www.a.example:80", "example:443", "b.example:443", "xa.example:443"}},
		{Allow().ForSession().AnyPort().Subdomains(), "a.example:443",
			[]string{"a.example:443", "www.a.example:80"},
			[]string{"example:443", "xa.example:443"}},
		{Allow().ForSession(), "8.8.8.8:53",
			[]string{"8.8.8.8:53"},
			[]string{"8.8.8.8:54", "8.8.4.4:53"}},
		{Allow().ForSession().AnyPort().Subdomains(), "8.8.8.8:53",
			[]string{"8.8.8.8:53", "8.8.8.8:80"},
			[]string{"8.8.4.4:53", "1.8.8.8:53"}},
		{Allow().ForSession().AnyPort().Subdomains(), "[2606:4700::1111]:53",
			[]string{"[2606:4700::1111]:80", "[2606:4700:0:0::1111]:80"},
			[]string{"[2606:4700::1112]:53"}},
	} {
		t.Run(test.decision.String()+" of "+test.asked, func(t *testing.T) {
			t.Parallel()
			decider, _ := answerOnce(test.decision)
			a := newAsked(t, decider, nil)
			if v := a.decideGet(test.asked); !v.Allowed || v.Source != SourceDecider {
				t.Fatalf("%+v", v)
			}
			for _, target := range test.covers {
				for _, protocol := range []Protocol{ProtocolHTTP, ProtocolHTTPSConnect, ProtocolSOCKS5TCP, ProtocolSOCKS5UDP} {
					req := a.get(target)
					req.Protocol = protocol
					if v := a.gate.decide(context.Background(), req); !v.Allowed || v.Source != SourceDecider {
						t.Errorf("%s by %s: %+v, want it covered", target, protocol, v)
					}
				}
			}
			for _, target := range test.not {
				if v := a.decideGet(target); v.Allowed {
					t.Errorf("%s is covered", target)
				}
			}
			other := a.get(test.asked)
			other.principal, _ = a.principal(Attribution(other.principal.attribution))
			if v := a.gate.decide(context.Background(), other); v.Allowed {
				t.Error("it covers another session")
			}
		})
	}
}

func TestHowLongAGrantLasts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		decision Decision
		uses     int           // that many one after another, then refused; -1: no end
		after    time.Duration // from when it is refused; 0: never
	}{
		{Allow(), 1, 1},
		{Allow().AnyPort().Subdomains(), 1, 1},
		{Allow().Times(1), 1, 1},
		{Allow().Times(3), 3, 0},
		{Allow().Times(3).ForSession(), 3, 0},
		{Allow().For(time.Minute), -1, time.Minute},
		{Allow().For(time.Minute).ForSession(), -1, time.Minute},
		{Allow().Times(3).For(time.Minute), 3, time.Minute},
		{Allow().ForSession(), -1, 0},
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
					t.Errorf("%d passed, want %d", uses, want)
				}
				if test.uses >= 0 && len(a.gate.grants.list()) != 0 {
					t.Errorf("used up and still there: %+v", a.gate.grants.list())
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
					a.gate.drop(&a.from.owner)
					if len(a.gate.grants.list()) != 0 {
						t.Errorf("left by the session: %+v", a.gate.grants.list())
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
				if len(a.gate.grants.list()) != 0 {
					t.Errorf("over and still there: %+v", a.gate.grants.list())
				}
			})
		})
	}
}

func TestTimesIsExact(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		each  func(a *asked, i int) *request
		early int // requests before
	}{
		{"one question", func(a *asked, _ int) *request { return a.get("miss.example:80") }, 0},
		{"a grant that is there", func(a *asked, _ int) *request { return a.get("miss.example:80") }, 1},
		{"different requests, a grant that is there", func(a *asked, i int) *request {
			req := a.get("miss.example:80")
			req.Method = fmt.Sprint("M", i)
			return req
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			decider, _ := answerOnce(Allow().Times(5))
			a := newAsked(t, decider, func(b *Builder) { b.Limits(Limits{Questions: 10_000}) })
			for range test.early {
				if !a.decideGet("miss.example:80").Allowed {
					t.Fatal("the first was refused")
				}
			}
			allowed, _ := a.decideAll(1000, func(i int) *request { return test.each(a, i) }, nil)
			if allowed+test.early != 5 {
				t.Errorf("%d let through, want 5", allowed+test.early)
			}
		})
	}
}

// The uses go to those who wait for the answer, and what they leave to those
// who come later.
func TestTimesServesTheWaitingFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		get := func(int) *request { return a.get("miss.example:80") }
		allowed, refused := a.decideAll(10, get, func() {
			p.answers <- Allow().Times(4)
			synctest.Wait()
			p.answers <- Allow().Times(3)
			synctest.Wait()
			p.answers <- Deny("enough")
		})
		if allowed != 7 || refused["enough"] != 3 || p.calls.Load() != 3 {
			t.Errorf("%d allowed, refused: %v, %d calls", allowed, refused, p.calls.Load())
		}
		time.Sleep(denialMemory)
		allowed, _ = a.decideAll(2, get, func() { p.answers <- Allow().Times(5) })
		if list := a.gate.grants.list(); allowed != 2 || len(list) != 1 || list[0].UsesLeft != 3 {
			t.Errorf("%d allowed, then %+v", allowed, list)
		}
	})
}

func TestGrantOverridesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		change func(*Config)
		reason Reason
	}{
		{"denylist", func(c *Config) { c.Policy.DeniedDomains = []string{"**.miss.example"} }, ReasonDenied},
		{"mode", func(c *Config) { c.Mode = ModeLimited }, ReasonMethodNotAllowed},
		{"off", func(c *Config) { c.Enabled = false }, ReasonProxyDisabled},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				post := func(a *asked) *request {
					req := a.get("miss.example:80")
					req.Method = "POST"
					return req
				}
				decider, _ := answerOnce(Allow().Times(10).AnyPort().Subdomains())
				a := newAsked(t, decider, nil)
				a.gate.decide(context.Background(), post(a))
				a.install(test.change)
				if v := a.gate.decide(context.Background(), post(a)); v.Allowed || v.Reason != test.reason {
					t.Errorf("%+v", v)
				}
				if left := a.gate.grants.list()[0].UsesLeft; left != 9 {
					t.Errorf("%d uses left; a refusal took one", left)
				}
				a.install(func(*Config) {})
				if v := a.gate.decide(context.Background(), post(a)); !v.Allowed {
					t.Errorf("after the policy was restored: %+v", v)
				}

				// The policy changes while the decider thinks.
				p := newPanel(true)
				a = newAsked(t, p.decide, nil)
				allowed, refused := a.decideAll(3, func(int) *request { return post(a) }, func() {
					a.install(test.change)
					p.answers <- Allow().ForSession()
				})
				if allowed != 0 || refused[test.reason] != 3 {
					t.Errorf("%d allowed, refused: %v", allowed, refused)
				}
			})
		})
	}

	t.Run("local network", func(t *testing.T) {
		t.Parallel()
		decider, _ := answerOnce(Allow().ForSession().AnyPort().Subdomains())
		a := newAsked(t, decider, nil)
		a.decideGet("miss.example:80")
		for _, local := range []string{"127.0.0.1:80", "localhost:80", "miss.localhost:80", "10.0.0.1:80", "[::1]:80"} {
			if v := a.decideGet(local); v.Allowed || v.Reason != ReasonNotAllowedLocal {
				t.Errorf("%s: %+v", local, v)
			}
		}
	})
}

// A host that comes to the allowlist while it is asked about needs no grant.
func TestAllowlistedMeanwhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		var v ruling
		var decided sync.WaitGroup
		decided.Go(func() { v = a.decideGet("miss.example:80") })
		synctest.Wait()
		a.install(func(c *Config) { c.Policy.AllowedDomains = []string{"miss.example"} })
		p.answers <- Allow()
		decided.Wait()
		if !v.Allowed || v.Source != SourceBaselinePolicy || v.grant != nil {
			t.Errorf("%+v", v)
		}
	})
}

// A host that the allowlist names uses nothing up.
func TestAllowlistedUsesNoGrant(t *testing.T) {
	t.Parallel()
	decider, calls := answerOnce(Allow().Times(3))
	a := newAsked(t, decider, nil)
	a.decideGet("miss.example:80")
	a.install(func(c *Config) { c.Policy.AllowedDomains = []string{"miss.example"} })
	for range 10 {
		if v := a.decideGet("miss.example:80"); !v.Allowed || v.Source != SourceBaselinePolicy || v.grant != nil {
			t.Fatalf("%+v", v)
		}
	}
	if left := a.gate.grants.list()[0].UsesLeft; left != 2 || calls.Load() != 1 {
		t.Errorf("%d uses left, %d calls", left, calls.Load())
	}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	decider, calls := answerOnce(Allow().ForSession())
	a := newAsked(t, decider, nil)
	v := a.decideGet("miss.example:80")
	id := a.gate.grants.list()[0].ID
	if _, err := a.gate.revoke(id); err != nil {
		t.Fatal(err)
	}
	if !v.grant.wasRevoked() || len(a.gate.grants.list()) != 0 {
		t.Errorf("revoked: %t; left: %v", v.grant.wasRevoked(), a.gate.grants.list())
	}
	if v := a.decideGet("miss.example:80"); v.Allowed || calls.Load() != 2 {
		t.Errorf("after it was revoked: %+v, %d calls", v, calls.Load())
	}
	for _, id := range []uint64{id, 0, 99} {
		if _, err := a.gate.revoke(id); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("grant %d: ", id)) {
			t.Errorf("revoking %d: %v", id, err)
		}
	}
}

// A grant that is used up stays, and can be revoked, while something that it
// let in is under way.
func TestGrantInUseIsListed(t *testing.T) {
	t.Parallel()
	decider, _ := answerOnce(Allow())
	a := newAsked(t, decider, nil)
	v := a.decideGet("miss.example:80")
	if list := a.gate.grants.list(); len(list) != 0 {
		t.Errorf("before: %v", list)
	}
	ctx, stop := v.grant.withContext(context.Background())
	defer stop()
	first := v.grant.acquire()
	second := v.grant.acquire()
	if list := a.gate.grants.list(); len(list) != 1 || list[0].Active != 2 || list[0].UsesLeft != 0 {
		t.Errorf("during: %+v", list)
	}
	second()
	second()
	if list := a.gate.grants.list(); len(list) != 1 || list[0].Active != 1 {
		t.Errorf("during: %+v", list)
	}
	if _, err := a.gate.revoke(v.grant.id); err != nil {
		t.Error(err)
	}
	<-ctx.Done()
	if list := a.gate.grants.list(); len(list) != 0 {
		t.Errorf("revoked: %+v", list)
	}
	first()
	late := v.grant.acquire()
	if list := a.gate.grants.list(); len(list) != 0 {
		t.Errorf("after: %+v", list)
	}
	late()
}

// An answer that arrives while its session closes leaves nothing behind.
func TestClosedSessionIsGrantedNothing(t *testing.T) {
	t.Parallel()
	a := newAsked(t, nil, nil)
	a.close()
	a.gate.grants.issue(&a.from.owner, testTarget(t, "miss.example:80"), Allow().ForSession().d, 1)
	if list := a.gate.grants.list(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestGrantAsJSON(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPanel(true)
		a := newAsked(t, p.decide, nil)
		for _, d := range []Decision{Allow().Times(3).For(time.Hour).Subdomains(), Allow().ForSession().AnyPort(), Allow().ForSession().Subdomains()} {
			target := []string{"a.example:443", "a.example:444", "8.8.8.8:53"}[p.calls.Load()]
			a.decideAll(1, func(int) *request { return a.get(target) }, func() { p.answers <- d })
		}
		list := []Grant{}
		for _, g := range a.gate.grants.list() {
			list = append(list, Grant(g))
		}
		got, err := json.Marshal(list)
		created, expires := time.Now().Format(time.RFC3339Nano), time.Now().Add(time.Hour).Format(time.RFC3339Nano)
		want := `[{"id":1,"host":"**.a.example","port":443,"command":"curl","uses_left":2,"active":0,` +
			`"created":"` + created + `","expires":"` + expires + `"},` +
			`{"id":2,"host":"a.example","port":0,"command":"curl","uses_left":-1,"active":0,"created":"` + created + `"},` +
			`{"id":3,"host":"8.8.8.8","port":53,"command":"curl","uses_left":-1,"active":0,"created":"` + created + `"}]`
		if err != nil || string(got) != want {
			t.Errorf("got  %s, %v\nwant %s", got, err, want)
		}
	})
}

func TestGrantsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) { return Allow().For(time.Minute), nil }, nil)
		for i := range maxGrants + 10 {
			if !a.decideGet(fmt.Sprintf("h%d.example:80", i)).Allowed {
				t.Fatalf("request %d was refused", i)
			}
		}
		if n := len(a.gate.grants.list()); n != maxGrants {
			t.Errorf("%d grants, want %d", n, maxGrants)
		}
		time.Sleep(time.Minute)
		a.decideGet("fresh.example:80")
		if n := len(a.gate.grants.all); n != 1 {
			t.Errorf("%d grants after those had expired and one was made", n)
		}
	})
}

// modelGrant is a grant as a list without any index has it.
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

// The grants against a model that looks at each of them.
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
	a := newAsked(t, func(context.Context, PolicyRequest) (Decision, error) { return answer, nil }, nil)
	sessions := make([]*principal, 3)
	for i := range sessions {
		sessions[i], _ = a.principal(Attribution{})
	}
	var model []*modelGrant
	last := uint64(0)
	for step := range 2000 {
		now := time.Now()
		switch r.IntN(12) {
		case 0:
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
		case 1:
			if len(model) > 0 {
				m := model[r.IntN(len(model))]
				alive := m.left != 0 && (m.expires.IsZero() || now.Before(m.expires))
				if _, err := a.gate.revoke(m.id); (err == nil) != alive {
					t.Fatalf("step %d: revoking %+v: %v", step, m, err)
				}
				m.left = 0
			}
		case 2:
			s := r.IntN(len(sessions))
			a.gate.drop(&sessions[s].owner)
			for _, m := range model {
				if m.session == s {
					m.left = 0
				}
			}
		default:
			s, host, port := r.IntN(len(sessions)), hosts[r.IntN(len(hosts))], 80+r.IntN(2)
			made := &modelGrant{session: s, host: host, port: port}
			answer = Allow()
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
			req.principal = sessions[s]
			v := a.gate.decide(context.Background(), req)
			if !v.Allowed || v.grant == nil {
				t.Fatalf("step %d: %+v", step, v)
			}

			covering := slices.DeleteFunc(slices.Clone(model), func(m *modelGrant) bool { return !m.covers(s, host, port, now) })
			if (v.grant.id > last) != (len(covering) == 0) {
				t.Fatalf("step %d: %s:%d of session %d passed by grant %d; covering it: %v", step, host, port, s, v.grant.id, covering)
			}
			if v.grant.id > last {
				last = v.grant.id
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
			if best.id != v.grant.id {
				t.Fatalf("step %d: passed by grant %d, want %+v", step, v.grant.id, best)
			}
			if best.left > 0 {
				best.left--
			}
		}
		checkGrants(t, step, a.gate.grants, model)
	}
}

// checkGrants compares the list with the model, and the index with the list.
func checkGrants(t *testing.T, step int, g *grants, model []*modelGrant) {
	t.Helper()
	now := time.Now()
	want := make(map[uint64]int)
	for _, m := range model {
		if m.left != 0 && (m.expires.IsZero() || now.Before(m.expires)) {
			want[m.id] = m.left
		}
	}
	got := make(map[uint64]int)
	for _, l := range g.list() {
		got[l.ID] = l.UsesLeft
	}
	if !maps.Equal(got, want) {
		t.Fatalf("step %d: uses left by grant: %v, want %v", step, got, want)
	}
	indexed := 0
	for key, list := range g.usable {
		for _, one := range list {
			indexed++
			if one.usesLeft == 0 || one.key() != key || g.all[one.id] != one {
				t.Fatalf("step %d: misplaced under %v: %+v", step, key, one)
			}
		}
	}
	if indexed != len(want) || g.n.Load() != int64(indexed) {
		t.Fatalf("step %d: %d indexed, counted as %d, want %d", step, indexed, g.n.Load(), len(want))
	}
}
