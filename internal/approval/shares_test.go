// Tests of fair shares: a session that uses much leaves the others their part.

package approval_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/testnet"
)

// limits holds the limits that a test changes; zero means the default.
type limits struct{ Questions, BlockedKept, LogLinesPerSecond int }

// by returns a GET of a principal.
func (a *asked) by(from *gate.Principal, hostport string) *gate.Request {
	r := a.get(hostport)
	r.Principal = from
	return r
}

// TestFairShares checks for each limit that one session cannot use up the share of
// another.
func TestFairShares(t *testing.T) {
	t.Parallel()
	answer := func(d Decision) decider {
		return func(context.Context, *approval.Request) (Decision, error) { return d, nil }
	}
	for _, test := range []struct {
		name    string
		decider decider
		limits  limits
		run     func(t *testing.T, a *asked, greedy, modest *gate.Principal, log *testnet.Buffer)
	}{
		{
			name: "questions", limits: limits{Questions: 8},
			decider: func(ctx context.Context, r *approval.Request) (Decision, error) {
				if r.Attribution.Command == "modest" {
					return approval.Allow(), nil
				}
				<-ctx.Done()
				return Decision{}, ctx.Err()
			},
			run: func(t *testing.T, a *asked, greedy, modest *gate.Principal, _ *testnet.Buffer) {
				each := func(i int) *gate.Request { return a.by(greedy, fmt.Sprintf("h%d.example:80", i)) }
				_, refused := a.decideAll(20, each, func() {
					if v := a.gate.Decide(t.Context(), a.by(modest, "m.example:80")); !v.Allowed {
						t.Errorf("a modest session's question: %+v", v)
					}
				})
				if refused[policy.ReasonDeciderBusy] == 0 {
					t.Errorf("the greedy session was not limited: %v", refused)
				}
			},
		},
		{
			name: "remembered denials", decider: answer(approval.Deny("no")),
			run: func(t *testing.T, a *asked, greedy, modest *gate.Principal, _ *testnet.Buffer) {
				asked := 0
				deny := a.gate.Asker.Decider
				a.gate.Asker.Decider = func(ctx context.Context, r *approval.Request) (approval.Decision, error) {
					if r.Attribution.Command == "modest" {
						asked++
					}
					return deny(ctx, r)
				}
				for i := range 2 * approval.MaxDenials {
					if i%approval.MaxDenials == 0 {
						a.gate.Decide(t.Context(), a.by(modest, "m.example:80"))
					}
					a.gate.Decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
				}
				a.gate.Decide(t.Context(), a.by(modest, "m.example:80"))
				if asked != 1 {
					t.Errorf("the modest session's denial was forgotten: asked %d times", asked)
				}
			},
		},
		{
			name: "grants", decider: answer(approval.Allow().ForSession()),
			run: func(t *testing.T, a *asked, greedy, modest *gate.Principal, _ *testnet.Buffer) {
				for i := range approval.MaxGrants + 10 {
					a.gate.Decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
				}
				a.gate.Decide(t.Context(), a.by(modest, "m.example:80"))
				for i := range 10 {
					a.gate.Decide(t.Context(), a.by(greedy, fmt.Sprintf("i%d.example:80", i)))
				}
				if a.gate.Grants.Use(&modest.Owner, testTarget(t, "m.example:80")) == nil {
					t.Error("the modest session has lost its grant")
				}
				if n := len(a.gate.Grants.List()); n != approval.MaxGrants {
					t.Errorf("%d grants, want %d", n, approval.MaxGrants)
				}
			},
		},
		{
			name: "the record", decider: answer(approval.Deny("no")), limits: limits{BlockedKept: 10},
			run: func(t *testing.T, a *asked, greedy, modest *gate.Principal, _ *testnet.Buffer) {
				a.gate.Refused(a.by(modest, "m.example:80"), policy.Verdict{Reason: policy.ReasonDenied})
				for i := range 100 {
					a.gate.Refused(a.by(greedy, fmt.Sprintf("h%d.example:80", i)), policy.Verdict{Reason: policy.ReasonDenied})
				}
				list, total := a.gate.Blocked.List()
				if len(list) != 10 || total != 101 || list[0].Target.Host.String() != "m.example" || list[9].Target.Host.String() != "h99.example" || list[1].Target.Host.String() != "h91.example" {
					t.Errorf("%d kept of %d: %+v", len(list), total, list)
				}
			},
		},
		{
			// With separate shares, the refusals of ended sessions would keep their places.
			name: "the record, after many sessions", decider: answer(approval.Deny("no")), limits: limits{BlockedKept: 4},
			run: func(t *testing.T, a *asked, _, modest *gate.Principal, _ *testnet.Buffer) {
				for i := range 8 {
					ended, end := a.principal("")
					if i%2 == 0 {
						a.gate.Refused(a.by(ended, "old.example:80"), policy.Verdict{Reason: policy.ReasonDenied})
					}
					end()
					a.gate.Drop(&ended.Owner)
					if i%2 != 0 { // late
						a.gate.Refused(a.by(ended, "old.example:80"), policy.Verdict{Reason: policy.ReasonDenied})
					}
				}
				for i := range 3 {
					a.gate.Refused(a.by(modest, fmt.Sprintf("m%d.example:80", i)), policy.Verdict{Reason: policy.ReasonDenied})
				}
				list, total := a.gate.Blocked.List()
				if len(list) != 4 || total != 11 || list[1].Target.Host.String() != "old.example" || list[2].Target.Host.String() != "m1.example" {
					t.Errorf("%d kept of %d: %+v", len(list), total, list)
				}
			},
		},
		{
			name: "log lines", decider: answer(approval.Deny("no")), limits: limits{LogLinesPerSecond: 8},
			run: func(t *testing.T, a *asked, greedy, modest *gate.Principal, log *testnet.Buffer) {
				for i := range 100 {
					a.gate.Refused(a.by(greedy, fmt.Sprintf("h%d.example:80", i)), policy.Verdict{Reason: policy.ReasonDenied})
				}
				a.gate.Refused(a.by(modest, "m.example:80"), policy.Verdict{Reason: policy.ReasonDenied})
				if s := log.String(); !strings.Contains(s, "host=m.example") {
					t.Errorf("no line about the modest session's request: %s", s)
				}
			},
		},
		{
			// Lines about grants count within the limit as well.
			name: "log lines about grants", decider: answer(approval.Allow().ForSession()), limits: limits{LogLinesPerSecond: 8},
			run: func(t *testing.T, a *asked, greedy, _ *gate.Principal, log *testnet.Buffer) {
				for i := range approval.MaxGrants + 100 {
					a.gate.Decide(t.Context(), a.by(greedy, fmt.Sprintf("h%d.example:80", i)))
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
				a := newAsked(t, test.decider, func(c *gate.Config) {
					c.DeciderTimeout = time.Second
					c.Log = slog.New(slog.NewTextHandler(&log, nil))
					c.Questions = cmp.Or(test.limits.Questions, c.Questions)
					c.BlockedKept = cmp.Or(test.limits.BlockedKept, c.BlockedKept)
					c.LogLinesPerSecond = cmp.Or(test.limits.LogLinesPerSecond, c.LogLinesPerSecond)
				})
				greedy, _ := a.principal("greedy")
				modest, _ := a.principal("modest")
				test.run(t, a, greedy, modest, &log)
				a.gate.LogLimiter.Close()
			})
		})
	}
}
