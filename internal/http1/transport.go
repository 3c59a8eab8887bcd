// The transport: its configuration and round trips over pooled connections.

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
// by the goroutine of [Transport.Send]. Release may also be called by the
// goroutine that reads or closes the response's Body.
type RoundTripHooks interface {
	// Dial connects to addr, the Addr of the request. It is called if no
	// pooled connection can be used. ctx is the request's Context.
	Dial(ctx context.Context, addr string) (net.Conn, error)

	// Acquire is called with a new or pooled connection just before the
	// request is sent on it. An error closes the connection and ends the round
	// trip. After ErrStale another connection is tried instead.
	Acquire(conn net.Conn) error

	// Release is called after each successful Acquire, when the request no
	// longer uses the connection and before another request can.
	Release(conn net.Conn)

	// Informational is called with each informational response (RFC 9110
	// section 15.2), which is valid during the call. Their number is limited
	// only by MaxHeaderBytes, which applies to the headers of all responses to
	// one request together.
	Informational(r *Response)
}

// Transport sends HTTP/1.1 requests. It frames the body and otherwise sends a
// request as it is. It does not follow redirects or decode bodies. Set its
// fields before its first use. It is safe for concurrent use and must not be
// copied.
type Transport struct {
	IdleTimeout     time.Duration // how long an idle connection is kept; 0 means 90 s
	MaxIdlePerAddr  int           // idle connections to one address; 0 means 256, less means none
	MaxIdle         int           // idle connections in total, of which the oldest is closed first; 0 means 512
	ContinueTimeout time.Duration // how long a request with Expect waits for 100 (Continue); 0 means 1 s
	MaxHeaderBytes  int           // size of the headers of all responses to a request, and of a trailer section; 0 means 1 MiB
	MaxHeaderFields int           // fields of each response header and trailer section; 0 means 256
	HeaderTimeout   time.Duration // from the first byte of a response to the end of its header; 0 means none

	pool pool

	readers, writers sync.Pool
}

func (t *Transport) maxHeaderBytes() int  { return cmp.Or(t.MaxHeaderBytes, 1<<20) }
func (t *Transport) maxHeaderFields() int { return cmp.Or(t.MaxHeaderFields, 256) }

// Send sends a request and returns the final response. The caller must read
// the response's Body to its end or close it.
//
// If an origin server closes a pooled connection without a response, Send
// repeats the request on another one, provided it has no body and its method
// is idempotent.
func (t *Transport) Send(r *Request) (*Response, error) {
	addr := r.Addr
	var origin *originState // nil unless the request is a Server's
	if ctx, ok := r.Context.(*requestContext); ok {
		origin = ctx.originState()
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

// ErrStale is returned by Acquire for a connection that must not be used while
// another connection to the same address may be.
var ErrStale = errors.New("http1: the connection must not be used")

// isRetryable reports whether a request may be sent again although the origin
// server may have processed it. A proxy must not repeat other requests (RFC
// 9110 section 9.2.2).
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

// CloseIdleConnections closes the idle connections. A connection in use is
// closed when its request ends.
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

// SendOn sends a request with its body on a connection that is not pooled. It
// returns the final response, or a 101 response that switches protocols. rest
// holds the bytes that the origin server sent after the header. The caller
// sets deadlines. Hooks may be nil; only its Informational method is called.
func (t *Transport) SendOn(conn net.Conn, r *Request) (resp *Response, rest *bufio.Reader, err error) {
	c := &originConn{transport: t, Conn: conn, br: bufio.NewReaderSize(conn, bufferSize), bw: bufio.NewWriterSize(conn, bufferSize)}
	s := &requestSender{c: c, r: r}
	writeRequestHeader(c.bw, r)
	if r.hasBody() {
		defer r.Body.Close()
		if err := s.sendBody(); err != nil {
			return nil, nil, err
		}
	}
	if err := c.bw.Flush(); err != nil {
		return nil, nil, err
	}
	resp, err = c.readResponse(r, nil, nil)
	return resp, c.br, err
}
