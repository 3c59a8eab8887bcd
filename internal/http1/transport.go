// The client's side: requests to origins over pooled connections.

package http1

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
	"time"
)

// RoundTripHooks connects one round trip to its caller. Its methods are called
// on the goroutine of [Transport.Send] and on the one that ends the response's
// Body.
type RoundTripHooks interface {
	// Dial connects to the Addr of the request when no pooled connection can be
	// used. The context is the request's.
	Dial(ctx context.Context, addr string) (net.Conn, error)

	// Acquire is called with a connection, new or pooled, just before the
	// newTestRequest is sent on it. An error closes the connection and ends the round
	// trip. After ErrStale another connection is tried instead.
	Acquire(conn net.Conn) error

	// Release is called after each successful Acquire, when the request is
	// done with the connection and before another request can get it.
	Release(conn net.Conn)

	// Informational is called with each informational response (RFC 9110
	// section 15.2). The response is valid during the call. Their number is
	// bounded only by MaxHeaderBytes, which covers the headers of all responses
	// to one request.
	Informational(r *Response)
}

// Transport sends HTTP/1.1 requests. It adds nothing to a request but the
// framing of its content, follows nothing and decodes nothing. Set its fields
// before its first use. Safe for concurrent use; it must not be copied.
type Transport struct {
	IdleTimeout     time.Duration // how long an unused connection is kept; 0 means 90 s
	MaxIdlePerAddr  int           // how many are kept for one address; 0 means 256, less means none
	MaxIdle         int           // how many are kept in all, the oldest making room; 0 means 512
	ContinueTimeout time.Duration // how long a request that expects 100 waits for it; 0 means 1 s
	MaxHeaderBytes  int           // of the heads of all responses to a request, and of a trailer section; 0 means 1 MiB
	MaxHeaderFields int           // of each response, and of its trailer section; 0 means 256
	HeaderTimeout   time.Duration // from the first byte of a response to the end of its head; 0 means none

	pool pool

	readers, writers sync.Pool
}

// noResponseError is the end of a connection before the first byte of an
// answer. On a pooled connection it probably means that the origin had closed
// it before the request came.
type noResponseError struct{ err error }

func (e *noResponseError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return "the origin closed the connection without an answer"
	}
	return e.err.Error()
}

func (e *noResponseError) Unwrap() error { return e.err }

func (t *Transport) maxHeaderBytes() int  { return cmp.Or(t.MaxHeaderBytes, 1<<20) }
func (t *Transport) maxHeaderFields() int { return cmp.Or(t.MaxHeaderFields, 256) }

// Send sends a request and returns the origin's final response. The response's
// Body must be read to its end or closed.
//
// A request without content that meets a pooled connection which the origin
// has just closed is sent again, on another, if its method is idempotent.
func (t *Transport) Send(r *Request) (*Response, error) {
	addr := r.Addr
	var origin *originState // nil: none, the request is not a server's
	if serving, ok := r.Context.(*requestContext); ok {
		origin = serving.originState()
	}
	for {
		c := origin.takeBound(t, addr)
		if c == nil {
			c = t.pool.get(addr, origin)
		}
		if c != nil && !c.alive() {
			c.discard()
			continue
		}
		isNew := c == nil
		if isNew {
			var err error
			if c, err = t.dial(r); err != nil {
				return nil, err
			}
		}
		if err := r.Hooks.Acquire(c.Conn); err != nil {
			c.discard()
			if errors.Is(err, ErrStale) {
				continue
			}
			return nil, err
		}
		resp, err := c.roundTrip(r, origin)
		if err == nil {
			return resp, nil
		}
		c.discard()
		r.Hooks.Release(c.Conn)
		if !isNew && errors.As(err, new(*noResponseError)) && isRetryable(r) && r.Context.Err() == nil {
			continue
		}
		if cause := r.Context.Err(); cause != nil {
			err = fmt.Errorf("%w (%w)", cause, err)
		}
		return nil, err
	}
}

