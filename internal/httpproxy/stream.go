// One request of HTTP/2 in an opened tunnel, on its way to the origin server and back.

package httpproxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/gate"
)

// forwardHTTP2 forwards an allowed request of HTTP/2 and passes the response on.
func (h *Proxy) forwardHTTP2(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	x := &stream{proxy: h, w: w, r: r, req: req, ruling: *v, exchange: &clientStateOf(r).exchange}
	x.trace.Got1xxResponse = x.informational
	defer func() {
		if x.acquired {
			h.gate.Ended(req, x.sent.Load(), x.received)
		}
	}()
	live := &clientStateOf(r).live
	if err := h.gate.Begin(live, req, v); err != nil {
		h.fail(w, r, req, err)
		return
	}
	defer live.End()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	x.cancel = cancel
	resp, release, err := x.send(ctx, live)
	if err != nil {
		if x.sent.Load() > 0 {
			h.gate.Opened(req)
		}
		h.fail(w, r, req, live.Cause(err))
		return
	}
	defer release()
	defer resp.Body.Close()
	h.gate.AllowedAtEnd(req)
	x.respond(resp)
}

// stream is one request of HTTP/2 on its way.
type stream struct {
	proxy    *Proxy
	w        http.ResponseWriter
	r        *http.Request
	req      *gate.Request
	ruling   gate.Ruling
	exchange *credential.Exchange
	trace    httptrace.ClientTrace // calls informational
	acquired bool
	sent     atomic.Int64
	received int64

	cancel context.CancelFunc // of the request to the origin server
	mu     sync.Mutex
	body   io.Closer // of the response; nil before it has begun
	closed bool
}

// Close ends the stream. It may be called from any goroutine.
func (x *stream) Close() error {
	x.cancel()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	if x.body == nil {
		return nil
	}
	// While net/http reads the request's body, it does not notice the end of the context.
	return x.body.Close()
}

// begun notes that the response has begun. If the stream was closed before, it ends now.
func (x *stream) begun(body io.Closer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.body = body
	if x.closed {
		body.Close()
	}
}

// send sends the request, and a second time if the origin server closed the connection
// before it began to process a request that may be repeated (RFC 9110 section 9.2.2).
// A cut of the request calls x.Close. The caller calls release.
func (x *stream) send(ctx context.Context, live *gate.LiveRequest) (resp *http.Response, release func(), err error) {
	origin := clientStateOf(x.r).opened.http2
	for attempt := 0; ; attempt++ {
		conn, client := origin.usable()
		if client == nil {
			if conn, client, err = origin.connect(ctx, x.req, &x.ruling); err != nil {
				return nil, nil, err
			}
		}
		if err := conn.Acquire(live, x); err != nil {
			return nil, nil, err
		}
		x.acquired = true
		x.proxy.gate.Connected(x.req)
		if x.r.ContentLength != 0 {
			x.proxy.gate.Opened(x.req)
		}
		resp, err = client.RoundTrip(x.request(ctx))
		if err == nil {
			x.begun(resp.Body)
			return resp, func() { conn.Release(live) }, nil
		}
		conn.Release(live)
		if attempt == 0 && ctx.Err() == nil && x.r.ContentLength == 0 && isIdempotent(x.r.Method) && connectionFailed(client, err) {
			origin.drop(client)
			continue
		}
		return nil, nil, clientCertificateError(conn, err)
	}
}

