// Parsing a request header strictly, in one pass.

package http1

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// Field is one field line of a header. Value has no white space around it (RFC
// 9112 section 5).
type Field struct{ Name, Value string }

// requestHeader is a parsed request header. Its strings are substrings of the
// parsed text.
type requestHeader struct {
	method, target string
	minor          int     // version of HTTP/1.x
	fields         []Field // all but Host, which net/http also leaves out
	contentLength  string  // decimal digits; empty if there is no Content-Length
	hasConnection  bool    // there is a Connection field, which may contain "close"
	host           string  // the value of Host
	chunked        bool    // the body is in the chunked coding
}

// parse rejects a header that another parser might understand differently. It
// is stricter than net/http in the points listed here. Its errors end up in a
// log, so they do not quote values that may contain a secret, such as a URL or
// the value of a field.
//
//   - lines end with CRLF; CR and LF are not allowed elsewhere (RFC 9112 section 2.2)
//   - lines are not folded (section 5.2) and have no white space before the colon
//     (section 5.1); names are tokens and values have no control characters
//   - the request line has single spaces and an HTTP/1.x version (section 3)
//   - HTTP/1.1 has exactly one Host, HTTP/1.0 at most one (section 3.2)
//   - at most one Content-Length, of digits only; at most one Transfer-Encoding,
//     "chunked" only, in HTTP/1.1 only; not both (sections 6.1 and 6.3)
//
// It also rejects a header with more than maxFields fields. The names listed
// in Connection and Trailer count as fields, because each takes as much memory
// and is searched for among the others.
func (h *requestHeader) parse(text string, maxFields int) error {
	*h = requestHeader{fields: h.fields[:0]}
	line, rest := cutCRLF(text)
	if err := h.parseRequestLine(line); err != nil {
		return err
	}
	var host, length, encoding, listed int
	for len(rest) > 2 {
		if len(h.fields)+host+listed >= maxFields {
			return errTooManyRequestFields(maxFields)
		}
		line, rest = cutCRLF(rest)
		f, err := parseField(line)
		if err != nil {
			return err
		}
		switch kindOf(f.Name) {
		case fieldHost:
			host++
			h.host = f.Value
			if strings.ContainsAny(f.Value, " \t\"#/<>?@\\^`{|}") {
				return errors.New("the Host field is not a valid host (RFC 9112 section 3.2)")
			}
			continue
		case fieldExpect:
			if !strings.EqualFold(f.Value, "100-continue") {
				return &statusError{http.StatusExpectationFailed, "the Expect field has an expectation other than 100-continue (RFC 9110 section 10.1.1)"}
			}
		case fieldConnection:
			h.hasConnection = true
			listed += strings.Count(f.Value, ",")
		case fieldContentLength:
			length++
			h.contentLength = f.Value
			if !isDigits(f.Value) {
				return errors.New("the Content-Length field is not a number (RFC 9110 section 8.6)")
			}
		case fieldTransferEncoding:
			encoding++
			h.chunked = true
			if !strings.EqualFold(f.Value, "chunked") {
				return &statusError{http.StatusNotImplemented, "the Transfer-Encoding is not supported; use chunked (RFC 9112 section 6.1)"}
			}
		case fieldTrailer:
			listed += strings.Count(f.Value, ",")
		}
		h.fields = append(h.fields, f)
	}
	if len(h.fields)+host+listed > maxFields {
		return errTooManyRequestFields(maxFields)
	}
	switch {
	case host > 1:
		return errors.New("more than one Host field (RFC 9112 section 3.2)")
	case host == 0 && h.minor == 1:
		return errors.New("no Host field (RFC 9112 section 3.2)")
	case length > 1:
		return errors.New("more than one Content-Length field (RFC 9112 section 6.3)")
	case encoding > 1:
		return errors.New("more than one Transfer-Encoding field (RFC 9112 section 6.1)")
	case encoding > 0 && length > 0:
		return errors.New("both Content-Length and Transfer-Encoding (RFC 9112 section 6.3)")
	case encoding > 0 && h.minor == 0:
		return errors.New("Transfer-Encoding in an HTTP/1.0 request (RFC 9112 section 6.1)")
	}
	return nil
}

func errTooManyRequestFields(maxFields int) error {
	return &statusError{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the request header has more than %d fields", maxFields)}
}

// maxMethodBytes limits the length of a method, because methods are recorded
// and logged. The longest registered one (RFC 9110 section 16.1) has 17 bytes.
const maxMethodBytes = 64

func (h *requestHeader) parseRequestLine(line string) error {
	if hasControl(line, false) {
		return errors.New("a control character in the request line")
	}
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || method == "" || target == "" || strings.IndexByte(version, ' ') >= 0 {
		return errors.New("the request line is not METHOD TARGET HTTP/1.1")
	}
	if len(method) > maxMethodBytes {
		return &statusError{http.StatusNotImplemented, fmt.Sprintf("a method of %d bytes is too long (RFC 9112 section 3)", len(method))}
	}
	h.method, h.target = method, target
	switch version {
	case "HTTP/1.1":
		h.minor = 1
		return nil
	case "HTTP/1.0":
		return nil
	}
	// The text here may be part of a query that contains a space, so only a
	// well-formed version is quoted.
	if _, _, ok := http.ParseHTTPVersion(version); ok {
		return &statusError{http.StatusHTTPVersionNotSupported, "the version " + version + " is not supported; use HTTP/1.1"}
	}
	if strings.HasPrefix(version, "HTTP/") {
		return &statusError{http.StatusHTTPVersionNotSupported, "the HTTP version is not supported; use HTTP/1.1"}
	}
	return errors.New("the request line does not end with a version; use HTTP/1.1")
}

func parseField(line string) (Field, error) {
	if line[0] == ' ' || line[0] == '\t' {
		return Field{}, errors.New("a folded header line (RFC 9112 section 5.2)")
	}
	name, value, ok := strings.Cut(line, ":")
	if !ok || name == "" {
		return Field{}, errors.New("a header line has no name")
	}
	if last := name[len(name)-1]; last == ' ' || last == '\t' {
		return Field{}, errors.New("white space before the colon of a header line (RFC 9112 section 5.1)")
	}
	if !isToken(name) {
		return Field{}, errors.New("a header name is not a token (RFC 9110 section 5.1)")
	}
	if hasControl(value, true) {
		if i := strings.IndexFunc(value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }); value[i] == '\n' {
			return Field{}, errBareLF
		}
		return Field{}, fmt.Errorf("a control character in the value of %.40q (RFC 9110 section 5.5)", name)
	}
	return Field{name, strings.Trim(value, " \t")}, nil
}
