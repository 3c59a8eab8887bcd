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

// errTooManyResponseFields refuses what has more fields than the limit: each takes memory
// whatever its length.
func errTooManyResponseFields(limit int) error {
	return fmt.Errorf("the origin sent more than %d fields", limit)
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
	text, err := readHeaderLines(c.br, remaining)
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

// readHeaderLines reads a status line and header lines up to and including the
// empty line, and subtracts their length from *remaining.
func readHeaderLines(br *bufio.Reader, remaining *int) (string, error) {
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
		case !partial && lines > 0 && (len(line) == 1 || len(line) == 2 && line[0] == '\r'):
			return string(text), nil
		}
		partial = false
		lines++
	}
}
