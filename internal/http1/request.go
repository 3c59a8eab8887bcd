// From a head to an *http.Request, without a copy of its parts. What is rare
// or odd is left to net/http, and so is every error.

package http1

import (
	"bufio"
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
