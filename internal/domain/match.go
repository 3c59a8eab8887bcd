package domain

// This file defines the meaning of one pattern: which targets it matches, and
// which patterns it covers.

import (
	"strings"

	"example.com/networkproxy/internal/hostname"
)

// Matches reports whether p matches t. Use a [Set] to match many patterns fast.
// No pattern matches the zero Target.
func (p Pattern) Matches(t hostname.Target) bool {
	if t.Host.IsZero() || p.port != 0 && p.port != t.Port {
		return false
	}
	switch p.kind {
	case Any:
		return true
	case Addr, CIDR:
		return t.Host.IsIP() && p.Prefix().Contains(t.Host.Addr()) && inZone(p.Zone(), t.Host.Zone())
	}
	return !t.Host.IsIP() && p.matchesName(t.Host.Name())
}

// matchesName is Matches for a canonical name. p's kind is one for names.
func (p Pattern) matchesName(name string) bool {
	switch p.kind {
	case Exact:
		return name == p.host
	case Subdomains:
		return isBelow(name, p.host)
	case ApexAndSubdomains:
		return name == p.host || isBelow(name, p.host)
	case Glob:
		return matchGlob(p.host, name)
	}
	return false
}

// Covers reports whether p matches every target that q matches: "*.a.com" covers
// "x.a.com:443" and "*.b.a.com", but not "a.com". Every pattern covers the zero
// Pattern. True is always correct. False may be wrong only where the length limits
// of labels and names leave a wildcard fewer names than it seems to match.
//
// As in [Pattern.Matches], "*" covers loopback addresses and localhost. A caller
// that lets only explicit entries open local targets must also compare with those
// entries only.
func (p Pattern) Covers(q Pattern) bool {
	if q.kind == 0 {
		return true
	}
	if p.port != 0 && p.port != q.port {
		return false
	}
	if p.kind == Any {
		return true
	}
	switch q.kind {
	case Exact:
		return p.matchesName(q.host)
	case Subdomains:
		return p.kind == q.kind && p.host == q.host || p.kind == ApexAndSubdomains && p.host == q.host || p.spansBelow(q.host)
	case ApexAndSubdomains:
		return p.kind == q.kind && p.host == q.host || p.spansBelow(q.host)
	case Glob:
		// matchGlob reads the wildcards in q as plain characters. Only a wildcard
		// of p matches them.
		return p.spansBelow(q.host) || p.kind == Glob && matchGlob(p.host, q.host)
	case Addr, CIDR:
		outer, inner := p.Prefix(), q.Prefix()
		return outer.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr()) && inZone(p.Zone(), q.Zone())
	}
	return false
}

// inZone reports whether a pattern's zone covers zone. An empty one covers all.
func inZone(pattern, zone string) bool { return pattern == "" || hostname.SameZone(pattern, zone) }

// spansBelow reports whether p matches all names below a domain and name is one
// of them. The name may be a glob.
func (p Pattern) spansBelow(name string) bool {
	return (p.kind == Subdomains || p.kind == ApexAndSubdomains) && isBelow(name, p.host)
}

// isBelow reports whether name is a subdomain of domain. A domain is not below
// itself.
func isBelow(name, domain string) bool {
	n := len(name) - len(domain)
	return n > 0 && name[n-1] == '.' && name[n:] == domain
}

// matchGlob reports whether glob matches all of name. A "*" matches zero or more
// characters other than dots. Labels are never empty, so a label "*" matches
// exactly one label. The cost of a label is at most the product of its length and
// the length of the glob's label.
func matchGlob(glob, name string) bool {
	g, n := 0, 0
	star, resume := -1, 0 // the last wildcard, and the position in name to retry from if it must match more
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, resume = g, n
			g++
		case g < len(glob) && glob[g] == name[n]:
			g++
			n++
		case star >= 0 && name[resume] != '.':
			// Only the last wildcard needs to match more. The text between it and
			// the wildcard before was found at its earliest position, or the
			// wildcard before is in an earlier label.
			resume++
			g, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
