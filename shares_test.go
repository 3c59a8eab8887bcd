// Fair shares: what one session has much of is not taken from the others.

package networkproxy

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// by is a GET of a principal's.
func (a *asked) by(from *principal, hostport string) *request {
	r := a.get(hostport)
	r.principal = from
	return r
}

// One session that uses as much of a budget as it can leaves another its part.
func TestFairShares(t *testing.T) {
	t.Parallel()
	answer := func(d Decision) PolicyDecider {
		return func(context.Context, PolicyRequest) (Decision, error) { return d, nil }
	}
	for _, test := range []struct {
		name    string
		decider PolicyDecider
		limits  Limits
		run     func(t *testing.T, a *asked, greedy, modest *principal, log *testnet.Buffer)
	}{
		{
			name: "questions", limits: Limits{Questions: 8},
			decider: func(ctx context.Context, r PolicyRequest) (Decision, error) {
				if r.Command == "modest" {
					return Allow(), nil
				}
				<-ctx.Done()
				return Decision{}, ctx.Err()
			},
			run: func(t *testing.T, a *asked, greedy, modest *principal, _ *testnet.Buffer) {
				each := func(i int) *request { return a.by(greedy, fmt.Sprintf("h%d.example:80", i)) }
				_, refused := a.decideAll(20, each, func() {
					if v := a.gate.decide(t.Context(), a.by(modest, "m.example:80")); !v.Allowed {
						t.Errorf("a modest session's question: %+v", v)
					}
				})
				if refused[ReasonDeciderBusy] == 0 {
					t.Errorf("the greedy session was not held back: %v", refused)
				}
			},
		},
		{
			name: "denials that are remembered", decider: answer(Deny("no")),
			run: func(t *testing.T, a *asked, greedy, modest *principal, _ *testnet.Buffer) {
				asked := 0
				deny := a.gate.asker.decider
				a.gate.asker.decider = func(ctx context.Context, r *askedRequest) (decision, error) {
					if r.Owner.attribution.Command == "modest" {
						asked++
					}
					return deny(ctx, r)
				}
				for i := range 2 * maxDenials {
					if i%maxDenials == 0 {
						a.gate.decide(t.Context(), a.by(modest, "m.example:80"))
					}
					a.gate.decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
				}
				a.gate.decide(t.Context(), a.by(modest, "m.example:80"))
				if asked != 1 {
					t.Errorf("the modest session's denial was forgotten: asked %d times", asked)
				}
			},
		},
		{
			name: "grants", decider: answer(Allow().ForSession()),
			run: func(t *testing.T, a *asked, greedy, modest *principal, _ *testnet.Buffer) {
				for i := range maxGrants + 10 {
					a.gate.decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
				}
				a.gate.decide(t.Context(), a.by(modest, "m.example:80"))
				for i := range 10 {
					a.gate.decide(t.Context(), a.by(greedy, fmt.Sprintf("i%d.example:80", i)))
				}
				if a.gate.grants.use(&modest.owner, testTarget(t, "m.example:80")) == nil {
					t.Error("the modest session has no grant that lasts")
				}
				if n := len(a.gate.grants.list()); n != maxGrants {
					t.Errorf("%d grants, want %d", n, maxGrants)
				}
			},
		},
		{
			name: "the record", decider: answer(Deny("no")), limits: Limits{BlockedKept: 10},
			run: func(t *testing.T, a *asked, greedy, modest *principal, _ *testnet.Buffer) {
				a.gate.refused(a.by(modest, "m.example:80"), policy.Verdict{Reason: ReasonDenied})
				for i := range 100 {
					a.gate.refused(a.by(greedy, fmt.Sprintf("h%d.example:80", i)), policy.Verdict{Reason: ReasonDenied})
				}
				list, total := a.gate.blocked.list()
				if len(list) != 10 || total != 101 || list[0].Host != "m.example" || list[9].Host != "h99.example" || list[1].Host != "h91.example" {
					t.Errorf("%d kept of %d: %+v", len(list), total, list)
				}
			},
		},
		{
			// Each of them has a refusal that nobody displaces.
			name: "the record, after many sessions", decider: answer(Deny("no")), limits: Limits{BlockedKept: 4},
			run: func(t *testing.T, a *asked, _, modest *principal, _ *testnet.Buffer) {
				for i := range 8 {
					ended, end := a.principal(Attribution{})
					if i%2 == 0 {
						a.gate.refused(a.by(ended, "old.example:80"), policy.Verdict{Reason: ReasonDenied})
					}
					end()
					a.gate.drop(&ended.owner)
					if i%2 != 0 { // late
						a.gate.refused(a.by(ended, "old.example:80"), policy.Verdict{Reason: ReasonDenied})
					}
				}
				for i := range 3 {
					a.gate.refused(a.by(modest, fmt.Sprintf("m%d.example:80", i)), policy.Verdict{Reason: ReasonDenied})
				}
				list, total := a.gate.blocked.list()
				if len(list) != 4 || total != 11 || list[1].Host != "old.example" || list[2].Host != "m1.example" {
					t.Errorf("%d kept of %d: %+v", len(list), total, list)
				}
			},
		},
		{
			name: "log lines", decider: answer(Deny("no")), limits: Limits{LogLinesPerSecond: 8},
			run: func(t *testing.T, a *asked, greedy, modest *principal, log *testnet.Buffer) {
				for i := range 100 {
					a.gate.refused(a.by(greedy, fmt.Sprintf("h%d.example:80", i)), policy.Verdict{Reason: ReasonDenied})
				}
				a.gate.refused(a.by(modest, "m.example:80"), policy.Verdict{Reason: ReasonDenied})
				if s := log.String(); !strings.Contains(s, "host=m.example") {
					t.Errorf("no line about the modest session's request: %s", s)
				}
			},
		},
		{
			// Which host the grants are for cannot be told from the log then.
			name: "log lines about grants", decider: answer(Allow().ForSession()), limits: Limits{LogLinesPerSecond: 8},
			run: func(t *testing.T, a *asked, greedy, _ *principal, log *testnet.Buffer) {
				for i := range maxGrants + 100 {
					a.gate.decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
				}
				synctest.Wait()
				if n := strings.Count(log.String(), "level="); n > 8 {
					t.Errorf("%d lines in a second, the limit is 8", n)
				}
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var log testnet.Buffer
				a := newAsked(t, test.decider, func(b *Builder) {
					b.DeciderTimeout(time.Second).Limits(test.limits).
						Logger(slog.New(slog.NewTextHandler(&log, nil)))
				})
				greedy, _ := a.principal(Attribution{Command: "greedy"})
				modest, _ := a.principal(Attribution{Command: "modest"})
				test.run(t, a, greedy, modest, &log)
				a.gate.lines.close()
			})
		})
	}
}