// ErrStale is returned by Acquire for a connection that must not be used,
// though another one to the same address may be.
var ErrStale = errors.New("http1: the connection must not be used")

// isRetryable reports whether a request can be sent again though the origin may
// have processed it. A proxy must not do that with others (RFC 9110 section
// 9.2.2).
func isRetryable(r *Request) bool {
	if r.hasBody() {
		return false
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// CloseIdleConnections closes what no request uses. What is in use is closed
// when its request has ended.
func (t *Transport) CloseIdleConnections() { t.pool.closeAll() }

func (t *Transport) dial(r *Request) (*originConn, error) {
	conn, err := r.Hooks.Dial(r.Context, r.Addr)
	if err != nil {
		return nil, err
	}
	c := &originConn{transport: t, addr: r.Addr, Conn: conn, epoch: t.pool.epoch()}
	if br, ok := t.readers.Get().(*bufio.Reader); ok {
		c.br = br
		c.br.Reset(conn)
	} else {
		c.br = bufio.NewReaderSize(conn, bufferSize)
	}
	if bw, ok := t.writers.Get().(*bufio.Writer); ok {
		c.bw = bw
		c.bw.Reset(conn)
	} else {
		c.bw = bufio.NewWriterSize(conn, bufferSize)
	}
	return c, nil
}

// originConn is one connection to an origin. It is used by one request at a
// time.
type originConn struct {
	transport *Transport
	addr      string
	epoch     uint64 // of the pool it was made under
	net.Conn
	br        *bufio.Reader
	bw        *bufio.Writer
	closeOnce sync.Once
	bound     bool          // it belongs to the client connection whose request it carried
	addrPool  *addrPool     // that it was last put into; nil: none
	liveness  livenessCheck // for alive
	idleSince atomic.Int64  // since when, in nanoseconds since 1970, while it is pooled
}

func (c *originConn) close() { c.closeOnce.Do(func() { c.Conn.Close() }) }

// discard closes a connection that is not in the pool, for good.
func (c *originConn) discard() {
	c.close()
	c.transport.pool.removeIfEmpty(c)
}

// roundTrip sends a request and reads the head of its response.
func (c *originConn) roundTrip(r *Request, origin *originState) (*Response, error) {
	body := origin.newResponseBody(c, r)
	origin.yield()
	sendErr := body.sender.start()
	// Even if sending failed the origin may have responded, and closed without
	// reading on.
	resp, err := c.readResponse(r, origin, &body.sender)
	if err == nil && resp.Status == http.StatusSwitchingProtocols {
		err = errors.New("the origin switched protocols, which the client had not asked for")
	}
	if err != nil {
		body.detach()
		c.close()
		if sendErr != nil {
			err = &noResponseError{sendErr}
		}
		return nil, body.sender.cause(err)
	}
	body.sender.reportStatus(resp.Status)
	body.body, body.closesConn = resp.Body, resp.closes || sendErr != nil
	resp.Body = body
	return resp, nil
}

// response reads heads up to the final one, or that of a switch of protocols.
func (c *originConn) readResponse(r *Request, origin *originState, sender *requestSender) (*Response, error) {
	t := c.transport
	remaining := t.maxHeaderBytes()
	for first := true; ; first = false {
		origin.yield()
		if _, err := c.br.Peek(1); err != nil {
			if first {
				err = &noResponseError{err}
			}
			return nil, err
		}
		header, err := c.readHeader(&remaining)
		if err != nil {
			return nil, err
		}
		resp := origin.newResponse(len(header))
		if err := resp.parse(header, r.Method, t.maxHeaderFields()); err != nil {
			return nil, err
		}
		origin.keepFields(resp)
		c.bindIfAuthenticated(resp.Fields)
		switch {
		case resp.Status >= 200:
			c.setBody(resp)
			return resp, nil
		case resp.Status == http.StatusSwitchingProtocols:
			return resp, nil
		case resp.Status == http.StatusContinue && sender != nil:
			sender.reportStatus(http.StatusContinue)
		}
		if r.Hooks != nil {
			r.Hooks.Informational(resp)
		}
	}
}

// setBody makes the body of a response that has content.
func (c *originConn) setBody(resp *Response) {
	switch {
	case resp.Body != nil:
	case resp.chunked:
		resp.Body = &chunkedAnswer{
			br: c.br, chunks: httputil.NewChunkedReader(c.br), answer: resp,
			fields: c.transport.maxHeaderFields(), bytes: c.transport.maxHeaderBytes(),
		}
	case resp.ContentLength > 0:
		resp.Body = &lengthBody{br: c.br, remaining: resp.ContentLength}
	default:
		resp.Body = closeDelimitedBody{c.br}
	}
}

// bindIfAuthenticated binds the connection to its client if a header says so.
func (c *originConn) bindIfAuthenticated(fields []Field) {
	for i := range fields {
		if authenticatesConn(fields[i]) {
			c.bound = true
		}
	}
}

// responseBody is an answer's Body. Its end gives the connection back.
type responseBody struct {
	c             *originConn
	origin        *originState
	body          io.ReadCloser
	closesConn    bool // the connection ends with this answer
	sender        requestSender
	stopAfterFunc func() bool // from the request's context; nil where side is there for that
	done          bool
}

// stopReading reports whether the connection has not been closed because the request
// ended, and will not be.
func (b *responseBody) detach() bool {
	if b.stopAfterFunc != nil {
		return b.stopAfterFunc()
	}
	return b.origin.ctx.detach()
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.finish(err == io.EOF)
		err = withoutQuotes(err)
	}
	return n, err
}

// Close ends the answer early: where its content has not been read to its
// end, the connection can carry nothing more.
func (b *responseBody) Close() error {
	if !b.done {
		b.finish(b.body == http.NoBody)
	}
	return nil
}

// Buffered reports whether a Read returns at once.
func (b *responseBody) Buffered() bool { return b.done || b.c.br.Buffered() > 0 }

func (b *responseBody) finish(whole bool) {
	b.done = true
	b.body = http.NoBody
	sent, finished := b.sender.result()
	b.sender.r.Hooks.Release(b.c.Conn)
	if b.detach() && whole && sent && !b.closesConn && b.c.br.Buffered() == 0 {
		if !b.c.bound {
			b.c.transport.pool.put(b.c, b.origin)
			return
		}
		if b.origin != nil && b.origin.ctx.bound != nil {
			b.origin.ctx.bound.put(b.c)
			return
		}
	}
	b.c.discard()
	if finished { // or the upload still has the buffers
		b.c.release()
	}
}

// releaseBuffers gives the buffers of a closed connection back.
func (c *originConn) release() {
	c.br.Reset(nil)
	c.bw.Reset(nil)
	c.transport.readers.Put(c.br)
	c.transport.writers.Put(c.bw)
	c.br, c.bw = nil, nil
}

// SendOn sends a request on a connection that is not pooled, with its
// content, and returns the final response, or one of 101 that switches
// protocols. rest has what the origin sent beyond the header. Deadlines are the
// caller's to set. Hooks may be nil; only Informational is called.
func (t *Transport) SendOn(conn net.Conn, r *Request) (resp *Response, rest *bufio.Reader, err error) {
	c := &originConn{transport: t, Conn: conn, br: bufio.NewReaderSize(conn, bufferSize), bw: bufio.NewWriterSize(conn, bufferSize)}
	u := &requestSender{c: c, r: r}
	writeRequestHeader(c.bw, r)
	if r.hasBody() {
		defer r.Body.Close()
		if err := u.sendBody(); err != nil {
			return nil, nil, err
		}
	}
	if err := c.bw.Flush(); err != nil {
		return nil, nil, err
	}
	resp, err = c.readResponse(r, nil, nil)
	return resp, c.br, err
}
