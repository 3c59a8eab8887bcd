// Trailer rules: which trailer fields of requests and responses are passed on.

package httpproxy

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"example.com/networkproxy/internal/http1"
)

// announcedTrailer returns the value of the Trailer field to send with a
// response: the names that the response announces, without those that must not
// be passed on.
func announcedTrailer(resp *http1.Response, options []string) string {
	if resp.ContentLength >= 0 {
		return ""
	}
	var names []string
	for _, list := range http1.Values(resp.Fields, "trailer") {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" && !forbiddenInTrailer(name, options) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

// trailerFields returns the fields of a response's trailer section that may be
// passed on. It reuses the memory of from.
func trailerFields(from []http1.Field, options []string) []http1.Field {
	return slices.DeleteFunc(from, func(f http1.Field) bool { return forbiddenInTrailer(f.Name, options) })
}

// requestTrailer returns the announced trailer fields of a request that may be
// passed on. connection holds the request's Connection fields.
func requestTrailer(announced http.Header, connection []string) http.Header {
	trailer := announced.Clone()
	for name := range trailer {
		if forbiddenInTrailer(name, nil) || hasToken(connection, name) {
			delete(trailer, name)
		}
	}
	return trailer
}

// trailedBody is the body of a request that announces trailers. At the end of
// the body it copies the values that arrived from the client's request to the
// outgoing trailer. Fields that were not announced are dropped.
type trailedBody struct {
	io.ReadCloser
	from *http.Request
	to   http.Header
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.to {
			b.to[name] = b.from.Trailer[name]
		}
	}
	return n, err
}

// forbiddenInTrailer reports whether a field must not be passed on in a trailer
// section: fields that are not passed on in a header either, and fields that
// frame or route the message (RFC 9110 section 6.5.1).
func forbiddenInTrailer(name string, options []string) bool {
	if isHopByHop(name, options) {
		return true
	}
	for _, forbidden := range [...]string{"content-length", "host", "x-unix-socket", "x-proxy-error"} {
		if strings.EqualFold(name, forbidden) {
			return true
		}
	}
	return false
}
