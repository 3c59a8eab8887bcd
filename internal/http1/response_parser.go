// Reading and parsing a response header, as leniently as net/http does.

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parse parses a response header. It accepts what net/http's client accepts,
// because there are many old origin servers. It rejects headers that have two
// readings:
//
//   - a line may end with LF alone (RFC 9112 section 2.2); a folded line is
//     unfolded (section 5.2)
//   - white space before a colon is removed (section 5.1); names are otherwise
//     tokens, and values have no control characters
//   - Transfer-Encoding overrides Content-Length (section 6.3), must be "chunked"
//     only, and is ignored in HTTP/1.0
//   - all Content-Length fields are the same number, in digits only
//
// The fields are appended to r.Fields. More than maxFields are an error. As in
// a request, the names listed in Connection and Trailer count as fields.
func (r *Response) parse(text string, method string, maxFields int) error {
	line, rest := cutLine(text)
	if err := r.parseStatusLine(line); err != nil {
		return err
	}
	fields := r.Fields
	length, encodings, keepAlive := "", 0, false
	for n := 0; ; n++ {
		if line, rest = cutLine(rest); line == "" {
			break
		}
		if n == maxFields {
			return errTooManyResponseFields(maxFields)
		}
		if line[0] == ' ' || line[0] == '\t' {
			if len(fields) == 0 {
				return errors.New("the origin's header begins with a folded line (RFC 9112 section 5.2)")
			}
			if hasControl(line, true) {
				return errControl
			}
			last := &fields[len(fields)-1]
			last.Value = strings.Trim(last.Value+" "+strings.Trim(line, " \t"), " ")
			continue
		}
		f, err := parseResponseField(line)
		if err != nil {
			return err
		}
		fields = append(fields, f)
	}
	r.Fields = fields
	listed := 0
	for i := range fields {
		f := &fields[i]
		switch kindOf(f.Name) {
		case fieldTrailer:
			listed += strings.Count(f.Value, ",")
		case fieldConnection:
			listed += strings.Count(f.Value, ",")
			r.closes = r.closes || listContains(f.Value, "close")
			keepAlive = keepAlive || listContains(f.Value, "keep-alive")
		case fieldContentLength:
			if length != "" && length != f.Value {
				return errors.New("the origin sent several Content-Length fields (RFC 9112 section 6.3)")
			}
			length = f.Value
			if length == "" {
				return errLength
			}
		case fieldTransferEncoding:
			if encodings++; r.minor > 0 && (encodings > 1 || !strings.EqualFold(f.Value, "chunked")) {
				return errors.New("the origin sent a Transfer-Encoding other than chunked (RFC 9112 section 6.1)")
			}
		}
	}
	if len(fields)+listed > maxFields {
		return errTooManyResponseFields(maxFields)
	}
	if length != "" && encodings > 0 && r.minor > 0 {
		// Content-Length is ignored and must not be relayed, not even in a
		// response without a body (RFC 9112 section 6.3).
		r.Fields = slices.DeleteFunc(fields, func(f Field) bool { return f.Is("content-length") })
	}
	r.closes = r.closes || r.minor == 0 && !keepAlive
	if err := r.setFraming(method, length, encodings > 0 && r.minor > 0); err != nil || !r.chunked {
		return err
	}
	for _, list := range Values(fields, "trailer") {
		for _, name := range [...]string{"content-length", "transfer-encoding", "trailer"} {
			if listContains(list, name) {
				return errors.New("the origin's Trailer field names a field that frames the body (RFC 9110 section 6.5.1)")
			}
		}
	}
	return nil
}

var (
	errControl = errors.New("the origin's header has a control character (RFC 9110 section 5.5)")
	errLength  = errors.New("the origin's Content-Length is not a number (RFC 9112 section 6.3)")
)

// setFraming determines how the body ends (RFC 9112 section 6.3).
func (r *Response) setFraming(method, length string, chunked bool) error {
	n := int64(-1)
	if length != "" && !chunked {
		var err error
		if n, err = strconv.ParseInt(length, 10, 64); err != nil || !isDigits(length) {
			return errLength
		}
	}
	switch {
	case method == http.MethodHead, r.Status < 200, r.Status == http.StatusNoContent, r.Status == http.StatusNotModified:
		r.ContentLength, r.Body = 0, http.NoBody
	case chunked:
		r.ContentLength, r.chunked = -1, true
	case n == 0:
		r.ContentLength, r.Body = 0, http.NoBody
	default:
		r.ContentLength = n
		r.closes = r.closes || n < 0
	}
	return nil
}

