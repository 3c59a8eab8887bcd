// Requests to origins and their responses, as they pass through a proxy: the
// fields in the order and spelling in which they arrived.

package http1

import (
	"bufio"
	"bytes"
	"context"
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

// Request is a request to an origin. [Transport.Send] neither changes it nor
// keeps it beyond the end of its response, except that it reads and closes
// Body.
type Request struct {
	// Context ends the request. If it is that of a request which a [Server]
	// serves, the response is the handler's until it returns or sends another
	// request.
	Context context.Context

	Addr   string // host and port to connect to; connections are pooled by it
	Method string
	Target string // the request-target (RFC 9112 section 3.2), written as it is
	Host   string // the value of the Host field, which is written first

	// Fields are the other field lines, written in this order. Those that frame
	// the content, Content-Length and Transfer-Encoding, follow from
	// ContentLength; a Content-Length here says only where its line stands.
	Fields []Field

	// Body is the content; nil or http.NoBody mean none. ContentLength is its
	// length; if there is a Body and ContentLength is not positive, the content
	// is chunked.
	Body          io.ReadCloser
	ContentLength int64

	// Trailer has the names of the fields that follow chunked content, and
	// their values once Body has returned io.EOF.
	Trailer http.Header

	// Hooks makes and watches the connection of this round trip.
	Hooks RoundTripHooks
}

func (r *Request) hasBody() bool { return r.Body != nil && r.Body != http.NoBody }

// Response is the response of an origin, or an interim one (RFC 9110 section
// 15.2).
type Response struct {
	Status int
	Reason string // the reason phrase as it came, without control characters; it may be empty

	// Fields are the field lines of the header as they came, with those that
	// concern the connection or frame the content.
	Fields []Field

	ContentLength int64         // 0 if there is no content, -1 if only its end tells
	Body          io.ReadCloser // never nil in a final response
	Trailer       []Field       // set once Body has returned io.EOF

	minor   int  // of HTTP/1.x
	chunked bool // the content is
	closes  bool // the connection ends with the response
}

// Values returns the values of the fields of a name, which is in lower case.
func Values(fields []Field, name string) (values []string) {
	for i := range fields {
		if len(fields[i].Name) == len(name) && equalsLower(fields[i].Name, name) {
			values = append(values, fields[i].Value)
		}
	}
	return values
}

// Is reports whether the field has a name, which is in lower case.
func (f *Field) Is(name string) bool { return len(f.Name) == len(name) && equalsLower(f.Name, name) }

// errTooManyResponseFields refuses what has more fields than the limit: each takes memory
// whatever its length.
func errTooManyResponseFields(limit int) error {
	return fmt.Errorf("the origin sent more than %d fields", limit)
}

// parse reads the head of a response. It takes what net/http's clients take,
// because origins are old and many, and refuses what has two readings:
//
//   - a line may end with LF alone (RFC 9112 section 2.2), and a folded line
//     is unfolded (section 5.2)
//   - white space before a colon is removed (section 5.1); otherwise names are
//     tokens, and values have no control characters
//   - Transfer-Encoding overrides Content-Length (section 6.3), is "chunked"
//     alone, and means nothing in HTTP/1.0
//   - Content-Length fields are digits, and equal
//
// Fields are appended to a.Fields, most of them at most. As in a request, the
// names that Connection and Trailer list count as fields.
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
		// It means nothing, and must not be passed on, not even where there is
		// no content (RFC 9112 section 6.3).
		r.Fields = slices.DeleteFunc(fields, func(f Field) bool { return f.Is("content-length") })
	}
	r.closes = r.closes || r.minor == 0 && !keepAlive
	if err := r.setFraming(method, length, encodings > 0 && r.minor > 0); err != nil || !r.chunked {
		return err
	}
	for _, list := range Values(fields, "trailer") {
		for _, name := range [...]string{"content-length", "transfer-encoding", "trailer"} {
			if listContains(list, name) {
				return errors.New("the origin's Trailer field names a field that frames the content (RFC 9110 section 6.5.1)")
			}
		}
	}
	return nil
}

var (
	errControl = errors.New("the origin's header has a control character (RFC 9110 section 5.5)")
	errLength  = errors.New("the origin's Content-Length is not a number (RFC 9112 section 6.3)")
)

// setFraming decides how the content ends (RFC 9112 section 6.3).
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

