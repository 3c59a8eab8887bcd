// Making an *http.Request of a parsed header, without copying its parts.

package http1

import (
	"bufio"
	"cmp"
	"errors"
	"net/http"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

// maxLengthDigits limits a Content-Length so that it fits an int64.
const maxLengthDigits = 18

// makeRequest returns the *http.Request of the parsed header, as
// http.ReadRequest would, with two differences: Pragma adds no field, and the
// URL is not decoded, so Path and RawQuery are substrings of the
// request-target. The request, its URL and its header belong to the exchange
// and are valid for this request only. The body is read from br.
func (x *exchange) makeRequest(br *bufio.Reader, maxFields, maxBytes int) (*http.Request, error) {
	h := &x.header
	if !isToken(h.method) {
		return nil, errors.New("the method is not a token (RFC 9110 section 9.1)")
	}
	if len(h.contentLength) > maxLengthDigits {
		return nil, errors.New("the Content-Length field is too large")
	}
	if err := x.parseTarget(); err != nil {
		return nil, err
	}
	r := x.request
	*r = *x.template
	r.Method, r.RequestURI, r.URL, r.Host = h.method, h.target, &x.url, cmp.Or(x.url.Host, h.host)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.Header = x.headerMap
	x.values = fillHeader(x.headerMap, h.fields, x.values)
	if h.hasConnection {
		r.Close = listsClose(x.headerMap["Connection"])
	}
	if h.minor == 0 {
		r.Proto, r.ProtoMinor = "HTTP/1.0", 0
		r.Close = r.Close || !listsContain(x.headerMap["Connection"], "keep-alive")
	}
	r.Body = http.NoBody
	switch {
	case h.chunked:
		delete(x.headerMap, "Transfer-Encoding")
		if err := x.declareTrailers(); err != nil {
			return nil, err
		}
		r.ContentLength, r.TransferEncoding = -1, chunkedCoding
		x.trailer = requestTrailer{fields: r.Trailer}
		r.Body = &chunkedBody{
			br: br, chunks: httputil.NewChunkedReader(br), trailer: &x.trailer, maxFields: maxFields, maxBytes: maxBytes,
		}
	case h.contentLength != "":
		r.ContentLength, _ = strconv.ParseInt(h.contentLength, 10, 64) // at most maxLengthDigits digits
		if r.ContentLength > 0 {
			r.Body = &lengthBody{br: br, remaining: r.ContentLength}
		}
	}
	return r, nil
}

// chunkedCoding is the TransferEncoding of requests. It must not be changed.
var chunkedCoding = []string{"chunked"}

// declareTrailers adds the names listed in the Trailer fields as keys to the
// request's Trailer and deletes these fields.
func (x *exchange) declareTrailers() error {
	for _, list := range x.headerMap["Trailer"] {
		for name := range strings.SplitSeq(list, ",") {
			switch name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); name {
			case "":
				continue
			case "Transfer-Encoding", "Trailer", "Content-Length":
				return errors.New("the Trailer field names a field that frames the body (RFC 9110 section 6.5.1)")
			}
			if x.request.Trailer == nil {
				x.request.Trailer = make(http.Header)
			}
			x.request.Trailer[name] = nil
		}
	}
	delete(x.headerMap, "Trailer")
	return nil
}

// parseTarget splits the request-target (RFC 9112 section 3.2). A target in
// neither absolute-form nor authority-form becomes Path and RawQuery. The
// parts are not validated here; the handler validates those that it uses.
func (x *exchange) parseTarget() error {
	x.url = url.URL{}
	target := x.header.target
	if x.header.method == http.MethodConnect {
		x.url.Host = target
		if !hasValidPort(target) {
			return errURL
		}
		return nil
	}
	scheme, rest, ok := strings.Cut(target, ":")
	if !ok || !isScheme(scheme) {
		x.url.Path, x.url.RawQuery, _ = strings.Cut(target, "?")
		return nil
	}
	x.url.Scheme = "http"
	if scheme != "http" {
		x.url.Scheme = strings.ToLower(scheme)
	}
	if rest, ok = strings.CutPrefix(rest, "//"); !ok {
		x.url.Path = rest
		return nil
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if end < len(rest) && rest[end] == '#' {
		return errors.New("the URL in the request line has a fragment (RFC 9112 section 3.2)")
	}
	x.url.Host = rest[:end]
	if i := strings.LastIndexByte(x.url.Host, '@'); i >= 0 {
		x.url.User, x.url.Host = new(url.Userinfo), x.url.Host[i+1:] // user and password are not kept
	}
	if !hasValidPort(x.url.Host) {
		return errURL
	}
	x.url.Path, x.url.RawQuery, x.url.ForceQuery = strings.Cut(rest[end:], "?")
	x.url.ForceQuery = x.url.ForceQuery && x.url.RawQuery == ""
	return nil
}

// errURL does not quote the URL, because it may contain a password.
var errURL = errors.New("the URL in the request line cannot be parsed")

// hasValidPort reports whether the text after the last colon of an authority,
// if there is one, is a port. It returns true for text that is not an
// authority at all, which the handler rejects.
func hasValidPort(authority string) bool {
	i := strings.LastIndexByte(authority, ':')
	return i < 0 || strings.ContainsAny(authority[i:], "@?/#") || strings.IndexByte(authority[i:], ']') >= 0 || i == len(authority)-1 || isDigits(authority[i+1:])
}

// isScheme reports whether s is a valid URL scheme (RFC 3986 section 3.1).
func isScheme(s string) bool {
	for i := range len(s) {
		if !schemeChars.has(s[i]) {
			return false
		}
	}
	return s != "" && 'a' <= s[0]|0x20 && s[0]|0x20 <= 'z'
}

var schemeChars = newCharSet(alphanumeric + "+-.")

// fillHeader replaces the contents of header by fields. The values are stored
// in one slice, values if its capacity suffices. It returns that slice.
func fillHeader(header http.Header, fields []Field, values []string) []string {
	clear(header)
	values = values[:0]
	if cap(values) < len(fields) {
		values = make([]string, 0, max(len(fields), 8))
	}
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(f.Name)
		if before, ok := header[name]; ok {
			header[name] = append(before, f.Value) // reallocates, because its capacity is 1
			continue
		}
		values = append(values, f.Value)
		n := len(values)
		header[name] = values[n-1 : n : n]
	}
	return values
}
