package policy

import (
	"sync/atomic"

	"example.com/networkproxy/internal/domain"
)

// The names of a session's lists.
const (
	SessionAllowed = "session_allowed_domains"
	SessionDenied  = "session_denied_domains"
)

// Overlay holds the rules that a session adds to every policy in force during
// its life. It is immutable. A nil *Overlay adds nothing.
//
// Each policy applies its own managed limits to the allowlist. An entry that a
// reload puts outside the limits matches nothing until the limits contain it
// again. A request is judged by one policy, and so by one set of limits.
type Overlay struct {
	patterns []domain.Pattern // of allow
	allow    *RuleSet
	deny     RuleSets
	mode     Mode

	bounded atomic.Pointer[boundedAllow] // the last result of allowed
}

// boundedAllow is the part of an overlay's allowlist that lies within bounds.
type boundedAllow struct {
	bounds *Bounds
	allow  RuleSets
}

// NewOverlay returns an overlay. allow must be compiled from patterns. An empty
// mode adds no restriction to the mode in force.
func NewOverlay(allow *RuleSet, patterns []domain.Pattern, deny *RuleSet, mode Mode) *Overlay {
	return &Overlay{patterns: patterns, allow: allow, deny: RuleSets{deny}, mode: mode}
}

// allowed returns the part of the allowlist that lies within bounds.
func (o *Overlay) allowed(bounds *Bounds) RuleSets {
	if o == nil || len(o.patterns) == 0 {
		return nil
	}
	if b := o.bounded.Load(); b != nil && b.bounds == bounds {
		return b.allow
	}
	within := make([]domain.Pattern, len(o.patterns)) // a zero pattern matches nothing
	for i, p := range o.patterns {
		if bounds.Contain(p) {
			within[i] = p
		}
	}
	set := *o.allow
	set.Set = domain.Compile(within)
	allow := RuleSets{&set}
	o.bounded.Store(&boundedAllow{bounds, allow})
	return allow
}

func (o *Overlay) denied() RuleSets {
	if o == nil {
		return nil
	}
	return o.deny
}

// permits reports whether the session's mode permits a request, and returns
// the mode if it does not.
func (o *Overlay) permits(q *Query) (Mode, bool) {
	if o == nil || o.mode.permits(q) {
		return "", true
	}
	return o.mode, false
}
