package approval

import (
	"fmt"
	"strings"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// Decision is the decider's answer to a question. The zero value denies. The root
// package's Decision documents the methods in full.
type Decision struct {
	Allow  bool
	Ask    bool // deny for now: the user will be asked
	Reason policy.Reason

	// void makes the terms below have no effect: the decision was an allow for
	// no requests or no time.
	void bool

	// Terms, which make a decision cover more than the waiting requests. They
	// are zero if Ask or void is true.
	times      int           // of an allow; 0 means not set
	timed      bool          // duration is set
	duration   time.Duration // 0 only in a deny that is not remembered
	session    bool
	group      bool
	anyPort    bool
	subdomains bool
}

// Allow returns a decision that allows the waiting requests.
func Allow() Decision { return Decision{Allow: true} }

// Deny returns a decision that refuses.
func Deny(reason string) Decision { return Decision{Reason: policy.CleanReason(reason)} }

// Ask returns a decision that refuses for now, because the user will be asked.
func Ask(reason string) Decision { return Decision{Ask: true, Reason: policy.CleanReason(reason)} }

// takesTerms reports whether terms have an effect on the decision.
func (d Decision) takesTerms() bool { return !d.Ask && !d.void }

// nothing returns the deny that replaces an allow for no requests or no time.
func nothing() Decision { return Decision{void: true} }

// Times makes an allow cover n requests. If n is below 1, it becomes a deny.
func (d Decision) Times(n int) Decision {
	if d.Allow && n < 1 {
		return nothing()
	}
	if d.Allow {
		d.times = n
	}
	return d
}

// For makes a decision last for a duration. If that is zero or less, an allow becomes
// a deny, and a deny is not remembered.
func (d Decision) For(duration time.Duration) Decision {
	if d.Allow && duration <= 0 {
		return nothing()
	}
	if d.takesTerms() {
		d.timed, d.duration = true, max(duration, 0)
	}
	return d
}

// ForSession makes a decision last as long as the session of the question.
func (d Decision) ForSession() Decision {
	d.session = d.takesTerms()
	return d
}

// ForGroup makes a decision apply to the group of the question's session, and last
// as long as the group.
func (d Decision) ForGroup() Decision {
	d.group = d.takesTerms()
	return d
}

// AnyPort makes a decision that lasts cover every port of the host.
func (d Decision) AnyPort() Decision {
	d.anyPort = d.takesTerms()
	return d
}

// Subdomains makes a decision that lasts cover the names below the host.
func (d Decision) Subdomains() Decision {
	d.subdomains = d.takesTerms()
	return d
}

// lasts reports whether the decision is remembered for more than the waiting
// requests and the retries of their clients.
func (d Decision) lasts() bool {
	if d.timed {
		return d.duration > 0
	}
	return d.times > 0 || d.session || d.group
}

// owner returns the owner that the decision is remembered for. asked is the owner of
// the request. It is its group if it has one and the decision is for the group, and
// asked otherwise.
func (d Decision) owner(asked *audit.Owner) *audit.Owner {
	if d.group && asked.Group != nil {
		return asked.Group
	}
	return asked
}

// kind returns the decision in one word.
func (d Decision) kind() policy.DecisionKind {
	v := policy.Verdict{Allowed: d.Allow, Ask: d.Ask}
	return v.Decision()
}

// String returns the decision as text for logs and tests.
func (d Decision) String() string {
	var terms []string
	name := "allow"
	if !d.Allow {
		name = "deny"
	}
	if d.Ask {
		name = "ask"
	}
	if d.Reason != "" {
		terms = append(terms, string(d.Reason))
	}
	if d.times > 0 {
		terms = append(terms, fmt.Sprintf("times %d", d.times))
	}
	for _, term := range []struct {
		set  bool
		text string
	}{
		{d.timed && d.duration == 0, "not remembered"}, {d.duration > 0, fmt.Sprintf("for %v", d.duration)},
		{d.session, "for the session"}, {d.group, "for the group"}, {d.anyPort, "any port"}, {d.subdomains, "subdomains"},
	} {
		if term.set {
			terms = append(terms, term.text)
		}
	}
	if d.Allow && len(terms) == 0 {
		return name
	}
	return name + "(" + strings.Join(terms, ", ") + ")"
}
