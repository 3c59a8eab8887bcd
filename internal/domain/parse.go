package domain

// This file parses patterns. hint.go words the errors for common mistakes.

import (
	"errors"
	"net/netip"
	"strings"

	"example.com/networkproxy/internal/hostname"
)

const (
	maxName  = 253 // bytes of a name, as in package hostname
	maxLabel = 63  // bytes of a label
)

// Parse parses one entry of a list. The package comment lists the forms. Names
// and addresses are normalised by [hostname.Parse]: "EXAMPLE.com." becomes
// example.com, a U-label becomes its A-label, and an IPv4-mapped address or block
// becomes the IPv4 one. A block of one address becomes that address.
//
// An IPv6 address needs brackets only before a port. With a port, an IPv6 address
// or block is written [2001:db8::1]:443, [2001:db8::]/32:443 or
// [2001:db8::/32]:443, and an IPv4 block 10.0.0.0/8:443.
//
// Errors are of type *[Error]. Parse refuses, among others:
//
//   - URLs, paths and users
//   - a wildcard in the last label
//   - "**" other than as the first label
//   - further wildcards after a first label "*" or "**"
//   - a label with a wildcard and non-ASCII characters, because the A-label
//     encodes all characters of a label together
//   - a block with bits set beyond its prefix length
//   - a zone of a block, or of an address that is the same in every zone
//   - a range of ports
//   - a pattern that no host can match
func Parse(text string) (Pattern, error) {
	p, problem := parse(text)
	if problem == "" {
		return p, nil
	}
	if h := hint(text); h != "" {
		problem = h
	}
	return Pattern{}, &Error{Text: text, Problem: problem}
}

// parse is Parse without hints. The problem is empty if there is none.
func parse(text string) (Pattern, string) {
	host, portText, hasPort, problem := splitPort(text)
	if problem != "" {
		return Pattern{}, problem
	}
	p, problem := parseHost(host)
	if problem != "" {
		return Pattern{}, problem
	}
	if hasPort {
		port, err := hostname.ParsePort(portText)
		if err != nil {
			return Pattern{}, problemOf(err)
		}
		p.port = port
	}
	return p, ""
}

// splitPort splits text into host and port. The host keeps its brackets and its
// prefix length.
func splitPort(text string) (host, port string, hasPort bool, problem string) {
	after := 0 // the port's colon is not before this position
	if strings.HasPrefix(text, "[") {
		end := strings.IndexByte(text, ']')
		if end < 0 {
			return "", "", false, "it has an opening bracket without the closing one"
		}
		after = end + 1
		if rest := text[after:]; rest != "" && rest[0] != ':' && rest[0] != '/' {
			return "", "", false, "only a colon and a port, or a slash and a prefix length, can follow the closing bracket"
		}
	} else if strings.Count(text, ":") > 1 {
		return text, "", false, "" // an IPv6 address without brackets
	}
	colon := strings.IndexByte(text[after:], ':')
	if colon < 0 {
		return text, "", false, ""
	}
	colon += after
	return text[:colon], text[colon+1:], true, ""
}

func parseHost(host string) (Pattern, string) {
	switch {
	case strings.Contains(host, "/"):
		return parseCIDR(host)
	case strings.Contains(host, "*"):
		return parseWildcard(host)
	}
	h, err := hostname.Parse(host)
	if err != nil {
		return Pattern{}, problemOf(err)
	}
	if h.IsIP() {
		if h.Zone() == "" && strings.Contains(host, "%") {
			return Pattern{}, "it has a zone, but only link-local addresses have one; leave the zone out"
		}
		return Pattern{host: h.String(), kind: Addr}, ""
	}
	return Pattern{host: h.Name(), kind: Exact}, ""
}

// parseCIDR parses an address block (RFC 4632 section 3.1, RFC 4291 section
// 2.3). Brackets may enclose the address or the whole block.
func parseCIDR(text string) (Pattern, string) {
	bare, bracketed := text, strings.HasPrefix(text, "[")
	if bracketed {
		bare = strings.Replace(text[1:], "]", "", 1)
	}
	prefix, err := netip.ParsePrefix(bare)
	if err != nil {
		return Pattern{}, cidrProblem(bare)
	}
	if bracketed && prefix.Addr().Is4() {
		return Pattern{}, "brackets are for IPv6 addresses; leave them out"
	}
	if prefix.Addr().Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	if masked := prefix.Masked(); prefix != masked {
		return Pattern{}, "it has bits set beyond its prefix length; write " + hostname.Quote(masked.String()) +
			" for the block, or " + hostname.Quote(prefix.Addr().Unmap().String()) + " for the one address"
	}
	if prefix.IsSingleIP() {
		return Pattern{host: prefix.Addr().String(), kind: Addr}, ""
	}
	return Pattern{host: prefix.String(), kind: CIDR}, ""
}

