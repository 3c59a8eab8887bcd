// The transport by way of net/http's types.

package http1

import (
	"io"
	"net/http"
	"slices"
)

// RoundTrip implements http.RoundTripper, for the tests.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	out := &Request{
		Context: r.Context(), Addr: r.URL.Host, Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host,
		Body: r.Body, ContentLength: r.ContentLength, Trailer: r.Trailer,
	}
	for name, values := range r.Header {
		for _, value := range values {
			out.Fields = append(out.Fields, Field{name, value})
		}
	}
	slices.SortStableFunc(out.Fields, func(a, b Field) int { return compareNames(a.Name, b.Name) })
	answer, err := t.Send(out, nil)
	if err != nil {
		return nil, err
	}
	return toNetHTTP(answer, r), nil
}

func compareNames(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// toNetHTTP returns a response as net/http has it.
func toNetHTTP(a *Response, r *http.Request) *http.Response {
	resp := &http.Response{StatusCode: a.Status, Header: make(http.Header), ContentLength: a.ContentLength, Request: r, Close: a.closes}
	fillHeader(resp.Header, a.Fields, nil)
	resp.Body = &trailing{a.Body, a, resp}
	return resp
}

// trailing is a body that sets the Trailer of a response at its end.
type trailing struct {
	io.ReadCloser
	from *Response
	to   *http.Response
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && len(b.from.Trailer) > 0 {
		b.to.Trailer = make(http.Header)
		fillHeader(b.to.Trailer, b.from.Trailer, nil)
	}
	return n, err
}
