// Package hostname parses and normalises a host, or a host and a port, once, so
// that every later check compares one canonical form.
//
// A host is either an IP address or a name. What a resolver could read in more
// than one way (an IPv4 address in hexadecimal, octal or shortened form, an
// escape, an embedded NUL) is an error and never a name: two readers that
// disagree about a host are how a filter is passed by.
package hostname

// This file holds Host and the way from text to it.

import (
	"net/netip"
	"strings"
)

// Host is a normalised host: an IP address or a name.
//
// An address is unmapped (::ffff:192.0.2.1 is 192.0.2.1). It has a zone only if
// it means another host in every zone, and the zone was given: see [Parse]. A
// name is in lower-case A-labels (RFC 5890 section 2.3.2.1) without a trailing
// dot. The zero value is no host. Hosts are comparable with == and safe for
// concurrent use.
type Host struct {
	name string     // or the zone, if there is an address
	addr netip.Addr // without a zone
}

// Parse returns the host that s spells: a name ("EXAMPLE.com.", "bücher.example"),
// an IPv4 address in dotted-decimal form, or an IPv6 address with or without
// brackets and with or without a zone (RFC 4007 section 11). In brackets, "%25"
// introduces a zone, as in a URI (RFC 6874 section 2), and so does "%" alone.
//
// A zone is an interface's name or number: up to 15 unreserved characters, a
// number without leading zeros; what begins with a digit must be a number,
// because some readers take the digits alone. A zone is kept with addresses of
// link-local scope (fe80::/10, and multicast of that scope or of the
// interface's), which every link has anew. Other addresses are the same in
// every zone, and it is dropped.
//
// Names follow the lookup profile of UTS #46 with three exceptions taken from
// the names in use: underscores are letters, a label may have hyphens anywhere,
// and a name may end with one dot, which is dropped. A host name has no hyphen
// at the beginning or the end of a label (RFC 1123 section 2.1), but names with
// one are in use, and the DNS carries them (RFC 2181 section 11).
//
// A name whose last label is a number, decimal or with 0x, is refused unless
// the whole of s is a dotted-decimal IPv4 address: the resolver of an operating
// system might read it as an address. That holds for digits that only come
// about by normalisation (full-width ones, say) and for an address with a
// trailing dot.
//
// The error is an *[Error]. Parse of a canonical name or an IPv4 address does
// not allocate, and Parse(h.String()) is h.
func Parse(s string) (Host, error) {
	h, problem := parse(s)
	if problem != "" {
		return Host{}, &Error{Text: s, Problem: problem}
	}
	return h, nil
}

// FromAddr returns the host for a, unmapped and without its zone. The zero
// netip.Addr gives the zero Host.
func FromAddr(a netip.Addr) Host {
	return Host{addr: a.Unmap().WithZone("")}
}

// parse is Parse with the problem as text, empty if there is none, so that
// callers can name the whole of what they were given in the error.
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
				return Host{}, `it has an IPv6 zone that is empty, or else 25; in brackets write 25 as "%2525"`
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
		return Host{}, "it has a port, or a stray colon, where only a host can stand"
	}
	return Host{}, "it is not an IPv6 address, and a name has neither colons nor brackets"
}

// IsZero reports whether h is no host.
func (h Host) IsZero() bool { return h.name == "" && !h.addr.IsValid() }

// IsIP reports whether h is an IP address.
func (h Host) IsIP() bool { return h.addr.IsValid() }

// Addr returns h's address, unmapped and without a zone, or the zero netip.Addr
// if h is a name or no host. It is what h is classified by.
func (h Host) Addr() netip.Addr { return h.addr }

// Zone returns the zone of h's address, or the empty string if it has none.
func (h Host) Zone() string {
	if !h.IsIP() {
		return ""
	}
	return h.name
}

// ScopedAddr returns h's address with its zone, to connect to, or the zero
// netip.Addr if h is a name or no host.
func (h Host) ScopedAddr() netip.Addr { return h.addr.WithZone(h.Zone()) }

// Name returns h's name, or the empty string if h is an address or no host.
func (h Host) Name() string {
	if h.IsIP() {
		return ""
	}
	return h.name
}

// String returns the canonical text: the name, or the address without brackets,
// with "%" and its zone if it has one. It is empty for the zero Host.
func (h Host) String() string {
	switch {
	case !h.IsIP():
		return h.name
	case h.name != "":
		return h.addr.String() + "%" + h.name
	}
	return h.addr.String()
}

// IsLocalhost reports whether h is the name localhost or one below it, which
// always mean the machine itself (RFC 6761 section 6.3). It is false for
// addresses, loopback ones included.
func (h Host) IsLocalhost() bool {
	return !h.IsIP() && (h.name == "localhost" || strings.HasSuffix(h.name, ".localhost"))
}