// parseWildcard parses a host with at least one "*".
func parseWildcard(text string) (Pattern, string) {
	if text == "*" {
		return Pattern{kind: Any}, ""
	}
	text = asciiStops(text)
	kind, suffix := Glob, ""
	if rest, ok := strings.CutPrefix(text, "*."); ok {
		kind, suffix = Subdomains, rest
	} else if rest, ok := strings.CutPrefix(text, "**."); ok {
		kind, suffix = ApexAndSubdomains, rest
	}
	if kind == Glob || suffix == "" || strings.Contains(suffix, "*") {
		return parseGlob(text)
	}
	h, err := hostname.Parse(suffix)
	if err != nil {
		return Pattern{}, problemOf(err)
	}
	switch {
	case h.IsIP():
		return Pattern{}, "an address has no subdomains; write the address, or a block such as 10.0.0.0/8"
	case len(h.Name()) > maxName-len("a."):
		return Pattern{}, "it is too long for a name to be below it; a name has at most 253 bytes"
	}
	return Pattern{host: h.Name(), kind: kind}, ""
}

// parseGlob parses a name with wildcards inside labels. It normalises the labels
// without a wildcard as part of a name, with the letter x in place of each label
// that has one.
func parseGlob(text string) (Pattern, string) {
	labels := strings.Split(strings.TrimSuffix(text, "."), ".")
	if problem := placementProblem(labels); problem != "" {
		return Pattern{}, problem
	}
	plain := make([]string, len(labels))
	for i, label := range labels {
		plain[i] = label
		if strings.Contains(label, "*") {
			labels[i] = strings.ToLower(label)
			if problem := globLabelProblem(labels[i]); problem != "" {
				return Pattern{}, problem
			}
			plain[i] = "x"
		}
	}
	h, err := hostname.Parse(strings.Join(plain, "."))
	if err != nil {
		return Pattern{}, problemOf(err)
	}
	normal := strings.Split(h.Name(), ".")
	if len(normal) != len(labels) {
		// Unreachable with the present Unicode tables: asciiStops replaced all
		// characters that they map to a dot.
		return Pattern{}, "it has a character that is equivalent to a dot; write a dot"
	}
	shortest := len(labels) - 1
	for i := range labels {
		stars := strings.Count(labels[i], "*")
		if stars == 0 {
			labels[i] = normal[i]
		}
		shortest += max(1, len(labels[i])-stars)
	}
	if shortest > maxName {
		return Pattern{}, "it is too long to match a name; a name has at most 253 bytes"
	}
	return Pattern{host: strings.Join(labels, "."), kind: Glob}, ""
}

// placementProblem describes the problem with a misplaced wildcard, or returns the
// empty string. The pattern is not "*", "*.name" or "**.name".
func placementProblem(labels []string) string {
	first, last := labels[0], labels[len(labels)-1]
	switch {
	case first == "**" && len(labels) == 1:
		return `it has no name after the wildcard; write "*" for every host, or "**.example.com" for a domain and its subdomains`
	case first == "*" && len(labels) == 1: // "*."
		return `it has no name after the wildcard; write "*" for every host, or "*.example.com" for the subdomains of a domain`
	case strings.Contains(last, "*"):
		return lastLabelProblem(labels)
	case first == "*" || first == "**":
		return `it has wildcards after the first label "` + first + `", which already matches any depth; write ` +
			hostname.Quote(first+"."+literalSuffix(labels)) + " or leave the first label out"
	}
	return ""
}

// lastLabelProblem describes the problem with a wildcard in the last label. It
// would match domains of many owners.
func lastLabelProblem(labels []string) string {
	const problem = "it has a wildcard in the last label, which would match domains of any owner; "
	last := labels[len(labels)-1]
	name := strings.TrimLeft(last, "*")
	switch {
	case strings.Trim(strings.Join(labels, ""), "*") == "":
		return problem + `write "*" for every host`
	case len(labels) == 1 && name != "" && !strings.Contains(name, "*"):
		return problem + "write " + hostname.Quote("*."+name) + " for all subdomains of " + hostname.Quote(name)
	}
	return problem + "write one entry for each domain"
}

// literalSuffix returns the labels after the last one with a wildcard.
func literalSuffix(labels []string) string {
	i := len(labels)
	for i > 0 && !strings.Contains(labels[i-1], "*") {
		i--
	}
	return strings.Join(labels[i:], ".")
}

// globLabelProblem describes why a lower-case label with a wildcard cannot match
// any label of a canonical name, or returns the empty string.
func globLabelProblem(label string) string {
	if strings.Contains(label, "**") {
		return `it has "**" other than as the whole first label; write one "*" inside a label, or "**.example.com"`
	}
	for _, r := range label {
		switch {
		case 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '*':
		case r >= 0x80:
			return "it has a wildcard in a label with characters beyond ASCII, which are encoded together; write the names out"
		default:
			return "it has a wildcard in a label with a character that no name has"
		}
	}
	if len(label)-strings.Count(label, "*") > maxLabel {
		return "it has a label of more than 63 bytes"
	}
	return ""
}

// asciiStops replaces the other full stops of UTS #46 section 4 with dots.
func asciiStops(s string) string {
	if !strings.ContainsAny(s, "\u3002\uff0e\uff61") {
		return s // the usual case; making a Replacer is expensive
	}
	return strings.NewReplacer("\u3002", ".", "\uff0e", ".", "\uff61", ".").Replace(s)
}

// problemOf returns the problem of an error of package hostname.
func problemOf(err error) string {
	var e *hostname.Error
	if errors.As(err, &e) {
		return e.Problem
	}
	return err.Error()
}
