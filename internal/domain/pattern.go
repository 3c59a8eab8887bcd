// Package domain parses the patterns of allow- and denylists and compiles lists
// of them into sets that answer at a cost which grows with the labels of a host
// and not with the number of patterns.
//
// A pattern is one of
//
//	example.com                that host
//	*.example.com              any depth below it, not itself
//	**.example.com             itself and any depth below it
//	*                          every host, name or address
//	region*.v2.example.com     * stays inside its label
//	203.0.113.7, [2001:db8::1] that address
//	fe80::1, fe80::1%eth0      that address in every zone, or in that one only
//	10.0.0.0/8, 2001:db8::/32  the addresses of that block
//
// and each may end in a port, "example.com:8443" or "[2001:db8::/32]:443", which
// confines it to that port. The package knows nothing of policy: "*" matches a
// loopback address as it does any other host, and localhost is a name like any
// other.
package domain

// This file holds Pattern and its parts; parse.go makes one from text.

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Kind says which hosts a pattern can match. The zero value is no kind.
type Kind uint8

const (
	// Exact is one name.
	Exact Kind = iota + 1
	// Subdomains is "*.x": every name below x, at any depth.
	Subdomains
	// ApexAndSubdomains is "**.x": x itself and every name below it.
	ApexAndSubdomains
	// Any is "*": every name and every address.
	Any
	// Glob is a name with "*" inside labels or for one whole label, but the
	// last. It matches names with as many labels as it has.
	Glob
	// Addr is one IP address.
	Addr
	// CIDR is a block of IP addresses.
	CIDR
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case Exact:
		return "exact name"
	case Subdomains:
		return "subdomains"
	case ApexAndSubdomains:
		return "apex and subdomains"
	case Any:
		return "any"
	case Glob:
		return "glob"
	case Addr:
		return "address"
	case CIDR:
		return "CIDR"
	}
	return "none"
}

// Pattern is one entry of a list, in canonical form. The zero value matches
// nothing. Patterns are comparable with ==, which tells whether they are the
// same entry, and safe for concurrent use.
//
// A Pattern is small, as lists of a million entries are in use: addresses are
// kept as text and parsed again where they are needed.
type Pattern struct {
	host string // what the kind leaves open: the name, the suffix, the glob, the address or the block
	port uint16
	kind Kind
}

// Kind returns the kind of p.
func (p Pattern) Kind() Kind { return p.kind }

// Port returns the port to which p is confined, or 0 if it is to none.
func (p Pattern) Port() uint16 { return p.port }

// Explicit reports whether p has no wildcard: it is an exact name, an address or
// a CIDR block.
func (p Pattern) Explicit() bool {
	return p.kind == Exact || p.kind == Addr || p.kind == CIDR
}

// Prefix returns the addresses that p matches: the block of a CIDR, or the block
// of one address of an Addr, in whatever zone. It is the zero netip.Prefix for
// the other kinds.
func (p Pattern) Prefix() netip.Prefix {
	var prefix netip.Prefix
	switch p.kind {
	case Addr:
		a, _ := netip.ParseAddr(p.host)
		prefix = netip.PrefixFrom(a, a.BitLen())
	case CIDR:
		prefix, _ = netip.ParsePrefix(p.host)
	}
	return prefix
}

// Zone returns the zone to which an Addr is confined, or the empty string if it
// is to none.
func (p Pattern) Zone() string {
	if p.kind != Addr {
		return ""
	}
	_, zone, _ := strings.Cut(p.host, "%")
	return zone
}

// String returns the canonical text of p, which Parse takes for p again. It is
// empty for the zero Pattern.
func (p Pattern) String() string {
	var host string
	switch p.kind {
	case Subdomains:
		host = "*." + p.host
	case ApexAndSubdomains:
		host = "**." + p.host
	case Any:
		host = "*"
	default:
		host = p.host
	}
	switch {
	case p.port != 0:
		return net.JoinHostPort(escapeZone(host), strconv.Itoa(int(p.port)))
	case p.kind == Addr && strings.Contains(host, ":"):
		return "[" + escapeZone(host) + "]"
	}
	return host
}

// escapeZone introduces the zone of an address as it is in brackets.
func escapeZone(host string) string { return strings.Replace(host, "%", "%25", 1) }
