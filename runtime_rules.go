// Rules that a host adds while the proxy runs, over those of the
// configuration and within the managed limits.

package networkproxy

import (
	"fmt"
	"slices"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/policy"
)

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

// AllowDomain adds an allowlist entry until the proxy ends: it survives
// reloads and is not written to any file. The denylist, the protection of
// local networks and the mode apply to it as to every other. An entry outside
// the managed limits is refused; one that a reload puts outside them is
// dropped, with a warning in the log.
func (h *Handle) AllowDomain(entry string) error {
	return h.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := parseAllowed(entry)
		if err != nil {
			return r, err
		}
		if err := h.loaded.limits.checkAllowed(p); err != nil {
			return r, fmt.Errorf("%q cannot be allowed: %w", entry, err)
		}
		r.allow = r.allow.with(entry, p)
		return r, nil
	})
}

// DenyDomain adds a denylist entry until the proxy ends, as AllowDomain does
// for the allowlist. Open connections that it denies are cut.
func (h *Handle) DenyDomain(entry string) error {
	return h.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := parseDenied(entry)
		if err != nil {
			return r, err
		}
		r.deny = r.deny.with(entry, p)
		return r, nil
	})
}

// RemoveDomain takes back what AllowDomain or DenyDomain added. An entry of
// the configuration is not removed by it: the error says where it stands.
func (h *Handle) RemoveDomain(entry string) error {
	return h.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := domain.Parse(entry)
		if err != nil {
			return r, err
		}
		allowed, denied := r.allow.index(p), r.deny.index(p)
		if allowed >= 0 {
			r.allow = r.allow.without(allowed)
		}
		if denied >= 0 {
			r.deny = r.deny.without(denied)
		}
		if allowed >= 0 || denied >= 0 {
			return r, nil
		}
		for key, entries := range map[string][]string{
			keyAllowedDomains: h.loaded.allow.Entries,
			keyDeniedDomains:  h.loaded.deny.Entries,
		} {
			if slices.Contains(entries, entry) {
				return r, fmt.Errorf("%q was not added at run time: it is an entry of %s (%s); edit the configuration",
					entry, lastKey(key), h.loaded.describe(key))
			}
		}
		return r, fmt.Errorf("%q was not added at run time", entry)
	})
}

// changeRules puts changed run-time rules in force.
func (h *Handle) changeRules(change func(runtimeRules) (runtimeRules, error)) error {
	h.mu.Lock()
	err := h.alive()
	rules := h.rules
	if err == nil {
		rules, err = change(rules)
	}
	if err == nil {
		h.rules = rules
		h.install(h.loaded)
	}
	h.mu.Unlock()
	if err != nil {
		return err
	}
	cut := h.enforcer.rejudge()
	h.log.Info("run-time rules changed", "allowed", rules.allow.entries, "denied", rules.deny.entries, "connections_cut", cut)
	return nil
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
