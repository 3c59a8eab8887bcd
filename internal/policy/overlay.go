package policy

import (
	"slices"
	"sync/atomic"

	"example.com/networkproxy/internal/domain"
)

// The names of the lists of a session and of a group of sessions.
const (
	SessionAllowed = "session_allowed_domains"
	SessionDenied  = "session_denied_domains"
	GroupAllowed   = "group_allowed_domains"
)

// Overlay holds the rules that a session adds to every policy in force during
// its life. It is immutable. A nil *Overlay adds nothing.
//
// Each policy applies its own managed limits to the allowlists. An entry that a
// reload puts outside the limits matches nothing until the limits contain it
// again. A request is judged by one policy, and so by one set of limits.
type Overlay struct {
	allow []*AllowList
	deny  RuleSets
	mode  Mode

	bounded atomic.Pointer[boundedSets] // the last result of allowed
}

// boundedSets is the part of an overlay's allowlists that lies within bounds.
type boundedSets struct {
	bounds *Bounds
	sets   RuleSets
}

// NewOverlay returns an overlay. Lists that are nil or empty add nothing, and
// neither does an empty mode. If nothing is left, the result is nil.
func NewOverlay(allow []*AllowList, deny *RuleSet, mode Mode) *Overlay {
	o := &Overlay{mode: mode}
	for _, l := range allow {
		if l != nil && len(l.patterns) > 0 {
			o.allow = append(o.allow, l)
		}
	}
	if deny != nil && len(deny.Entries) > 0 {
		o.deny = RuleSets{deny}
	}
	if len(o.allow) == 0 && len(o.deny) == 0 && mode == "" {
		return nil
	}
	return o
}

// allowed returns the part of the allowlists that lies within bounds.
func (o *Overlay) allowed(bounds *Bounds) RuleSets {
	if o == nil || len(o.allow) == 0 {
		return nil
	}
	if b := o.bounded.Load(); b != nil && b.bounds == bounds {
		return b.sets
	}
	sets := make(RuleSets, len(o.allow))
	for i, l := range o.allow {
		sets[i] = l.within(bounds)
	}
	o.bounded.Store(&boundedSets{bounds, sets})
	return sets
}

func (o *Overlay) denied() RuleSets {
	if o == nil {
		return nil
	}
	return o.deny
}

// modeOf returns the session's mode, or "" if it has none.
func (o *Overlay) modeOf() Mode {
	if o == nil {
		return ""
	}
	return o.mode
}

// AllowList is an allowlist of overlays. Several overlays may share one. It is
// immutable.
type AllowList struct {
	set      *RuleSet
	patterns []domain.Pattern

	bounded atomic.Pointer[boundedSet] // the last result of within
}

// boundedSet is the part of an AllowList that lies within bounds.
type boundedSet struct {
	bounds *Bounds
	set    *RuleSet
}

// NewAllowList returns an allowlist of the entries of set. set need not be
// compiled. patterns are its entries, parsed.
func NewAllowList(set *RuleSet, patterns []domain.Pattern) *AllowList {
	return &AllowList{set: set, patterns: slices.Clip(patterns)}
}

// within returns the compiled part of the list that lies within bounds.
func (l *AllowList) within(bounds *Bounds) *RuleSet {
	if b := l.bounded.Load(); b != nil && b.bounds == bounds {
		return b.set
	}
	within := make([]domain.Pattern, len(l.patterns)) // a zero pattern matches nothing
	for i, p := range l.patterns {
		if bounds.Contain(p) {
			within[i] = p
		}
	}
	set := *l.set
	set.Set = domain.Compile(within)
	l.bounded.Store(&boundedSet{bounds, &set})
	return &set
}
