package domain

// This file holds Set and how it is compiled; lookup.go asks it.

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Set is a compiled list of patterns. It is immutable and safe for concurrent
// use. The zero value and nil match nothing.
//
// A name costs one look-up in a hash table for itself and one for each of its
// parent domains; an address costs one for each distinct prefix length among
// the patterns of its family. Where patterns for the port asked for exist, each
// look-up is made twice. The number of patterns plays no part but in one case:
// globs that share the labels behind their last wildcard are tried one after
// the other.
type Set struct {
	size     int
	allPorts table
	byPort   map[uint16]*table

	// The prefix lengths that occur, longest first.
	lengths4, lengths6 []uint8
}

// table holds the patterns for one port, or those for all ports.
type table struct {
	exact    names[rule]
	domains  names[domainRules]
	globs    [][]globRule
	prefixes map[netip.Prefix]rule
	zoned    map[netip.Addr][]zonedRule // by address, without the zone
	any      rule
}

// zonedRule is an address in one zone.
type zonedRule struct {
	zone string
	rule rule
}

// names is a map by name. Of most names that are looked up, and most of their
// parent domains, none in the map has the shape: to see that is cheaper than to
// compute a hash.
type names[V any] struct {
	byName map[string]V
	filter [64]uint64 // a set: a word for each length, a bit for what characters are where
}

func (n *names[V]) set(name string, v V) {
	n.byName[name] = v
	n.filter[len(name)%64] |= filterBit(name)
}

// mayContain is false for most names that the map has not.
func (n *names[V]) mayContain(name string) bool { return n.filter[len(name)%64]&filterBit(name) != 0 }

// shape is a bit for the first character of a name and the one in its middle.
func filterBit(name string) uint64 {
	if name == "" {
		return 0
	}
	return 1 << ((name[0] ^ name[len(name)/2]<<1) % 64)
}

// get returns the value of a name, or the zero value.
func (n *names[V]) get(name string) (v V) {
	if n.mayContain(name) {
		v = n.byName[name]
	}
	return v
}

// domainRules are the patterns with wildcards that end in one domain.
type domainRules struct {
	apex  rule   // "**.x", which matches x
	below rule   // "*.x" or "**.x", which match what is below x
	globs uint32 // 1 + the index of the list in table.globs, or 0 for none
}

// globRule is a glob without the domain that it ends in.
type globRule struct {
	head string
	rule rule
}

// rule is 1 + the index of a pattern, or 0 for none. Of equal patterns the first
// is the rule.
type rule uint32

// index returns the index of the rule's pattern and whether there is one.
func (r rule) index() (int, bool) { return int(r) - 1, r != 0 }

// Compile returns the set of the patterns, whose indices its methods return. The
// slice is not retained. Zero patterns are counted but match nothing. Compile
// panics if there are 2^32 patterns or more.
func Compile(patterns []Pattern) *Set {
	if uint64(len(patterns)) > 1<<32-1 {
		panic("domain: too many patterns")
	}
	s := &Set{size: len(patterns)}
	s.makeTables(patterns)
	for i, p := range patterns {
		if p.kind != 0 {
			s.table(p.port).add(p, rule(i+1))
		}
	}
	s.collectLengths()
	return s
}

// makeTables makes the tables at the size they will have: growing them would
// take most of the time and twice the memory.
func (s *Set) makeTables(patterns []Pattern) {
	type count struct{ exact, domains, prefixes int }
	counts := make(map[uint16]*count)
	for _, p := range patterns {
		c := counts[p.port]
		if c == nil {
			c = new(count)
			counts[p.port] = c
		}
		switch p.kind {
		case Exact:
			c.exact++
		case Subdomains, ApexAndSubdomains:
			c.domains++
		case Addr, CIDR:
			c.prefixes++
		}
	}
	s.byPort = make(map[uint16]*table, len(counts))
	for port, c := range counts {
		if port != 0 {
			s.byPort[port] = new(table)
		}
		*s.table(port) = table{
			exact:    names[rule]{byName: make(map[string]rule, c.exact)},
			domains:  names[domainRules]{byName: make(map[string]domainRules, c.domains)},
			prefixes: make(map[netip.Prefix]rule, c.prefixes),
		}
	}
}

// table returns the table for the patterns of a port, 0 being all ports.
func (s *Set) table(port uint16) *table {
	if port == 0 {
		return &s.allPorts
	}
	return s.byPort[port]
}

func (t *table) add(p Pattern, r rule) {
	switch p.kind {
	case Exact:
		if t.exact.get(p.host) == 0 {
			t.exact.set(p.host, r)
		}
	case Subdomains, ApexAndSubdomains:
		d := t.domains.get(p.host)
		if d.below == 0 {
			d.below = r
		}
		if p.kind == ApexAndSubdomains && d.apex == 0 {
			d.apex = r
		}
		t.domains.set(p.host, d)
	case Glob:
		t.addGlob(p.host, r)
	case Addr, CIDR:
		if zone := p.Zone(); zone != "" {
			if t.zoned == nil {
				t.zoned = make(map[netip.Addr][]zonedRule)
			}
			a := p.Prefix().Addr()
			t.zoned[a] = append(t.zoned[a], zonedRule{zone, r})
			return
		}
		if t.prefixes[p.Prefix()] == 0 {
			t.prefixes[p.Prefix()] = r
		}
	case Any:
		if t.any == 0 {
			t.any = r
		}
	}
}

func (t *table) addGlob(glob string, r rule) {
	star := strings.LastIndexByte(glob, '*')
	dot := star + strings.IndexByte(glob[star:], '.')
	head, domain := glob[:dot], glob[dot+1:]
	d := t.domains.get(domain)
	if d.globs == 0 {
		t.globs = append(t.globs, nil)
		d.globs = uint32(len(t.globs))
		t.domains.set(domain, d)
	}
	list := &t.globs[d.globs-1]
	*list = append(*list, globRule{head, r})
}

func (s *Set) collectLengths() {
	var seen4, seen6 [129]bool
	for _, t := range append(slices.Collect(maps.Values(s.byPort)), &s.allPorts) {
		for prefix := range t.prefixes {
			if prefix.Addr().Is4() {
				seen4[prefix.Bits()] = true
			} else {
				seen6[prefix.Bits()] = true
			}
		}
	}
	s.lengths4, s.lengths6 = descending(seen4[:]), descending(seen6[:])
}

// descending returns the indices that are set, the greatest first.
func descending(seen []bool) []uint8 {
	var lengths []uint8
	for n, ok := range slices.Backward(seen) {
		if ok {
			lengths = append(lengths, uint8(n))
		}
	}
	return lengths
}

// Len returns the number of patterns that the set was compiled from.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}
