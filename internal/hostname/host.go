// Package hostname parses a host, or a host and a port, into one canonical form.
// Text is parsed once, and all later checks compare the result. The package does
// not resolve names.
//
// A host is either an IP address or a name. Text that resolvers could read in more
// than one way is an error, never a name: an IPv4 address in hexadecimal, octal or
// short form, an escape, an embedded NUL. If two readers disagree about a host, an
// attacker can pass a filter.
package hostname

// This file holds Host and its parser.

import (
	"net/netip"
	"strings"
)

// Host is a normalised host: an IP address or a name.
//
// An address is unmapped (::ffff:192.0.2.1 is 192.0.2.1). It has a zone only if a
// zone was given and the address depends on it: see [Parse]. A name consists of
// lower-case A-labels (RFC 5890 section 2.3.2.1) without a trailing dot. The zero
// value is not a host. Hosts are comparable with == and safe for concurrent use.
type Host struct {
	name string     // the name, or the zone of addr
	addr netip.Addr // without a zone
}

// Parse parses a name ("EXAMPLE.com.", "bücher.example"), an IPv4 address in
// dotted-decimal form, or an IPv6 address with or without brackets and with or
// without a zone (RFC 4007 section 11). In brackets, both "%25" (RFC 6874 section
// 2) and "%" introduce a zone.
//
// A zone is the name or the number of an interface: at most 15 unreserved
// characters. A zone that begins with a digit must be a number without leading
// zeros, because some readers use only the digits. Parse keeps the zone of
// addresses with link-local scope (fe80::/10, link-local and interface-local
// multicast), because each link has its own host for such an address. It drops the
// zone of other addresses, because they are the same in every zone.
//
// Names follow the lookup profile of UTS #46 with three exceptions for names in
// use: underscores are letters, a label may have hyphens anywhere, and a name may
// end with one dot, which is dropped. RFC 1123 section 2.1 allows no hyphen at the
// start or end of a label, but such names exist, and the DNS carries them (RFC 2181
// section 11).
//
// Parse refuses a name whose last label is a number (decimal, 0x or 0b), because
// the resolver of an operating system might read it as an address. This includes
// digits that result from normalisation, such as full-width ones, and an IPv4
// address with a trailing dot.
//
// The error is an *[Error]. Parse does not allocate for a canonical name or an
// address. Parse(h.String()) returns h.
func Parse(s string) (Host, error) {
	h, problem := parse(s)
	if problem != "" {
		return Host{}, &Error{Text: s, Problem: problem}
	}
	return h, nil
}

// FromAddr returns the host for a, unmapped and without its zone. It returns the
// zero Host for the zero netip.Addr.
func FromAddr(a netip.Addr) Host {
	return Host{addr: a.Unmap().WithZone("")}
}

// parse is Parse with the problem as text, empty if there is none, so that
// callers can put their whole input into the error.
func parse(s string) (Host, string) {
	if nameProblem(s) == "" && !mayHaveACE(s) {
		return Host{name: s}, ""
	}
	if s == "" {
		return Host{}, "it is empty; give a name or an IP address"
	}
	if problem := textProblem(s); problem != "" {
		return Host{}, problem
	}
	if strings.ContainsAny(s, ":[]") {
		return parseIPv6(s)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return FromAddr(a), ""
	}
	if strings.Contains(s, "%") {
		return Host{}, "it has a percent sign; write the name itself, without escapes"
	}
	name, problem := normalise(s)
	return Host{name: name}, problem
}

// parseIPv6 parses an IPv6 address, with or without brackets and a zone.
func parseIPv6(s string) (Host, string) {
	text := s
	if strings.HasPrefix(s, "[") {
		inner, ok := strings.CutSuffix(s[1:], "]")
		if !ok {
			return Host{}, "it has an opening bracket, but does not end with the closing one"
		}
		text = inner
	}
	text, zone, hasZone := strings.Cut(text, "%")
	if hasZone {
		if strings.HasPrefix(s, "[") {
			var asInURI bool
			if zone, asInURI = strings.CutPrefix(zone, "25"); asInURI && zone == "" {
				return Host{}, `it has an IPv6 zone that is empty or 25; for zone 25 in brackets, write "%2525"`
			}
		}
		if problem := zoneProblem(zone); problem != "" {
			return Host{}, problem
		}
	}
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && a.Is6():
		h := FromAddr(a)
		if hasLinkScope(h.addr) {
			h.name = zone
		}
		return h, ""
	case text != s && err == nil:
		return Host{}, "brackets are for IPv6 addresses; leave them out"
	case strings.Count(s, ":") == 1 && text == s:
		return Host{}, "it has a port or a stray colon; write the host only"
	}
	return Host{}, "it is not an IPv6 address, and a name has neither colons nor brackets"
}

// IsZero reports whether h is not a host.
func (h Host) IsZero() bool { return h.name == "" && !h.addr.IsValid() }

// IsIP reports whether h is an IP address.
func (h Host) IsIP() bool { return h.addr.IsValid() }

// Addr returns h's address, unmapped and without a zone, or the zero netip.Addr
// if h is a name or no host. Use it to classify h.
func (h Host) Addr() netip.Addr { return h.addr }

// Zone returns the zone of h's address, or the empty string if it has none.
func (h Host) Zone() string {
	if !h.IsIP() {
		return ""
	}
	return h.name
}

// ScopedAddr returns h's address with its zone, or the zero netip.Addr if h is a
// name or no host. Use it to connect.
func (h Host) ScopedAddr() netip.Addr { return h.addr.WithZone(h.Zone()) }

// Name returns h's name, or the empty string if h is an address or no host.
func (h Host) Name() string {
	if h.IsIP() {
		return ""
	}
	return h.name
}

// String returns the canonical text: the name, or the address without brackets
// and with its zone after "%". It returns the empty string for the zero Host.
func (h Host) String() string {
	switch {
	case !h.IsIP():
		return h.name
	case h.name != "":
		return h.addr.String() + "%" + h.name
	}
	return h.addr.String()
}

// IsLocalhost reports whether h is the name localhost or a subdomain of it. These
// names always mean the local machine (RFC 6761 section 6.3). It returns false for
// all addresses, including loopback addresses.
func (h Host) IsLocalhost() bool {
	return !h.IsIP() && (h.name == "localhost" || strings.HasSuffix(h.name, ".localhost"))
}
