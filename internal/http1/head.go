// The head of a request, before it is parsed: read whole, within a limit, and
// held to the letter of the grammar.

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var crlf2 = []byte("\r\n\r\n")

// headError is what is wrong with a head, where a status says more than 400.
type headError struct {
	status int
	text   string
}

func (e *headError) Error() string { return e.text }

var errHeadTooLarge = &headError{http.StatusRequestHeaderFieldsTooLarge, "the request's header is too large"}

// bufferSize is the read buffer of a connection. Most heads fit; a larger one
// gets a larger buffer.
const bufferSize = 4 << 10

// readHead waits for a whole head and returns it, still in the buffer, with
// its final empty line. It returns another reader where the head needed a
// larger buffer. Empty lines before the request line are skipped (RFC 9112
// section 2.2). io.EOF means that the client ended before a first byte.
func readHead(br *bufio.Reader, conn io.Reader, limit int) ([]byte, *bufio.Reader, error) {
	if err := skipEmptyLines(br); err != nil {
		return nil, br, err
	}
	seen := 0
	for {
		// One more byte than there is waits for the next read.
		data, err := br.Peek(min(max(seen+1, br.Buffered()), br.Size()))
		from := max(0, seen-len(crlf2)+1)
		if i := bytes.Index(data[from:], crlf2); i >= 0 {
			return data[:from+i+len(crlf2)], br, nil
		}
		if err := tooOdd(data, seen); err != nil {
			return nil, br, err
		}
		switch {
		case len(data) >= limit:
			return nil, br, errHeadTooLarge
		case err == io.EOF:
			return nil, br, io.ErrUnexpectedEOF
		case err != nil:
			return nil, br, err
		}
		seen = len(data)
		if seen == br.Size() {
			// What is buffered moves to a buffer that holds every head.
			rest := io.MultiReader(bytes.NewReader(bytes.Clone(data)), conn)
			br = bufio.NewReaderSize(rest, limit+bufferSize)
			seen = 0
		}
	}
}

// tooOdd refuses early what will not become a head, so that a client which
// speaks something else, and waits for an answer, gets one: TLS, a bare LF.
func tooOdd(data []byte, seen int) error {
	if data[0] == 0x16 {
		return errors.New("a TLS handshake on the plain port: use http:// in the proxy's URL, not https://")
	}
	for i := max(seen, 1); i < len(data); i++ {
		if data[i] == '\n' && data[i-1] != '\r' {
			return errBareLF
		}
	}
	return nil
}

var errBareLF = errors.New("a line ends with LF alone (RFC 9112 section 2.2)")

// skipEmptyLines waits for the first byte of a request.
func skipEmptyLines(br *bufio.Reader) error {
	for range 4 {
		b, err := br.Peek(1)
		if err != nil {
			return err
		}
		if b[0] != '\r' && b[0] != '\n' {
			return nil
		}
		if b, err = br.Peek(2); err != nil || string(b) != "\r\n" {
			return errBareLF
		}
		br.Discard(2)
	}
	return errors.New("empty lines instead of a request")
}