// connectionFailed reports whether err is that of the connection, and not of one stream.
func connectionFailed(client *http.ClientConn, err error) bool {
	return client.Err() != nil || client.Available() == 0 || errors.As(err, new(*net.OpError)) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// isIdempotent reports whether a request may be repeated.
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// request returns the request to send. Its path and query are those of the client, byte
// for byte.
func (x *stream) request(ctx context.Context) *http.Request {
	target, hostport := x.req.HTTP.Target, clientStateOf(x.r).opened.hostport
	host := hostField(x.req, hostport)
	path, query, hasQuery := strings.Cut(target, "?")
	u := &url.URL{Scheme: "https", Host: hostport, RawQuery: query, ForceQuery: hasQuery && query == ""}
	if path == "*" {
		u.Opaque = path
	} else {
		u.Opaque = "//" + host + path // not URL.Path, which would be encoded again
	}
	ctx = httptrace.WithClientTrace(ctx, &x.trace)
	out := (&http.Request{
		Method: x.r.Method, URL: u, Host: host, Header: x.requestHeader(),
		Body: http.NoBody, ContentLength: x.r.ContentLength,
		Proto: "HTTP/2.0", ProtoMajor: 2,
	}).WithContext(ctx)
	if x.r.ContentLength != 0 {
		out.Body = &countedBody{x.r.Body, &x.sent}
	}
	if len(x.r.Trailer) > 0 {
		out.Trailer = requestTrailer(x.r.Trailer, nil)
		out.Body = &trailedBody{ReadCloser: out.Body, from: x.r, to: out.Trailer}
	}
	return out
}

// countedBody counts the bytes of a request body.
type countedBody struct {
	io.ReadCloser
	n *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n.Add(int64(n))
	return n, err
}

// requestHeader returns the fields of the client's request that are passed on. The map may
// be that of the client's request, so it must not be changed.
func (x *stream) requestHeader() http.Header {
	if x.unchanged() {
		return x.r.Header
	}
	out := make(http.Header, len(x.r.Header)+1)
	for name, values := range x.r.Header {
		if !isHopByHop(name, nil) && name != "Host" && name != socketHeader {
			out[name] = values
		}
	}
	if x.exchange.Changes() {
		maps.DeleteFunc(out, func(name string, _ []string) bool { return x.exchange.Removes(name) })
		for name, values := range out {
			out[name] = changed(values, func(value string) string { return x.exchange.Field(name, value) })
		}
	}
	x.exchange.Added(out.Set)
	if len(x.exchange.Masks) > 0 {
		delete(out, "Accept-Encoding")
	}
	if hasToken(x.r.Header["Te"], "trailers") {
		out["Te"] = []string{"trailers"}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // or net/http would add its own
	}
	return out
}

// unchanged reports whether the fields of the client's request can be passed on as they
// are.
func (x *stream) unchanged() bool {
	if _, ok := x.r.Header["User-Agent"]; !ok || x.exchange.Changes() {
		return false
	}
	for name := range x.r.Header {
		if isHopByHop(name, nil) || name == "Host" || name == socketHeader {
			return false
		}
	}
	return true
}

// informational passes an informational response on (RFC 9110 section 15.2). net/http
// sends 100 (Continue) by itself, when the body is read.
func (x *stream) informational(code int, header textproto.MIMEHeader) error {
	if code == http.StatusContinue {
		return nil
	}
	to := x.w.Header()
	for name, values := range header {
		if !isHopByHop(name, nil) && name != ErrorHeader {
			to[name] = x.masked(values)
		}
	}
	x.w.WriteHeader(code)
	clear(to)
	return nil
}

// respond passes the response on while it arrives. It aborts the stream if the body is
// incomplete.
func (x *stream) respond(resp *http.Response) {
	to := x.w.Header()
	for name, values := range resp.Header {
		if !isHopByHop(name, nil) && name != ErrorHeader && name != "Alt-Svc" {
			to[name] = x.masked(values)
		}
	}
	for name := range resp.Trailer {
		if !forbiddenInTrailer(name, nil) {
			to.Add("Trailer", name)
		}
	}
	for _, name := range [...]string{"Content-Type", "Date"} {
		if _, ok := to[name]; !ok {
			to[name] = nil // or net/http would make one up
		}
	}
	announced := len(resp.Trailer)
	x.w.WriteHeader(resp.StatusCode)
	rc := http.NewResponseController(x.w)
	if resp.ContentLength != 0 {
		rc.Flush()
		x.proxy.gate.Opened(x.req)
	}
	if err := x.proxy.copyBody(x.w, rc, x.req, x.exchange.Masks.Reader(resp.Body), resp.ContentLength, &x.received); err != nil {
		panic(http.ErrAbortHandler)
	}
	if len(resp.Trailer) == 0 {
		return
	}
	rc.Flush() // trailers need a body that was begun, even if it is empty
	for name, values := range resp.Trailer {
		if forbiddenInTrailer(name, nil) {
			continue
		}
		if announced != len(resp.Trailer) {
			name = http.TrailerPrefix + name
		}
		to[name] = x.masked(values)
	}
}

// masked returns values with masks in place of secrets.
func (x *stream) masked(values []string) []string {
	if len(x.exchange.Masks) == 0 {
		return values
	}
	return changed(values, x.exchange.Masks.Text)
}

// changed returns values with f applied to each. It copies them if f changes one.
func changed(values []string, f func(string) string) []string {
	out := values
	for i, value := range values {
		if got := f(value); got != value {
			if &out[0] == &values[0] {
				out = slices.Clone(values)
			}
			out[i] = got
		}
	}
	return out
}
