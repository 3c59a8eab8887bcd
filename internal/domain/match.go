package domain

// This file says what one pattern matches, and when one takes in another.

import (
	"strings"

	"example.com/networkproxy/internal/hostname"
)

// Matches reports whether p matches t. It is the meaning of the pattern; [Set]
// is the fast way to ask it of many. The zero Target is matched by nothing.
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

// matchesName is Matches for a canonical name and a kind that is about names.
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

// Covers reports whether p matches every target that q matches, by what the
// patterns mean: "*.a.com" covers "x.a.com:443" and "*.b.a.com", but not "a.com".
// Everything covers the zero Pattern. A true answer is always right. A false one
// may be wrong only where the limits on the length of labels and names leave a
// wildcard fewer names than it seems to match.
//
// As in [Pattern.Matches], "*" covers loopback addresses and localhost. Where
// only explicit entries open a local target, an entry for one needs an explicit
// entry to cover it.
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
		// The wildcards of q are characters that only a wildcard of p matches.
		return p.spansBelow(q.host) || p.kind == Glob && matchGlob(p.host, q.host)
	case Addr, CIDR:
		outer, inner := p.Prefix(), q.Prefix()
		return outer.IsValid() && outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr()) && inZone(p.Zone(), q.Zone())
	}
	return false
}

// inZone reports whether a pattern for a zone, or for every zone if it is empty,
// covers another zone.
func inZone(pattern, zone string) bool { return pattern == "" || hostname.SameZone(pattern, zone) }

// spansBelow reports whether p matches all names below a domain, and name is one
// of them. The name may be a glob.
func (p Pattern) spansBelow(name string) bool {
	return (p.kind == Subdomains || p.kind == ApexAndSubdomains) && isBelow(name, p.host)
}

// isBelow reports whether name is a subdomain of domain, and not domain itself.
func isBelow(name, domain string) bool {
	n := len(name) - len(domain)
	return n > 0 && name[n-1] == '.' && name[n:] == domain
}

// matchGlob reports whether the glob matches all of name. A "*" matches any run
// of characters but dots, an empty one included; labels are never empty, so that
// a label "*" matches exactly one. The work is at most the product of the
// lengths of a glob's label and the name's.
func matchGlob(glob, name string) bool {
	g, n := 0, 0
	star, resume := -1, 0 // the last wildcard passed, and where to go on in name if it is to match more
	for n < len(name) {
		switch {
		case g < len(glob) && glob[g] == '*':
			star, resume = g, n
			g++
		case g < len(glob) && glob[g] == name[n]:
			g++
			n++
		case star >= 0 && name[resume] != '.':
			// A wildcard before this one need not match more: the text between
			// the two was found at its earliest place, or in an earlier label.
			resume++
			g, n = star+1, resume
		default:
			return false
		}
	}
	return strings.Trim(glob[g:], "*") == ""
}