// checkHead refuses a head that another reader might understand differently.
// What it lets pass, net/http parses; it is stricter than net/http in what is
// listed here, and no replacement for it. The errors do not quote what may
// hold a secret, a URL or a field's value, for they end in a log.
//
//   - a line ends with CRLF, and neither stands elsewhere (RFC 9112 section 2.2)
//   - no line is folded (section 5.2), none has white space before its colon
//     (section 5.1); names are tokens, values have no control characters
//   - the request line has single spaces and an HTTP/1.x version (section 3)
//   - HTTP/1.1 has exactly one Host, HTTP/1.0 at most one (section 3.2)
//   - at most one Content-Length, of digits alone; at most one
//     Transfer-Encoding, "chunked" alone, only in HTTP/1.1, and not both
//     (sections 6.1 and 6.3)
func checkHead(head []byte) error {
	line, rest := cutLine(head)
	version, err := checkRequestLine(line)
	if err != nil {
		return err
	}
	var host, length, encoding int
	for len(rest) > 2 {
		line, rest = cutLine(rest)
		name, value, err := checkFieldLine(line)
		if err != nil {
			return err
		}
		switch len(name) {
		case len("Host"):
			if equalFold(name, "host") {
				host++
				if bytes.ContainsAny(value, " \t\"#/<>?@\\^`{|}") {
					return errors.New("the Host field holds no host (RFC 9112 section 3.2)")
				}
			}
		case len("Expect"):
			if equalFold(name, "expect") && !strings.EqualFold(string(value), "100-continue") {
				return &headError{http.StatusExpectationFailed, fmt.Sprintf("the expectation %.40q is not known here; 100-continue is (RFC 9110 section 10.1.1)", value)}
			}
		case len("Content-Length"):
			if equalFold(name, "content-length") {
				length++
				if !digits(value) {
					return fmt.Errorf("the Content-Length %.40q is not a number", value)
				}
			}
		case len("Transfer-Encoding"):
			if equalFold(name, "transfer-encoding") {
				encoding++
				if !strings.EqualFold(string(value), "chunked") {
					return &headError{http.StatusNotImplemented, fmt.Sprintf("the Transfer-Encoding %.40q is not known here; chunked is (RFC 9112 section 6.1)", value)}
				}
			}
		}
	}
	switch {
	case host > 1:
		return errors.New("more than one Host field (RFC 9112 section 3.2)")
	case host == 0 && version == "HTTP/1.1":
		return errors.New("no Host field (RFC 9112 section 3.2)")
	case length > 1:
		return errors.New("more than one Content-Length field (RFC 9112 section 6.3)")
	case encoding > 1:
		return errors.New("more than one Transfer-Encoding field (RFC 9112 section 6.1)")
	case encoding > 0 && length > 0:
		return errors.New("both Content-Length and Transfer-Encoding (RFC 9112 section 6.3)")
	case encoding > 0 && version != "HTTP/1.1":
		return errors.New("Transfer-Encoding in an HTTP/1.0 request (RFC 9112 section 6.1)")
	}
	return nil
}

// cutLine cuts a line that is known to end with CRLF off a head.
func cutLine(head []byte) (line, rest []byte) {
	i := bytes.Index(head, crlf2[:2])
	return head[:i], head[i+2:]
}

// maxMethod bounds a method, which goes into records and logs. The longest in
// the registry of RFC 9110 section 16.1 has 17 bytes.
const maxMethod = 64

func checkRequestLine(line []byte) (version string, err error) {
	if i := bytes.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
		return "", errors.New("a control character in the request line")
	}
	method, rest, ok := bytes.Cut(line, []byte(" "))
	target, v, ok2 := bytes.Cut(rest, []byte(" "))
	if !ok || !ok2 || len(method) == 0 || len(target) == 0 || bytes.IndexByte(v, ' ') >= 0 {
		return "", errors.New("the request line is not METHOD TARGET HTTP/1.1")
	}
	if len(method) > maxMethod {
		return "", &headError{http.StatusNotImplemented, fmt.Sprintf("a method of %d bytes is not known here (RFC 9112 section 3)", len(method))}
	}
	switch string(v) {
	case "HTTP/1.1":
		return "HTTP/1.1", nil
	case "HTTP/1.0":
		return "HTTP/1.0", nil
	}
	if bytes.HasPrefix(v, []byte("HTTP/")) {
		return "", &headError{http.StatusHTTPVersionNotSupported, fmt.Sprintf("the version %.20q is not spoken here; use HTTP/1.1", v)}
	}
	return "", fmt.Errorf("the version %.20q is not spoken here; use HTTP/1.1", v)
}

func checkFieldLine(line []byte) (name, value []byte, err error) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, errors.New("a folded header line (RFC 9112 section 5.2)")
	}
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return nil, nil, errors.New("a header line has no name")
	}
	if last := name[len(name)-1]; last == ' ' || last == '\t' {
		return nil, nil, errors.New("white space before the colon of a header line (RFC 9112 section 5.1)")
	}
	for _, b := range name {
		if !isTokenChar(b) {
			return nil, nil, errors.New("a header name is no token (RFC 9110 section 5.1)")
		}
	}
	for _, b := range value {
		switch {
		case b == '\n':
			return nil, nil, errBareLF
		case b < ' ' && b != '\t' || b == 0x7f:
			return nil, nil, fmt.Errorf("a control character in the value of %.40q (RFC 9110 section 5.5)", name)
		}
	}
	return name, bytes.Trim(value, " \t"), nil
}

// isTokenChar is tchar of RFC 9110 section 5.6.2.
func isTokenChar(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	}
	return strings.IndexByte("!#$%&'*+-.^_`|~", b) >= 0
}

// equalFold compares with a lower-case ASCII name of the same length.
func equalFold(name []byte, lower string) bool {
	for i := range len(lower) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func digits(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) > 0
}
