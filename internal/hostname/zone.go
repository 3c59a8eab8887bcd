package hostname

// This file holds the rules for the zones of IPv6 addresses (RFC 4007 section
// 11): what may be one, which addresses have one, and when two are the same.

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// maxZone is the length of the longest interface name of Linux, the BSDs and
// macOS: IFNAMSIZ less the NUL. Elsewhere the interface's number is shorter.
const maxZone = 15

// zoneProblem says what keeps text from being a zone, or returns the empty
// string. The characters are the unreserved ones of RFC 6874 section 2.
func zoneProblem(zone string) string {
	if zone == "" {
		return "it has an empty IPv6 zone; write the interface's name or number, or leave the percent sign out"
	}
	if len(zone) > maxZone {
		return "it has an IPv6 zone of more than 15 bytes, which no interface is called; write the interface's number"
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
		return "it has an IPv6 zone that begins with a digit and is no number; write the interface's number"
	}
	if zone[0] == '0' {
		return "it has an IPv6 zone that is 0 or has leading zeros; write the interface's number"
	}
	return ""
}

// hasLinkScope reports whether an address means another host on every link.
func hasLinkScope(a netip.Addr) bool {
	return a.Is6() && (a.IsLinkLocalUnicast() || a.IsLinkLocalMulticast() || a.IsInterfaceLocalMulticast())
}

// Canonical returns a unmapped, and without a zone unless the address means
// another host in every zone. The zero netip.Addr stays what it is.
func Canonical(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Zone() != "" && !hasLinkScope(a) {
		a = a.WithZone("")
	}
	return a
}

// SameZone reports whether two zones are the same: equal, or the name of an
// interface of this machine and its number. Nothing is the same as the empty
// zone but itself. It asks the operating system only about a number.
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

// zoneIndex returns the number of the interface that a zone is: by its name, as
// package net looks for it first, or else by its number. It returns 0 if zone is
// neither.
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
