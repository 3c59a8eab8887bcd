package policy

import (
	"sync"
	"testing"
)

// overlay returns a session's overlay.
func overlay(t testing.TB, allow, deny []string, mode Mode) *Overlay {
	t.Helper()
	return NewOverlay([]*AllowList{NewAllowList(rules(t, SessionAllowed, allow...), patterns(t, allow...))},
		rules(t, SessionDenied, deny...), mode)
}

func TestOverlay(t *testing.T) {
	t.Parallel()
	base := allowing(t, "listed.example")
	base.Deny = RuleSets{rules(t, "denied_domains", "denied.example")}
	added := []string{"added.example", "denied.example", "both.example", "10.0.0.1", "both-block.example"}
	removed := []string{"both.example", "listed.example", "8.8.8.0/24"}
	missed := outcome{check: CheckAllowlist, reason: ReasonNotAllowed, source: SourceBaselinePolicy}
	tests := []struct {
		name, method, target string
		overlay              *Overlay
		bounds               []string
		want                 outcome
	}{
		{"no overlay", "GET", "added.example:80", nil, nil, missed},
		{"allowed by the session", "GET", "added.example:80", overlay(t, added, nil, ""), nil, outcome{allowed: true, source: SourceBaselinePolicy, rule: SessionAllowed + " added.example"}},
		{"allowed by the configuration", "GET", "listed.example:80", overlay(t, added, nil, ""), nil, outcome{allowed: true, source: SourceBaselinePolicy, rule: "allowed_domains listed.example"}},
		{"configuration denies", "GET", "denied.example:80", overlay(t, added, nil, ""), nil, outcome{check: CheckDenylist, reason: ReasonDenied, source: SourceBaselinePolicy, rule: "denied_domains denied.example"}},
		{"session allows and denies", "GET", "both.example:80", overlay(t, added, removed, ""), nil, outcome{check: CheckDenylist, reason: ReasonDenied, source: SourceBaselinePolicy, rule: SessionDenied + " both.example"}},
		{"session denies, configuration allows", "GET", "listed.example:80", overlay(t, added, removed, ""), nil, outcome{check: CheckDenylist, reason: ReasonDenied, source: SourceBaselinePolicy, rule: SessionDenied + " listed.example"}},
		{"session denies an embedded address", "GET", "[64:ff9b::808:808]:80", overlay(t, added, removed, ""), nil, outcome{check: CheckDenylist, reason: ReasonDenied, source: SourceBaselinePolicy, rule: SessionDenied + " 8.8.8.0/24"}},
		{"session opens a local address", "GET", "10.0.0.1:80", overlay(t, added, nil, ""), nil, outcome{allowed: true, source: SourceBaselinePolicy, rule: SessionAllowed + " 10.0.0.1"}},
		{"session opens another local address", "GET", "10.0.0.2:80", overlay(t, added, nil, ""), nil, outcome{check: CheckLocal, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}},
		{"outside the bounds", "GET", "added.example:80", overlay(t, added, nil, ""), []string{"other.example"}, outcome{check: CheckManaged, reason: ReasonNotAllowed, source: SourceBaselinePolicy}},
		{"within the bounds", "GET", "added.example:80", overlay(t, added, nil, ""), []string{"*.example"}, outcome{allowed: true, source: SourceBaselinePolicy, rule: SessionAllowed + " added.example"}},
		{"local address, bounds with a wildcard", "GET", "10.0.0.1:80", overlay(t, added, nil, ""), []string{"*"}, outcome{check: CheckLocal, reason: ReasonNotAllowedLocal, source: SourceBaselinePolicy}},
		{"session in limited mode, POST", "POST", "listed.example:80", overlay(t, nil, nil, ModeLimited), nil, outcome{check: CheckMode, reason: ReasonMethodNotAllowed, source: SourceModeGuard, rule: "session_mode limited"}},
		{"session in limited mode, GET", "GET", "listed.example:80", overlay(t, nil, nil, ModeLimited), nil, outcome{allowed: true, source: SourceBaselinePolicy, rule: "allowed_domains listed.example"}},
		{"session without a mode, POST", "POST", "listed.example:80", overlay(t, nil, nil, ""), nil, outcome{allowed: true, source: SourceBaselinePolicy, rule: "allowed_domains listed.example"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := *base
			if test.bounds != nil {
				p.Bounds = NewBounds(patterns(t, test.bounds...))
			}
			q := get(t, test.target)
			q.Method, q.Overlay = test.method, test.overlay
			v, _ := p.Judge(q, "", nil)
			if got := outcomeOf(&v); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

// A session in full mode does not lift the limited mode of the proxy.
func TestOverlayModeOnlyRestricts(t *testing.T) {
	t.Parallel()
	p := allowing(t, "listed.example")
	p.Mode = ModeLimited
	q := get(t, "listed.example:80")
	q.Method, q.Overlay = "POST", overlay(t, nil, nil, ModeFull)
	if v, _ := p.Judge(q, "", nil); v.Allowed || v.SessionMode != "" {
		t.Errorf("got allowed %t and the session mode %q; want a refusal by the proxy's mode", v.Allowed, v.SessionMode)
	}
}

func TestOverlayDeniesResolvedAddresses(t *testing.T) {
	t.Parallel()
	p := allowing(t, "listed.example")
	q := get(t, "listed.example:80")
	q.Overlay = overlay(t, nil, []string{"8.8.8.0/24"}, "")
	v := p.JudgeAddrs(q, Verdict{Allowed: true}, addrs("1.1.1.1", "8.8.8.8"), nil)
	want := outcome{check: CheckDeniedAddress, reason: ReasonDenied, source: SourceBaselinePolicy, rule: SessionDenied + " 8.8.8.0/24"}
	if got := outcomeOf(&v); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestOverlayFollowsBounds judges by policies with different bounds in turn and
// at the same time.
func TestOverlayFollowsBounds(t *testing.T) {
	t.Parallel()
	wide, narrow := allowing(t), allowing(t)
	wide.Bounds = NewBounds(patterns(t, "*.example"))
	narrow.Bounds = NewBounds(patterns(t, "other.example"))
	q := get(t, "added.example:80")
	q.Overlay = overlay(t, []string{"added.example"}, nil, "")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if v, _ := wide.Judge(q, "", nil); !v.Allowed {
					t.Errorf("within the bounds: got %+v", outcomeOf(&v))
				}
				if v, _ := narrow.Judge(q, "", nil); v.Allowed || v.Check != CheckManaged {
					t.Errorf("outside the bounds: got %+v", outcomeOf(&v))
				}
			}
		})
	}
	wg.Wait()
}
