// The order of the two address families.

package pindial

import (
	"net"
	"net/netip"
	"slices"
)

// preferredFirst returns the addresses of both families, the preferred family
// first. Each list is in order already. IPv6 is preferred unless RFC 6724
// section 6 sorts the first IPv6 address behind every public IPv4 address. That
// happens if this machine has no source address for it (rule 1) or one with a
// different label (rule 5), or if the address has a lower precedence (rule 6).
// source returns the source address of this machine for a destination.
func preferredFirst(six, four []netip.Addr, source func(to netip.Addr) netip.Addr) []netip.Addr {
	if len(six) == 0 || len(four) == 0 {
		return append(six, four...)
	}
	if to := six[0]; ranksAboveIPv4(to) && ranksAboveIPv4(source(to)) {
		return slices.Concat(six, four)
	}
	return slices.Concat(four, six)
}

// ranksAboveIPv4 reports whether an IPv6 address is valid and in none of the
// blocks that the policy table of RFC 6724 section 2.1 ranks below IPv4: 6to4,
// Teredo and unique local addresses.
func ranksAboveIPv4(a netip.Addr) bool {
	return a.IsValid() && !slices.ContainsFunc(belowIPv4[:], func(p netip.Prefix) bool { return p.Contains(a) })
}

var belowIPv4 = [...]netip.Prefix{
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("fc00::/7"),
}

// sourceFor returns the source address of this machine for a destination, or
// the zero Addr if there is no route. It connects a UDP socket, which sends
// nothing.
func sourceFor(to netip.Addr) netip.Addr {
	conn, err := net.Dial("udp", netip.AddrPortFrom(to, 9).String())
	if err != nil {
		return netip.Addr{}
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap().WithZone("")
}
