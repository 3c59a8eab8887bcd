// The transport by way of net/http's types.

package http1

import (
	"cmp"
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
)

// testTransport is a Transport with net/http's types. It implements
// http.RoundTripper and RoundTripHooks, and counts its connections.
type testTransport struct {
	*Transport
	dialAddr      string          // where all connections go; empty means to the address of the request
	informational func(*Response) // nil ignores them
	dials         atomic.Int32
}

func (t *testTransport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	t.dials.Add(1)
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", cmp.Or(t.dialAddr, addr))
}

func (t *testTransport) Acquire(net.Conn) error { return nil }

func (t *testTransport) Release(net.Conn) {}

func (t *testTransport) Informational(r *Response) {
	if t.informational != nil {
		t.informational(r)
	}
}

func (t *testTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	out := &Request{
		Context: r.Context(), Addr: r.URL.Host, Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host,
		Body: r.Body, ContentLength: r.ContentLength, Trailer: r.Trailer,
		Hooks: t,
	}
	for name, values := range r.Header {
		for _, value := range values {
			out.Fields = append(out.Fields, Field{name, value})
		}
	}
	slices.SortStableFunc(out.Fields, func(a, b Field) int { return compareNames(a.Name, b.Name) })
	resp, err := t.Send(out)
	if err != nil {
		return nil, err
	}
	return toNetHTTP(resp, r), nil
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
