package hostname

// This file holds Target, a host and a port, and its parser.

import (
	"strconv"
	"strings"
)

// Target is the host and port that a client asks for. The zero value is no
// target. Targets are comparable with == and safe for concurrent use.
type Target struct {
	// Host is the normalised host.
	Host Host
	// Port is the port number, 1 to 65535.
	Port uint16
}

// Clone returns a copy of t that does not share memory with the text that t was
// parsed from. The name of a parsed target is a substring of that text.
func (t Target) Clone() Target {
	t.Host.name = strings.Clone(t.Host.name)
	return t
}

// ParseTarget parses the authority-form of a request target, host ":" port (RFC
// 9112 section 3.2.3). The port is required. An IPv6 address must be in brackets.
// The error is an *[Error].
func ParseTarget(hostport string) (Target, error) {
	return ParseTargetDefault(hostport, 0)
}

// ParseTargetDefault is like ParseTarget but uses port if the text has none, as
// in the authority of a URI (RFC 3986 section 3.2). A colon without a port is the
// same as no colon (RFC 3986 section 6.2.3). If port is 0, the text must have a
// port.
func ParseTargetDefault(hostport string, port uint16) (Target, error) {
	t, problem := parseTarget(hostport, port)
	if problem != "" {
		return Target{}, &Error{Text: hostport, Problem: problem}
	}
	return t, nil
}

func parseTarget(hostport string, port uint16) (Target, string) {
	host, portText, hasPort, problem := splitPort(hostport)
	if problem != "" {
		return Target{}, problem
	}
	h, problem := parse(host)
	if problem != "" {
		return Target{}, problem
	}
	if hasPort && (portText != "" || port == 0) {
		if port, problem = parsePort(portText); problem != "" {
			return Target{}, problem
		}
	}
	if port == 0 {
		return Target{}, "it has no port; write host:port"
	}
	return Target{Host: h, Port: port}, ""
}

// splitPort splits s into host and port. The host keeps its brackets.
func splitPort(s string) (host, port string, hasPort bool, problem string) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", false, "it has an opening bracket without the closing one"
		}
		host, rest := s[:end+1], s[end+1:]
		if rest == "" {
			return host, "", false, ""
		}
		if rest[0] != ':' {
			return "", "", false, "only a colon and a port can follow the closing bracket"
		}
		return host, rest[1:], true, ""
	}
	host, port, hasPort = strings.Cut(s, ":")
	if strings.Contains(port, ":") {
		return "", "", false, "it has more than one colon; write an IPv6 address in brackets, as in [2001:db8::1]:443"
	}
	if host == "" {
		return "", "", false, "it has no host"
	}
	return host, port, hasPort, ""
}

// ParsePort parses a port number from 1 to 65535 in decimal digits, without sign,
// spaces or leading zeros. RFC 3986 section 3.2.3 allows leading zeros, but no
// client sends them and readers disagree about them. The error is an *[Error].
func ParsePort(s string) (uint16, error) {
	port, problem := parsePort(s)
	if problem != "" {
		return 0, &Error{Text: s, Problem: problem}
	}
	return port, nil
}

func parsePort(s string) (uint16, string) {
	const want = "; write a number from 1 to 65535"
	if s == "" {
		return 0, "the port is missing after the colon" + want
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, "the port is not a decimal number" + want
		}
	}
	if s[0] == '0' {
		return 0, "the port is 0 or has leading zeros" + want
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, "the port is too large" + want
	}
	return uint16(n), ""
}

// String returns host:port, with an IPv6 address in brackets and "%25" before its
// zone. It returns the empty string for the zero Target.
func (t Target) String() string {
	var space [64]byte // long enough for most
	return string(t.AppendTo(space[:0]))
}

// AppendTo appends the text of String to b.
func (t Target) AppendTo(b []byte) []byte {
	switch {
	case t == (Target{}):
		return b
	case t.Host.addr.Is6():
		b = t.Host.addr.AppendTo(append(b, '['))
		if zone := t.Host.Zone(); zone != "" {
			b = append(append(b, "%25"...), zone...) // RFC 6874 section 2
		}
		b = append(b, ']')
	default:
		b = append(b, t.Host.String()...)
	}
	return strconv.AppendUint(append(b, ':'), uint64(t.Port), 10)
}
