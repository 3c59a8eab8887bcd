package domain

// This file holds the lookups in a Set.

import (
	"net/netip"

	"example.com/networkproxy/internal/hostname"
)

// Match returns the index of the most specific pattern that matches t, or -1 and
// false if none does. It does not allocate. The order is, most specific first:
//
//   - for a name: the exact name; then the pattern with the most labels after its
//     last wildcard, a glob before "*.x" and "**.x" of the same length; then "*"
//   - for an address: the address in its zone; then the longest prefix; then "*"
//
// Among equally specific patterns, one for t's port comes before one for all
// ports, and then the lower index wins.
func (s *Set) Match(t hostname.Target) (i int, ok bool) {
	if s == nil || t.Host.IsZero() {
		return -1, false
	}
	tables := s.tables(t.Port)
	var r rule
	if t.Host.IsIP() {
		r = s.matchAddr(&tables, t.Host.Addr(), t.Host.Zone())
	} else if r = tables.exact(t.Host.Name()); r == 0 {
		r = tables.wildcard(t.Host.Name())
	}
	if r == 0 {
		r = tables.any()
	}
	return r.index()
}

// MatchExplicit is like Match but considers only patterns without a wildcard:
// exact names, addresses and CIDR blocks.
func (s *Set) MatchExplicit(t hostname.Target) (i int, ok bool) {
	if s == nil || t.Host.IsZero() {
		return -1, false
	}
	tables := s.tables(t.Port)
	if t.Host.IsIP() {
		return s.matchAddr(&tables, t.Host.Addr(), t.Host.Zone()).index()
	}
	return tables.exact(t.Host.Name()).index()
}

// MatchAddr is like Match but considers only addresses and CIDR blocks. It is for
// addresses that a name resolved to. It unmaps a first.
func (s *Set) MatchAddr(a netip.Addr, port uint16) (i int, ok bool) {
	if s == nil || !a.IsValid() {
		return -1, false
	}
	tables := s.tables(port)
	return s.matchAddr(&tables, a.Unmap().WithZone(""), a.Zone()).index()
}

// tables are the tables that can match at one port: the one for that port, which
// may be nil, and the one for all ports.
type tables [2]*table

func (s *Set) tables(port uint16) tables {
	if len(s.byPort) == 0 { // the usual case; saves hashing the port
		return tables{nil, &s.allPorts}
	}
	return tables{s.byPort[port], &s.allPorts}
}

func (ts *tables) exact(name string) rule {
	if t := ts[0]; t != nil {
		if r := t.exact.get(name); r != 0 {
			return r
		}
	}
	return ts[1].exact.get(name)
}

// wildcard looks up name among the wildcard patterns: first "**."+name, then the
// patterns that end in each of its parent domains.
func (ts *tables) wildcard(name string) rule {
	if t := ts[0]; t != nil {
		if r := t.domains.get(name).apex; r != 0 {
			return r
		}
	}
	if r := ts[1].domains.get(name).apex; r != 0 {
		return r
	}
	for i := range len(name) {
		if name[i] != '.' || !ts.mayContain(name[i+1:]) {
			continue
		}
		if r := ts.below(name[:i], name[i+1:]); r != 0 {
			return r
		}
	}
	return 0
}

// mayContain reports whether patterns may end in domain. It has false positives.
func (ts *tables) mayContain(domain string) bool {
	return ts[1].domains.mayContain(domain) || ts[0] != nil && ts[0].domains.mayContain(domain)
}

// below looks up the name sub+"."+domain among the patterns that end in domain.
func (ts *tables) below(sub, domain string) rule {
	var atPort domainRules
	if t := ts[0]; t != nil {
		atPort = t.domains.get(domain)
		if r := t.glob(atPort, sub); r != 0 {
			return r
		}
	}
	atAll := ts[1].domains.get(domain)
	if r := ts[1].glob(atAll, sub); r != 0 {
		return r
	}
	if atPort.below != 0 {
		return atPort.below
	}
	return atAll.below
}

// glob returns the first glob of a domain that matches sub, the part of the name
// before that domain.
func (t *table) glob(d domainRules, sub string) rule {
	if d.globs == 0 {
		return 0
	}
	for _, g := range t.globs[d.globs-1] {
		if matchGlob(g.sub, sub) {
			return g.rule
		}
	}
	return 0
}

// matchAddr looks up an unmapped address. The zone is a parameter of its own
// because prefixes have none.
func (s *Set) matchAddr(ts *tables, a netip.Addr, zone string) rule {
	if zone != "" {
		if r := ts.zoned(a, zone); r != 0 {
			return r
		}
	}
	lengths := s.lengths6
	if a.Is4() {
		lengths = s.lengths4
	}
	for _, bits := range lengths {
		prefix, err := a.Prefix(int(bits))
		if err != nil {
			continue // unreachable: the lengths are those of the address family
		}
		for _, t := range ts {
			if t == nil {
				continue
			}
			if r := t.prefixes[prefix]; r != 0 {
				return r
			}
		}
	}
	return 0
}

// zoned looks up an address among the patterns with a zone.
func (ts *tables) zoned(a netip.Addr, zone string) rule {
	for _, t := range ts {
		if t == nil {
			continue
		}
		for _, z := range t.zoned[a] {
			if hostname.SameZone(z.zone, zone) {
				return z.rule
			}
		}
	}
	return 0
}

func (ts *tables) any() rule {
	for _, t := range ts {
		if t != nil && t.any != 0 {
			return t.any
		}
	}
	return 0
}
