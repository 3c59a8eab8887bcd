// Requests to origins and their responses, as they pass through a proxy: the
// fields in the order and spelling in which they arrived.

package http1

import (
	"context"
	"io"
	"net/http"
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
