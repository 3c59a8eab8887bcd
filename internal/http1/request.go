// From a head to an *http.Request, without a copy of its parts. What is rare
// or odd is left to net/http, and so is every error.

package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// maxPlainLength is in digits: what fits an int64 for certain.
const maxPlainLength = 18

// plain makes of the head what http.ReadRequest would make of it, and reports
// false where that is not for it to say. The request, its URL and its header
// are the exchange's, for this one request.
func (x *exchange) plain(br *bufio.Reader) bool {
	h := &x.head
	if h.odd || h.minor != 1 || len(h.length) > maxPlainLength || len(h.fields)+1 > plainFields || !isToken(h.method) {
		return false
	}
	if !x.plainURL() {
		return false
	}
	r := x.request
	*r = *x.blank
	r.Method, r.RequestURI, r.URL, r.Host = h.method, h.target, &x.url, x.url.Host
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header = x.header
	x.values = fillHeader(x.header, h.fields, x.values)
	if h.closes {
		r.Close = namesClose(x.header["Connection"])
	}
	r.Body = http.NoBody
	if h.length != "" {
		r.ContentLength, _ = strconv.ParseInt(h.length, 10, 64) // it is digits, and few
	}
	if r.ContentLength > 0 {
		r.Body = &content{br: br, left: r.ContentLength}
	}
	return true
}

// plainURL fills in the URL of authority-form or absolute-form (RFC 9112
// section 3.2) where there is nothing to decode in it, and reports whether it
// could.
func (x *exchange) plainURL() bool {
	x.url = url.URL{}
	if x.head.method == http.MethodConnect {
		x.url.Host = x.head.target
		return isPlainAuthority(x.url.Host)
	}
	rest, ok := strings.CutPrefix(x.head.target, "http://")
	if !ok {
		return false
	}
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	path, query, asks := strings.Cut(rest[end:], "?")
	if asks && query == "" || !isPlainAuthority(rest[:end]) {
		return false
	}
	for i := range len(path) {
		if !pathChars.has(path[i]) {
			return false
		}
	}
	x.url.Scheme, x.url.Host, x.url.Path, x.url.RawQuery = "http", rest[:end], path, query
	return true
}

// pathChars are those of a path that net/url neither decodes nor encodes.
var pathChars = chars(alphanumeric + "-_.~$&+,/:;=@")

var hostChars = chars(alphanumeric + "-_.")

// isPlainAuthority reports whether s is a name or an IPv4 address, with or
// without a port.
func isPlainAuthority(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if host == "" || hasPort && !digits(port) {
		return false
	}
	for i := range len(host) {
		if !hostChars.has(host[i]) {
			return false
		}
	}
	return true
}

// fillHeader makes a header of fields. The values stand one behind the other
// in a slice: that of the header before, if it has room for them. It returns
// the slice.
func fillHeader(header http.Header, fields []Field, values []string) []string {
	clear(header)
	values = values[:0]
	if cap(values) < len(fields) {
		values = make([]string, 0, max(len(fields), 8))
	}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if before, ok := header[name]; ok {
			header[name] = append(before, f.Value) // elsewhere: it has no room
			continue
		}
		values = append(values, f.Value)
		n := len(values)
		header[name] = values[n-1 : n : n]
	}
	return values
}

// content is the content of a message that says its length.
type content struct {
	br   *bufio.Reader
	left int64
}

// Read reads up to the length, and says io.ErrUnexpectedEOF where less comes.
func (c *content) Read(p []byte) (n int, err error) {
	if c.left > 0 {
		n, err = c.br.Read(p[:min(int64(len(p)), c.left)])
		c.left -= int64(n)
	}
	switch {
	case c.left == 0:
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *content) Close() error { return nil }

// chunkedContent is the content of a message in the chunked coding (RFC 9112
// section 7.1). Its trailer section is held to the grammar of a head, and
// bounded like one.
type chunkedContent struct {
	br      *bufio.Reader
	chunks  io.Reader   // up to the last chunk, without the trailer section
	trailer http.Header // takes the fields that are announced: its keys
	fields  int         // how many more may come
	bytes   int         // how long they may still be
	last    bool        // the last chunk was read
	name    string      // of the last trailer
	err     error       // of an earlier read
}

// Read returns io.EOF behind the trailer section.
func (c *chunkedContent) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.last {
		n, err = c.chunks.Read(p)
		if err != io.EOF {
			c.err = err
			return n, err
		}
		if c.last = true; n > 0 {
			return n, nil // the trailer section may not have come yet
		}
	}
	c.err = c.readTrailer()
	if c.err == nil {
		c.err = io.EOF
	}
	return n, c.err
}

func (c *chunkedContent) readTrailer() error {
	for {
		line, err := c.br.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err == bufio.ErrBufferFull:
			return errTrailerTooLarge
		case err != nil:
			return err
		case len(line) < 2 || line[len(line)-2] != '\r':
			return errBareLF
		case len(line) == 2:
			return nil
		}
		c.fields--
		c.bytes -= len(line)
		if c.fields < 0 || c.bytes < 0 {
			return errTrailerTooLarge
		}
		if err := c.addTrailer(string(line[:len(line)-2])); err != nil {
			return err
		}
	}
}

// addTrailer takes one line. A folded line, or one with white space before
// its colon, is unusual but cannot be read as anything else here: its field is
// dropped.
func (c *chunkedContent) addTrailer(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		if c.name == "" {
			return errors.New("the trailer section begins with a folded line (RFC 9112 section 5.2)")
		}
		delete(c.trailer, c.name)
		return nil
	}
	name, _, _ := strings.Cut(line, ":")
	trimmed := strings.TrimRight(name, " \t")
	f, err := parseField(trimmed + line[len(name):])
	if err != nil {
		return err
	}
	c.name = textproto.CanonicalMIMEHeaderKey(f.Name)
	if values, announced := c.trailer[c.name]; announced && trimmed == name {
		c.trailer[c.name] = append(values, f.Value)
	}
	return nil
}

var errTrailerTooLarge = errors.New("the trailer section is too large")

func (c *chunkedContent) Close() error { return nil }
