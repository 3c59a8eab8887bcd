// The client's side: requests to origins over pooled connections.

package http1

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
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
