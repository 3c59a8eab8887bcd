// Header rules: which fields of requests and responses are passed on.

package httpproxy

import (
	"net/http"
	"net/textproto"
	"strings"

	"example.com/networkproxy/internal/http1"
)

// appendRequestFields appends the fields of a client's request that are passed
// on, in the client's order and spelling.
func appendRequestFields(to []http1.Field, r *http.Request) []http1.Field {
	from := http1.Fields(r)
	options := connectionOptions(from)
	forwards := decrementMaxForwards(r)
	trailers := false
	for i := range from {
		f := from[i]
		switch {
		case f.Is("te"):
			trailers = trailers || listHasToken(f.Value, "trailers")
			continue
		case isHopByHop(f.Name, options), f.Is("x-unix-socket"):
			continue
		case f.Is("expect") && !r.ProtoAtLeast(1, 1):
			continue // HTTP/1.0 has no Expect (RFC 9110 section 10.1.1)
		case forwards != "" && f.Is("max-forwards"):
			continue
		}
		to = append(to, f)
	}
	if forwards != "" {
		to = append(to, http1.Field{Name: maxForwardsHeader, Value: forwards})
	}
	if trailers {
		to = append(to, http1.Field{Name: "TE", Value: "trailers"})
	}
	return to
}

// appendResponseFields appends the fields of a response that are passed on to the
// client, in their order and spelling. options are the response's connection
// options. to may share its memory with from, as from[:0].
func appendResponseFields(to, from []http1.Field, options []string) []http1.Field {
	for _, f := range from {
		// Only this proxy may send X-Proxy-Error to its clients.
		if !isHopByHop(f.Name, options) && !f.Is("x-proxy-error") {
			to = append(to, f)
		}
	}
	return to
}

// connectionOptions returns the names in the Connection fields, in their
// spelling there.
func connectionOptions(fields []http1.Field) (names []string) {
	for i := range fields {
		f := &fields[i]
		if !f.Is("connection") || strings.EqualFold(f.Value, "keep-alive") {
			continue // isHopByHop knows Keep-Alive; skipping it saves the allocation
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			if name = textproto.TrimString(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// isHopByHop reports whether a field concerns one connection only and must not
// be passed on: the fields in RFC 9110 section 7.6.1, those in the connection
// options, and all whose names begin with "Proxy-". The options cannot remove
// Host and Content-Length, because the meaning of the message depends on them.
func isHopByHop(name string, options []string) bool {
	switch len(name) {
	case len("Te"):
		if strings.EqualFold(name, "te") {
			return true
		}
	case len("Trailer"): // and Upgrade
		if strings.EqualFold(name, "trailer") || strings.EqualFold(name, "upgrade") {
			return true
		}
	case len("Connection"): // and Keep-Alive
		if strings.EqualFold(name, "connection") || strings.EqualFold(name, "keep-alive") {
			return true
		}
	case len("HTTP2-Settings"):
		if strings.EqualFold(name, "http2-settings") { // RFC 7540 section 3.2.1
			return true
		}
	case len("Transfer-Encoding"):
		if strings.EqualFold(name, "transfer-encoding") {
			return true
		}
	}
	if len(name) >= len("proxy-") && strings.EqualFold(name[:len("proxy-")], "proxy-") {
		return true
	}
	for _, n := range options {
		if strings.EqualFold(n, name) {
			return !strings.EqualFold(name, "host") && !strings.EqualFold(name, "content-length")
		}
	}
	return false
}

// hasToken reports whether one of the comma-separated lists in fields has token.
func hasToken(fields []string, token string) bool {
	for _, field := range fields {
		if listHasToken(field, token) {
			return true
		}
	}
	return false
}

// listHasToken reports whether a comma-separated list has token, with or without
// parameters.
func listHasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if name, _, _ := strings.Cut(part, ";"); strings.EqualFold(textproto.TrimString(name), token) {
			return true
		}
	}
	return false
}
