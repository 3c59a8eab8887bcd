package domain

// This file holds Set and its compilation. lookup.go holds the lookups.

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Set is a compiled list of patterns. It is immutable and safe for concurrent
// use. The zero value and nil match nothing.
//
// A name costs one hash lookup for itself and one for each of its parent domains.
// An address costs one for each distinct prefix length among the patterns of its
// family. Each lookup is made twice if there are patterns for the target's port.
// The number of patterns does not matter, except that globs with the same labels
// after their last wildcard are tried one by one.
type Set struct {
	size     int
	allPorts table
	byPort   map[uint16]*table

	// The distinct prefix lengths, longest first.
	lengths4, lengths6 []uint8
}

// table holds the patterns for one port, or the ones for all ports.
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

// names is a map by name with a small filter in front. The filter rejects most
// absent names, which is cheaper than hashing them.
type names[V any] struct {
	byName map[string]V
	filter [64]uint64 // one word for each length modulo 64, with the filterBits of its names
}

func (n *names[V]) set(name string, v V) {
	n.byName[name] = v
	n.filter[len(name)%64] |= filterBit(name)
}

// mayContain reports whether the map may have name. It has false positives but no
// false negatives.
func (n *names[V]) mayContain(name string) bool { return n.filter[len(name)%64]&filterBit(name) != 0 }

// filterBit returns a bit chosen by the first and the middle character of name.
func filterBit(name string) uint64 {
	if name == "" {
		return 0
	}
	return 1 << ((name[0] ^ name[len(name)/2]<<1) % 64)
}

// get returns the value for name, or the zero value.
func (n *names[V]) get(name string) (v V) {
	if n.mayContain(name) {
		v = n.byName[name]
	}
	return v
}

// domainRules are the wildcard patterns that end in one domain x.
type domainRules struct {
	apex  rule   // "**.x", for x itself
	below rule   // "*.x" or "**.x", for the subdomains of x
	globs uint32 // 1 + index in table.globs, or 0 for none
}

// globRule is a glob without the literal domain at its end.
type globRule struct {
	sub  string
	rule rule
}

// rule is 1 + the index of a pattern, or 0 for none. Among equal patterns it is
// the first.
type rule uint32

// index returns the index of the pattern and true, or -1 and false for none.
func (r rule) index() (int, bool) { return int(r) - 1, r != 0 }

// Compile returns the set of the patterns. The set's methods return indices into
// patterns. Compile does not retain the slice. Zero patterns count but match
// nothing. Compile panics on 2^32 patterns or more.
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

// makeTables allocates the tables at their final size. Growing them would take
// most of the time and twice the memory.
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

// table returns the table for one port, or the one for all ports if port is 0.
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
	sub, domain := glob[:dot], glob[dot+1:]
	d := t.domains.get(domain)
	if d.globs == 0 {
		t.globs = append(t.globs, nil)
		d.globs = uint32(len(t.globs))
		t.domains.set(domain, d)
	}
	list := &t.globs[d.globs-1]
	*list = append(*list, globRule{sub, r})
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

// descending returns the indices of the true elements in descending order.
func descending(seen []bool) []uint8 {
	var lengths []uint8
	for n, ok := range slices.Backward(seen) {
		if ok {
			lengths = append(lengths, uint8(n))
		}
	}
	return lengths
}

// Len returns the number of patterns passed to Compile.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return s.size
}

// Ports returns the ports that patterns of the set name, in no order.
func (s *Set) Ports() []uint16 { return slices.Collect(maps.Keys(s.byPort)) }
