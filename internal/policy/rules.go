package policy

import (
	"net/netip"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/ipclass"
)

// Position is the place of a value in a configuration file. Line and Column
// count from 1; both are 0 for the file as a whole. The zero value means that
// the value is in no file.
type Position struct {
	File         string
	Line, Column int
}

// Rule is one entry of a list, in the form in which it is shown.
type Rule struct {
	List     string // the last part of the list's configuration key
	Pattern  string // the entry as written
	Position Position
}

// RuleSet is one compiled list. It keeps the text and the position of each
// entry.
type RuleSet struct {
	List     string   // the last part of its configuration key
	Entries  []string // as written
	Position func(i int) Position

	// Set matches hosts. It is nil for allow_unix_sockets, whose entries are
	// paths.
	Set *domain.Set
}

// Rule returns entry i.
func (s *RuleSet) Rule(i int) Rule {
	return Rule{List: s.List, Pattern: s.Entries[i], Position: s.Position(i)}
}

// RuleSets are several lists that count as one: that of the configuration and
// that of the entries added at run time.
type RuleSets []*RuleSet

// Rules returns every entry, in the order of the lists. It skips nil lists. The
// result is not nil.
func (l RuleSets) Rules() []Rule {
	rules := []Rule{}
	for _, s := range l {
		if s == nil {
			continue
		}
		for i := range s.Entries {
			rules = append(rules, s.Rule(i))
		}
	}
	return rules
}

// Entry refers to one entry of a list. The zero value refers to none.
type Entry struct {
	set *RuleSet
	i   int
}

// Found reports whether e refers to an entry.
func (e Entry) Found() bool { return e.set != nil }

// Rule returns the entry that e refers to, or the zero Rule.
func (e Entry) Rule() Rule {
	if e.set == nil {
		return Rule{}
	}
	return e.set.Rule(e.i)
}

func (e Entry) pattern() string {
	if e.set == nil {
		return ""
	}
	return e.set.Entries[e.i]
}

func (l RuleSets) match(t hostname.Target) Entry {
	for _, s := range l {
		if i, ok := s.Set.Match(t); ok {
			return Entry{s, i}
		}
	}
	return Entry{}
}

// matchExplicit matches entries without a wildcard only.
func (l RuleSets) matchExplicit(t hostname.Target) Entry {
	for _, s := range l {
		if i, ok := s.Set.MatchExplicit(t); ok {
			return Entry{s, i}
		}
	}
	return Entry{}
}

// matchAddr matches the address and CIDR entries with an address that is about
// to be dialed. An IPv6 address that embeds an IPv4 address leads to the same
// place, so it matches the entries of both.
func (l RuleSets) matchAddr(a netip.Addr, port uint16) Entry {
	for _, a := range [...]netip.Addr{a, ipclass.EmbeddedIPv4(a)} {
		for _, s := range l {
			if i, ok := s.Set.MatchAddr(a, port); ok {
				return Entry{s, i}
			}
		}
	}
	return Entry{}
}
