package hostname

// This file holds the rules for the zones of IPv6 addresses (RFC 4007 section
// 11): their syntax, the addresses that have one, and their equality.

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxZone is the length of the longest interface name on Linux, the BSDs and
// macOS: IFNAMSIZ without the NUL. Elsewhere a zone can be the interface's number.
const maxZone = 15

// zoneProblem describes why zone is not a valid zone, or returns the empty string.
// The characters are the unreserved ones of RFC 6874 section 2.
func zoneProblem(zone string) string {
	if zone == "" {
		return "it has an empty IPv6 zone; write the interface's name or number, or leave the percent sign out"
	}
	if len(zone) > maxZone {
		return "it has an IPv6 zone of more than 15 bytes; write the interface's number"
	}
	for i := range len(zone) {
		c := zone[i]
		unreserved := isNameByte(c) || 'A' <= c && c <= 'Z' || c == '.' || c == '_' || c == '~'
		if !unreserved {
			return "it has an IPv6 zone with a character that no zone has; write the interface's number"
		}
	}
	if c := zone[0]; c < '0' || c > '9' {
		return ""
	}
	if strings.Trim(zone, "0123456789") != "" {
		return "it has an IPv6 zone that begins with a digit but is not a number; write the interface's number"
	}
	if zone[0] == '0' {
		return "it has an IPv6 zone that is 0 or has leading zeros; write the interface's number"
	}
	return ""
}

// hasLinkScope reports whether an address means a different host on each link.
func hasLinkScope(a netip.Addr) bool {
	return a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast())
}

// Canonical returns a unmapped. It removes the zone unless the address means a
// different host in each zone. It returns the zero netip.Addr unchanged.
func Canonical(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Zone() != "" && !hasLinkScope(a) {
		a = a.WithZone("")
	}
	return a
}

// SameZone reports whether two zones are the same: equal, or the name and the
// number of the same interface. The empty zone equals only itself. SameZone queries
// the operating system only if one of the zones is a number.
func SameZone(a, b string) bool {
	if a == b {
		return true
	}
	if a == "" || b == "" || !isDecimal(a) && !isDecimal(b) {
		return false
	}
	i := zoneIndex(a)
	return i != 0 && i == zoneIndex(b)
}

func isDecimal(s string) bool { return strings.Trim(s, "0123456789") == "" }

// zoneIndex returns the number of the interface with this name or number, or 0 if
// zone is neither. It tries the name first, like package net.
func zoneIndex(zone string) int {
	if i, err := net.InterfaceByName(zone); err == nil {
		return i.Index
	}
	n, err := strconv.Atoi(zone)
	if err != nil {
		return 0
	}
	return n
}