// parseStatusLine parses a status line (RFC 9112 section 4). Like net/http, it
// accepts missing and additional spaces around the status.
func (r *Response) parseStatusLine(line string) error {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || len(version) != len("HTTP/1.1") || !strings.HasPrefix(version, "HTTP/") {
		return errors.New("the origin's response is not HTTP")
	}
	if version[5] != '1' || version[6] != '.' || version[7] < '0' || version[7] > '9' {
		return errors.New("the origin's response has an HTTP version other than 1.x")
	}
	if version[7] > '0' {
		r.minor = 1
	}
	rest = strings.TrimLeft(rest, " ")
	status, reason, _ := strings.Cut(rest, " ")
	if len(status) != 3 || !isDigits(status) {
		return errors.New("the origin's response has no status of three digits (RFC 9112 section 4)")
	}
	r.Status = 100*int(status[0]-'0') + 10*int(status[1]-'0') + int(status[2]-'0')
	if r.Status < 100 {
		return fmt.Errorf("the origin's response has the invalid status %d", r.Status)
	}
	if hasControl(reason, true) {
		reason = http.StatusText(r.Status)
	}
	r.Reason = reason
	return nil
}

// parseResponseField parses a field line of a header or a trailer section.
func parseResponseField(line string) (Field, error) {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return Field{}, errors.New("the origin's header has a line without a colon (RFC 9112 section 5)")
	}
	if name != "" {
		if last := name[len(name)-1]; last == ' ' || last == '\t' {
			name = strings.TrimRight(name, " \t")
		}
	}
	if !isToken(name) {
		return Field{}, errors.New("the origin's header has a name that is not a token (RFC 9110 section 5.1)")
	}
	if hasControl(value, true) {
		return Field{}, errControl
	}
	return Field{name, strings.Trim(value, " \t")}, nil
}

// errTooManyResponseFields returns the error for more fields than the limit.
// Fields are limited because each takes memory whatever its length.
func errTooManyResponseFields(limit int) error {
	return fmt.Errorf("the origin's header has more than %d fields", limit)
}

// headerLength returns the length of the header at the beginning of data,
// including its empty line. It returns 0 if the header is incomplete.
func headerLength(data []byte) int {
	for i := 0; i < len(data); {
		n := bytes.IndexByte(data[i:], '\n')
		if n < 0 {
			return 0
		}
		if i > 0 && (n == 0 || n == 1 && data[i] == '\r') {
			return i + n + 1
		}
		i += n + 1
	}
	return 0
}

// readHeader reads a response header and subtracts its length from *remaining.
// Its first byte must have arrived.
//
// A header that does not arrive in one piece must be complete within
// HeaderTimeout from now. Before the first byte, an origin server may take as
// long as the client waits.
func (c *originConn) readHeader(remaining *int) (string, error) {
	data, _ := c.br.Peek(c.br.Buffered()) // cannot fail
	if n := headerLength(data); n > 0 {
		if *remaining -= n; *remaining < 0 {
			return "", c.errHeaderTooLarge()
		}
		text := string(data[:n])
		c.br.Discard(n)
		return text, nil
	}
	if timeout := c.transport.HeaderTimeout; timeout > 0 {
		c.SetReadDeadline(time.Now().Add(timeout))
		defer c.SetReadDeadline(time.Time{})
	}
	text, err := readHeaderLines(c.br, remaining)
	switch {
	case errors.Is(err, errTooLong):
		err = c.errHeaderTooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the origin's header did not arrive completely in time: %w", err)
	}
	return text, err
}

func (c *originConn) errHeaderTooLarge() error {
	return fmt.Errorf("the origin's header is larger than %d bytes", c.transport.maxHeaderBytes())
}

var errTooLong = errors.New("http1: header too large")

// readHeaderLines reads a status line and header lines up to and including the
// empty line, and subtracts their length from *remaining.
func readHeaderLines(br *bufio.Reader, remaining *int) (string, error) {
	var text []byte
	partial := false // the previous part of the line filled the buffer
	for lines := 0; ; {
		line, err := br.ReadSlice('\n')
		if *remaining -= len(line); *remaining < 0 {
			return "", errTooLong
		}
		text = append(text, line...)
		switch {
		case err == bufio.ErrBufferFull:
			partial = true
			continue
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		case !partial && lines > 0 && (len(line) == 1 || len(line) == 2 && line[0] == '\r'):
			return string(text), nil
		}
		partial = false
		lines++
	}
}
