package domain

// This file recognises common mistakes, so that an error can suggest the
// intended pattern.

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"example.com/networkproxy/internal/hostname"
)

// hint describes a common mistake in text and suggests a fix. It returns the
// empty string if it recognises none. The parser's own problem is then used.
func hint(text string) string {
	trimmed := strings.TrimSpace(text)
	switch {
	case trimmed == "":
		return "it is empty; write a host, or remove the entry"
	case trimmed != text:
		return "it has spaces around it" + advice(trimmed)
	case strings.Contains(text, "://"):
		_, rest, _ := strings.Cut(text, "://")
		return "it is a URL, but patterns are hosts" + advice(authority(rest))
	case strings.Contains(text, "@"):
		return "it has a user, but patterns are hosts" + advice(authority(text))
	case strings.HasPrefix(text, "!"):
		return "it has an exclamation mark; exceptions belong in the denylist" + advice(text[1:])
	case strings.HasPrefix(text, ".") && strings.Trim(text, ".") != "":
		name := strings.TrimLeft(text, ".")
		return `it begins with a dot` + advice("**."+name) + ` for the domain and all its subdomains, or "*." for the subdomains only`
	case len(text) > 2 && strings.HasPrefix(text, "**") && !strings.ContainsRune(".*:", rune(text[2])):
		return `it has "**" other than as the whole first label` + advice("**."+text[2:])
	case strings.ContainsAny(text, " \t"):
		return "it has a space; write one pattern for each entry"
	}
	if h := portHint(text); h != "" {
		return h
	}
	if strings.Contains(text, ",") {
		return "it has a comma; write one pattern for each entry"
	}
	if h := addrWildcardHint(text); h != "" {
		return h
	}
	if host, _, ok := strings.Cut(text, "/"); ok && !numeric(host) {
		return "it has a path, but patterns are hosts" + advice(authority(text))
	}
	if strings.Contains(text, "?") {
		return `it has a question mark, which is not a wildcard; "*" matches any characters inside a label`
	}
	return ""
}

// advice returns a clause that recommends pattern, or a general one if pattern
// is invalid.
func advice(pattern string) string {
	if _, problem := parse(pattern); problem != "" {
		return "; write the host, as in example.com"
	}
	return "; write " + hostname.Quote(pattern)
}

// authority returns the host and port of a URL without its scheme.
func authority(s string) string {
	if i := strings.IndexAny(s, "/?#"); i >= 0 {
		s = s[:i]
	}
	return s[strings.LastIndexByte(s, '@')+1:]
}

// numeric reports whether host, which a slash follows, looks like an address
// with a prefix length rather than a name with a path.
func numeric(host string) bool {
	host = strings.Trim(host, "[]")
	return host != "" && (strings.Count(host, ":") > 1 || strings.Trim(host, "0123456789.*") == "")
}

// portHint returns the hint for port notations of other tools, such as "*" and
// ranges.
func portHint(text string) string {
	host, port, ok, problem := splitPort(text)
	if !ok || problem != "" || port == "" {
		return ""
	}
	switch {
	case port == "*":
		return "it has a wildcard for the port; leave the port out for every port" + advice(host)
	case strings.Trim(port, "0123456789-,") == "" && strings.Trim(port, "0123456789") != "":
		return "it has more than one port; write one entry for each port, or none for every port"
	}
	return ""
}

// addrWildcardHint returns the hint for a wildcard in an address, as in 10.* or
// 192.168.*.*.
func addrWildcardHint(text string) string {
	host, port, hasPort, _ := splitPort(text)
	if !strings.Contains(host, "*") {
		return ""
	}
	fixed := strings.TrimRight(host, ".*")
	octets := strings.Split(fixed, ".")
	if len(octets) > 3 {
		return ""
	}
	padded := fixed + strings.Repeat(".0", 4-len(octets))
	a, err := netip.ParseAddr(padded)
	if err != nil {
		return ""
	}
	block := netip.PrefixFrom(a, 8*len(octets)).String()
	if hasPort {
		block += ":" + port
	}
	return "it has a wildcard in an address; a range of addresses is written as a block" + advice(block)
}

// cidrProblem describes the problem with an invalid block of the form x/y.
func cidrProblem(text string) string {
	addrText, lengthText, _ := strings.Cut(text, "/")
	if strings.Contains(addrText, "%") {
		return "it has a zone, but blocks have none; leave the zone out"
	}
	addr, err := netip.ParseAddr(addrText)
	if err != nil {
		return "it is not a block of addresses" + shortBlockAdvice(addrText, lengthText)
	}
	if mask, err := netip.ParseAddr(lengthText); err == nil && mask.Is4() && addr.Is4() {
		if n, size := net.IPMask(mask.AsSlice()).Size(); size != 0 {
			return "it has a netmask" + advice(netip.PrefixFrom(addr, n).Masked().String())
		}
	}
	return "its prefix length is not a number from 0 to " + strconv.Itoa(addr.BitLen()) + " without leading zeros"
}

// shortBlockAdvice recommends the full form of a block such as 10/8.
func shortBlockAdvice(addr, length string) string {
	if n := strings.Count(addr, "."); n < 3 {
		block := addr + strings.Repeat(".0", 3-n) + "/" + length
		if p, problem := parse(block); problem == "" {
			return "; write " + hostname.Quote(p.String())
		}
	}
	return "; write it as in 10.0.0.0/8 or 2001:db8::/32"
}