// parseStatusLine reads a status line (RFC 9112 section 4). Spaces before and
// after the status may be missing or too many, as net/http takes them.
func (r *Response) parseStatusLine(line string) error {
	version, rest, ok := strings.Cut(line, " ")
	if !ok || len(version) != len("HTTP/1.1") || !strings.HasPrefix(version, "HTTP/") {
		return errors.New("the origin did not answer in HTTP")
	}
	if version[5] != '1' || version[6] != '.' || version[7] < '0' || version[7] > '9' {
		return errors.New("the origin answered in a version other than HTTP/1.1")
	}
	if version[7] > '0' {
		r.minor = 1
	}
	rest = strings.TrimLeft(rest, " ")
	status, reason, _ := strings.Cut(rest, " ")
	if len(status) != 3 || !isDigits(status) {
		return errors.New("the origin answered without a status of three digits (RFC 9112 section 4)")
	}
	r.Status = 100*int(status[0]-'0') + 10*int(status[1]-'0') + int(status[2]-'0')
	if r.Status < 100 {
		return fmt.Errorf("the origin answered with the status %d", r.Status)
	}
	if hasControl(reason, true) {
		reason = http.StatusText(r.Status)
	}
	r.Reason = reason
	return nil
}

// parseResponseField reads a field line of a response or of its trailer section.
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
		return Field{}, errors.New("the origin's header has a name that is no token (RFC 9110 section 5.1)")
	}
	if hasControl(value, true) {
		return Field{}, errControl
	}
	return Field{name, strings.Trim(value, " \t")}, nil
}

// listContains reports whether a list has a token.
func listContains(list, token string) bool {
	if strings.IndexByte(list, ',') < 0 {
		return strings.EqualFold(list, token)
	}
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), token) {
			return true
		}
	}
	return false
}

// cutCRLF cuts a line, which may end with LF alone, off a head.
func cutLine(text string) (line, rest string) {
	i := strings.IndexByte(text, '\n')
	if i < 0 {
		return text, ""
	}
	line, rest = text[:i], text[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// headerLength returns the length of the head at the beginning of data, with the
// empty line at its end; 0 if it has not come whole.
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

// readHeader reads the head of a response, of which a byte has come, and takes its
// length off *left.
//
// A head that does not come in one piece has HeaderTimeout from here on. An
// origin may think before the first byte for as long as its client waits.
func (c *originConn) readHeader(remaining *int) (string, error) {
	data, _ := c.br.Peek(c.br.Buffered()) // what is buffered can be peeked at
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
	text, err := readLines(c.br, remaining, 1)
	switch {
	case errors.Is(err, errTooLong):
		err = c.errHeaderTooLarge()
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("the origin's header did not arrive whole in time: %w", err)
	}
	return text, err
}

func (c *originConn) errHeaderTooLarge() error {
	return fmt.Errorf("the origin's header is over %d bytes", c.transport.maxHeaderBytes())
}

var errTooLong = errors.New("http1: more bytes than the limit")

// readLines reads lines up to an empty one, which is not among the first ones,
// and takes their length off *left.
func readLines(br *bufio.Reader, remaining *int, minLines int) (string, error) {
	var text []byte
	partial := false // the line is longer than the buffer
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
		case !partial && lines >= minLines && (len(line) == 1 || len(line) == 2 && line[0] == '\r'):
			return string(text), nil
		}
		partial = false
		lines++
	}
}

// chunkedAnswer is the content of a response in the chunked coding (RFC 9112
// section 7.1), with its trailer section.
type chunkedAnswer struct {
	br     *bufio.Reader
	chunks io.Reader // up to the last chunk, without the trailer section
	answer *Response // gets the trailer fields
	fields int       // how many may come
	bytes  int       // how long they may be
	last   bool      // the last chunk was read
	err    error     // of an earlier read
}

// Read returns io.EOF behind the trailer section.
func (c *chunkedAnswer) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.last {
		n, err = c.chunks.Read(p)
		if err != io.EOF {
			c.err = err
			return n, err
		}
		c.last = true
		if n > 0 {
			if next, _ := c.br.Peek(min(2, c.br.Buffered())); string(next) != "\r\n" {
				return n, nil // the trailer section may not have come yet
			}
		}
	}
	if c.err = c.readTrailer(); c.err == nil {
		c.err = io.EOF
	}
	return n, c.err
}

func (c *chunkedAnswer) readTrailer() error {
	text, err := readLines(c.br, &c.bytes, 0)
	if errors.Is(err, errTooLong) {
		return errors.New("the origin's trailer section is too large")
	}
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
		return fmt.Errorf("the origin's trailer section: %w", errBareLF)
	}
	for n := 0; err == nil; n++ {
		var line string
		if line, text = cutLine(text); line == "" {
			return nil
		}
		if n == c.fields {
			return errTooManyResponseFields(c.fields)
		}
		var f Field
		if line[0] == ' ' || line[0] == '\t' {
			c.answer.Trailer = c.answer.Trailer[:max(0, len(c.answer.Trailer)-1)] // what it belongs to is not known whole
			continue
		}
		if f, err = parseResponseField(line); err == nil {
			c.answer.Trailer = append(c.answer.Trailer, f)
		}
	}
	return err
}

func (c *chunkedAnswer) Close() error { return nil }

// closeDelimitedBody is content that ends with the connection.
type closeDelimitedBody struct{ br *bufio.Reader }

func (c closeDelimitedBody) Read(p []byte) (int, error) { return c.br.Read(p) }
func (c closeDelimitedBody) Close() error               { return nil }
