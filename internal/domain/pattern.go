// Package domain parses the host patterns of allowlists and denylists and matches
// targets against lists of them. The time of a lookup in a [Set] depends on the
// number of labels in the host, not on the number of patterns.
//
// The package knows no policy. "*" matches a loopback address like any other host,
// and localhost is an ordinary name. The policy decides what a match means.
//
// A pattern is one of
//
//	example.com                that host
//	*.example.com              its subdomains at any depth, not itself
//	**.example.com             itself and its subdomains at any depth
//	*                          every host, name or address
//	region*.v2.example.com     * stays inside its label
//	203.0.113.7, [2001:db8::1] that address
//	fe80::1, fe80::1%eth0      that address in every zone, or in that one only
//	10.0.0.0/8, 2001:db8::/32  the addresses of that block
//
// and may end in a port, as in "example.com:8443" or "[2001:db8::/32]:443", to
// match that port only.
package domain

// This file holds Pattern and its accessors. parse.go parses one.

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Kind is the form of a pattern. The zero value is the kind of the zero Pattern.
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
	// Glob is a name with "*" inside labels or as a whole label, except in the
	// last label. It matches names with the same number of labels.
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
// nothing. Two patterns are equal (==) if they are the same entry. Patterns are
// safe for concurrent use.
//
// A Pattern is small because lists can have a million entries. It keeps addresses
// as text and parses them when needed.
type Pattern struct {
	host string // by kind: the name, the name after the wildcard, the glob, the address or the block
	port uint16
	kind Kind
}

// Kind returns the kind of p.
func (p Pattern) Kind() Kind { return p.kind }

// Port returns the only port that p matches, or 0 for all ports.
func (p Pattern) Port() uint16 { return p.port }

// Explicit reports whether p has no wildcard: it is an exact name, an address or
// a CIDR block.
func (p Pattern) Explicit() bool {
	return p.kind == Exact || p.kind == Addr || p.kind == CIDR
}

// Prefix returns the addresses that p matches, without a zone: the block of a
// CIDR, or the single-address block of an Addr. It returns the zero netip.Prefix
// for other kinds.
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

// Zone returns the only zone that an Addr matches, or the empty string for all
// zones. It returns the empty string for other kinds.
func (p Pattern) Zone() string {
	if p.kind != Addr {
		return ""
	}
	_, zone, _ := strings.Cut(p.host, "%")
	return zone
}

// String returns the canonical text of p, which Parse parses to p. It returns the
// empty string for the zero Pattern.
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

// escapeZone escapes the percent sign before a zone, as brackets require (RFC
// 6874 section 2).
func escapeZone(host string) string { return strings.Replace(host, "%", "%25", 1) }
