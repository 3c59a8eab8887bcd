// Rules beyond the configuration: those that a host sets while the proxy runs,
// and those of a session. Both stay within the managed limits.

package networkproxy

import (
	"fmt"
	"slices"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/policy"
)

// runtimeMode is a mode set at run time. It holds until the mode of the
// configuration changes.
type runtimeMode struct {
	mode Mode // empty: none is set
	over Mode // the mode of the configuration when mode was set
}

// effective returns the mode in force if the configuration's is configured.
func (r runtimeMode) effective(configured Mode) Mode {
	if r.mode != "" && r.over == configured {
		return r.mode
	}
	return configured
}

// addedAtRunTime is the file name in the position of a rule that was added at
// run time.
const addedAtRunTime = "(added at run time)"

// runtimeRules are the entries added at run time. The zero value has none. It is
// immutable: its methods return changed copies.
type runtimeRules struct {
	allow, deny runtimeList
}

// runtimeList is the entries of one list, in the order in which they were added.
type runtimeList struct {
	entries  []string
	patterns []domain.Pattern
}

// index returns the index of the entry that is equivalent to p, or -1.
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

// over returns the rule sets of base and of l.
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

// within returns r without the entries that exceed the limits. It calls dropped
// for each of these.
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

// newOverlay compiles the rules of a session. It returns nil if there are none,
// and an error if one of them is invalid or beyond the managed limits.
func newOverlay(allowed, denied []string, mode Mode, limits *requirements) (*policy.Overlay, error) {
	if len(allowed) == 0 && len(denied) == 0 && mode == "" {
		return nil, nil
	}
	if mode != "" {
		if _, err := ParseMode(string(mode)); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		if err := limits.checkMode(mode); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
	}
	src := sourcedFromGo(Config{Policy: PolicyConfig{
		AllowedDomains: allowed,
		DeniedDomains:  denied,
	}})
	var errs errorList
	allow := compileList(src, keyAllowedDomains, src.Config.Policy.AllowedDomains, &errs)
	deny := compileList(src, keyDeniedDomains, src.Config.Policy.DeniedDomains, &errs)
	allow.List, deny.List = policy.SessionAllowed, policy.SessionDenied
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	patterns := src.patterns(keyAllowedDomains, &errs)
	for _, p := range patterns {
		if err := limits.checkAllowed(p); err != nil {
			errs.add(err)
		}
	}
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return policy.NewOverlay(allow, patterns, deny, mode), nil
}
