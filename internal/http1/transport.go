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
	// request is sent on it. An error closes the connection and ends the round
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

// unansweredError is the end of a connection before the first byte of an
// answer. On a pooled connection it probably means that the origin had closed
// it before the request came.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return "the origin closed the connection without an answer"
	}
	return e.err.Error()
}

func (e *unansweredError) Unwrap() error { return e.err }

func (t *Transport) maxHeaderBytes() int  { return cmp.Or(t.MaxHeaderBytes, 1<<20) }
func (t *Transport) maxHeaderFields() int { return cmp.Or(t.MaxHeaderFields, 256) }

// Send sends a request and returns the origin's final response. The response's
// Body must be read to its end or closed.
//
// A request without content that meets a pooled connection which the origin
// has just closed is sent again, on another, if its method is idempotent.
func (t *Transport) Send(r *Request) (*Response, error) {
	addr := r.Addr
	var side *originSide // nil: none, the request is not a server's
	if serving, ok := r.Context.(*requestContext); ok {
		side = serving.originSide()
	}
	for {
		c := side.takeBound(t, addr)
		if c == nil {
			c = t.pool.get(addr, side)
		}
		if c != nil && !c.alive() {
			c.discard()
			continue
		}
		fresh := c == nil
		if fresh {
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
		answer, err := c.roundTrip(r, side)
		if err == nil {
			return answer, nil
		}
		c.discard()
		r.Hooks.Release(c.Conn)
		if !fresh && errors.As(err, new(*unansweredError)) && repeatable(r) && r.Context.Err() == nil {
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

// repeatable reports whether a request can be sent again though the origin may
// have processed it. A proxy must not do that with others (RFC 9110 section
// 9.2.2).
func repeatable(r *Request) bool {
	if r.hasContent() {
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

func (t *Transport) dial(r *Request) (*upstream, error) {
	conn, err := r.Hooks.Dial(r.Context, r.Addr)
	if err != nil {
		return nil, err
	}
	c := &upstream{transport: t, addr: r.Addr, Conn: conn, epoch: t.pool.epoch()}
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

// upstream is one connection to an origin. It is used by one request at a
// time.
type upstream struct {
	transport *Transport
	addr      string
	epoch     uint64 // of the pool it was made under
	net.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	closing sync.Once
	bound   bool         // it belongs to the client connection whose request it carried
	line    *line        // that it was last put into; nil: none
	probe   probe        // for alive
	idle    atomic.Int64 // since when, in nanoseconds since 1970, while it is pooled
}

func (c *upstream) close() { c.closing.Do(func() { c.Conn.Close() }) }

// discard closes a connection that is not in the pool, for good.
func (c *upstream) discard() {
	c.close()
	c.transport.pool.forget(c)
}

// roundTrip sends a request and reads the head of its response.
func (c *upstream) roundTrip(r *Request, side *originSide) (*Response, error) {
	body := side.newBody(c, r)
	side.yield()
	sendErr := body.upload.begin()
	// Even if sending failed the origin may have responded, and closed without
	// reading on.
	answer, err := c.answer(r, side, &body.upload)
	if err == nil && answer.Status == http.StatusSwitchingProtocols {
		err = errors.New("the origin switched protocols, which the client had not asked for")
	}
	if err != nil {
		body.stop()
		c.close()
		if sendErr != nil {
			err = &unansweredError{sendErr}
		}
		return nil, body.upload.cause(err)
	}
	body.upload.mayGoOn(answer.Status)
	body.body, body.last = answer.Body, answer.closes || sendErr != nil
	answer.Body = body
	return answer, nil
}

// answer reads heads up to the final one, or that of a switch of protocols.
func (c *upstream) answer(r *Request, side *originSide, upload *upload) (*Response, error) {
	t := c.transport
	left := t.maxHeaderBytes()
	for first := true; ; first = false {
		side.yield()
		if _, err := c.br.Peek(1); err != nil {
			if first {
				err = &unansweredError{err}
			}
			return nil, err
		}
		head, err := c.head(&left)
		if err != nil {
			return nil, err
		}
		answer := side.newAnswer(len(head))
		if err := answer.parse(head, r.Method, t.maxHeaderFields()); err != nil {
			return nil, err
		}
		side.keepFields(answer)
		c.bindIf(answer.Fields)
		switch {
		case answer.Status >= 200:
			c.setBody(answer)
			return answer, nil
		case answer.Status == http.StatusSwitchingProtocols:
			return answer, nil
		case answer.Status == http.StatusContinue && upload != nil:
			upload.mayGoOn(http.StatusContinue)
		}
		if r.Hooks != nil {
			r.Hooks.Informational(answer)
		}
	}
}

// setBody makes the body of a response that has content.
func (c *upstream) setBody(a *Response) {
	switch {
	case a.Body != nil:
	case a.chunked:
		a.Body = &chunkedAnswer{
			br: c.br, chunks: httputil.NewChunkedReader(c.br), answer: a,
			fields: c.transport.maxHeaderFields(), bytes: c.transport.maxHeaderBytes(),
		}
	case a.ContentLength > 0:
		a.Body = &content{br: c.br, left: a.ContentLength}
	default:
		a.Body = untilClose{c.br}
	}
}

// bindIf binds the connection to its client if a header says so.
func (c *upstream) bindIf(fields []Field) {
	for i := range fields {
		if bindsConnection(fields[i]) {
			c.bound = true
		}
	}
}

// answerBody is an answer's Body. Its end gives the connection back.
type answerBody struct {
	c      *upstream
	side   *originSide
	body   io.ReadCloser
	last   bool // the connection ends with this answer
	upload upload
	unbind func() bool // from the request's context; nil where side is there for that
	done   bool
}

// stop reports whether the connection has not been closed because the request
// ended, and will not be.
func (b *answerBody) stop() bool {
	if b.unbind != nil {
		return b.unbind()
	}
	return b.side.ctx.letGo()
}

func (b *answerBody) Read(p []byte) (int, error) {
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
func (b *answerBody) Close() error {
	if !b.done {
		b.finish(b.body == http.NoBody)
	}
	return nil
}

// Buffered reports whether a Read returns at once.
func (b *answerBody) Buffered() bool { return b.done || b.c.br.Buffered() > 0 }

func (b *answerBody) finish(whole bool) {
	b.done = true
	b.body = http.NoBody
	sent, ended := b.upload.ended()
	b.upload.r.Hooks.Release(b.c.Conn)
	if b.stop() && whole && sent && !b.last && b.c.br.Buffered() == 0 {
		if !b.c.bound {
			b.c.transport.pool.put(b.c, b.side)
			return
		}
		if b.side != nil && b.side.ctx.bound != nil {
			b.side.ctx.bound.put(b.c)
			return
		}
	}
	b.c.discard()
	if ended { // or the upload still has the buffers
		b.c.release()
	}
}

// release gives the buffers of a closed connection back.
func (c *upstream) release() {
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
func (t *Transport) SendOn(conn net.Conn, r *Request) (answer *Response, rest *bufio.Reader, err error) {
	c := &upstream{transport: t, Conn: conn, br: bufio.NewReaderSize(conn, bufferSize), bw: bufio.NewWriterSize(conn, bufferSize)}
	u := &upload{c: c, r: r}
	writeRequestHead(c.bw, r)
	if r.hasContent() {
		defer r.Body.Close()
		if err := u.send(); err != nil {
			return nil, nil, err
		}
	}
	if err := c.bw.Flush(); err != nil {
		return nil, nil, err
	}
	answer, err = c.answer(r, nil, nil)
	return answer, c.br, err
}
