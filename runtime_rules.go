// The mode and the rules that a host sets while the proxy runs, over those of
// the configuration and within the managed limits.

package networkproxy

import (
	"slices"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/policy"
)

// runtimeMode is a mode set at run time. It stands until the configuration's
// own mode changes from what it was then.
type runtimeMode struct {
	mode Mode // empty: none is set
	over Mode // the configuration's mode when it was set
}

// effective is the mode in force over a configuration that says configured.
func (r runtimeMode) effective(configured Mode) Mode {
	if r.mode != "" && r.over == configured {
		return r.mode
	}
	return configured
}

// addedAtRunTime stands for the file of a rule that was added at run time.
const addedAtRunTime = "(added at run time)"

// runtimeRules are the entries added at run time. The zero value has none.
// It does not change: adding makes another.
type runtimeRules struct {
	allow, deny runtimeList
}

// runtimeList is one list of them, in the order in which they came.
type runtimeList struct {
	entries  []string
	patterns []domain.Pattern
}

// index finds the entry that means the same as p; -1 when there is none.
func (l runtimeList) index(p domain.Pattern) int {
	return slices.IndexFunc(l.patterns, func(q domain.Pattern) bool { return q.String() == p.String() })
}

func (l runtimeList) with(entry string, p domain.Pattern) runtimeList {
	if l.index(p) >= 0 {
		return l
	}
	return runtimeList{
		entries:  append(slices.Clip(l.entries), entry),
		patterns: append(slices.Clip(l.patterns), p),
	}
}

func (l runtimeList) without(i int) runtimeList {
	return runtimeList{
		entries:  slices.Delete(slices.Clone(l.entries), i, i+1),
		patterns: slices.Delete(slices.Clone(l.patterns), i, i+1),
	}
}

// over lays the list over one of the configuration.
func (l runtimeList) over(base *policy.RuleSet) policy.RuleSets {
	if len(l.entries) == 0 {
		return policy.RuleSets{base}
	}
	return policy.RuleSets{base, {
		List:     base.List,
		Set:      domain.Compile(l.patterns),
		Entries:  l.entries,
		Position: func(int) policy.Position { return policy.Position{File: addedAtRunTime} },
	}}
}

// within drops the entries that the limits no longer cover.
func (r runtimeRules) within(limits *requirements, dropped func(entry string, err error)) runtimeRules {
	kept := runtimeRules{deny: r.deny}
	for i, p := range r.allow.patterns {
		if err := limits.checkAllowed(p); err != nil {
			dropped(r.allow.entries[i], err)
			continue
		}
		kept.allow = kept.allow.with(r.allow.entries[i], p)
	}
	return kept
}
