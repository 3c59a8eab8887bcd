// Requests to origin servers and their responses.

package http1

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
)

// Request is a request to an origin server. [Transport.Send] reads and closes its
// Body and counts the bytes. It changes nothing else in the Request, and does not
// use it after the end of the response.
type Request struct {
	// Context ends the request. If it is the context of a request served by a
	// [Server], the response is valid only until the handler returns or sends
	// another request, because its memory is used again.
	Context context.Context

	Addr   string // host and port to connect to; the key of the connection pool
	Method string
	Target string // the request-target (RFC 9112 section 3.2), written unchanged
	Host   string // the value of the Host field, which is written first

	// Fields are the other field lines, written in this order. Content-Length
	// and Transfer-Encoding follow from ContentLength; a Content-Length field
	// here only marks the position of its line.
	Fields []Field

	// Body is the request body; nil and http.NoBody mean none. ContentLength
	// is its length; a body without a positive length is sent chunked.
	Body          io.ReadCloser
	ContentLength int64

	// Trailer contains the names of the fields that follow a chunked body, and
	// their values once Body has returned io.EOF.
	Trailer http.Header

	// Hooks provides the connection and receives informational responses.
	Hooks RoundTripHooks

	sent atomic.Int64 // bytes of Body
}

// Sent returns the number of bytes of Body that were read to be sent. It may be
// called at any time; the body may still be on its way when the response ends.
func (r *Request) Sent() int64 { return r.sent.Load() }

func (r *Request) hasBody() bool { return r.Body != nil && r.Body != http.NoBody }

// Response is a final or an informational response (RFC 9110 section 15.2) of
// an origin server.
type Response struct {
	Status int
	Reason string // reason phrase as it came, without control characters; may be empty

	// Fields are the field lines of the header as they came, including those
	// that concern the connection and the framing of the body.
	Fields []Field

	ContentLength int64         // 0 if there is no body, -1 if the length is not known
	Body          io.ReadCloser // never nil in a final response
	Trailer       []Field       // set once Body has returned io.EOF

	minor   int  // version of HTTP/1.x
	chunked bool // the body is chunked
	closes  bool // the connection ends with the response
}

// Values returns the values of all fields with a name. The name must be in
// lower case.
func Values(fields []Field, name string) (values []string) {
	for i := range fields {
		if len(fields[i].Name) == len(name) && equalsLower(fields[i].Name, name) {
			values = append(values, fields[i].Value)
		}
	}
	return values
}

// Is reports whether the field has a name. The name must be in lower case.
func (f *Field) Is(name string) bool { return len(f.Name) == len(name) && equalsLower(f.Name, name) }
