// One client connection: reading requests, calling the handler, closing.

package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// The states of a connection. Shutdown closes idle connections only.
const (
	stateIdle = iota
	stateBusy
	stateClosed
)

// conn is a client connection. Except for state and watcher, it is used by the
// goroutine that serves it.
type conn struct {
	server *Server
	net.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	state   atomic.Int32
	watcher watcher

	activity Activity // nil if there is none
	bound    boundConns

	hasDeadline     bool      // a read deadline is set
	idleDeadlineSet time.Time // when the idle deadline was set; zero for other deadlines
	headerTimed     bool      // the header deadline is set for the current request
}

// errClosedIdle is returned when a connection ends between two requests. It causes
// neither a report nor a response, because nothing was refused.
var errClosedIdle = errors.New("the connection ended between requests")

// readRequest waits for a request, then reads and parses its header.
func (c *conn) readRequest(x *exchange) (*http.Request, error) {
	if c.br.Buffered() == 0 {
		c.setIdleDeadline()
		c.server.fairness.yield()
		if _, err := c.br.Peek(1); err != nil {
			return nil, errClosedIdle
		}
	}
	if !c.state.CompareAndSwap(stateIdle, stateBusy) {
		return nil, errClosedIdle
	}
	limit := c.server.maxHeaderBytes()
	c.headerTimed = false
	header, br, err := readRequestHeader(c.br, c.Conn, limit, c.setHeaderDeadline)
	c.br = br
	if err != nil {
		return nil, err
	}
	if err := x.header.parse(string(header), c.server.maxHeaderFields()); err != nil {
		return nil, err
	}
	x.largeHeader = len(header) > bufferSize || len(x.header.fields)+1 > usualFields // 1 for Host
	c.br.Discard(len(header))
	return x.makeRequest(c.br, c.server.maxHeaderFields(), limit)
}

// setIdleDeadline limits the wait for the first byte of a request. It keeps a
// deadline that was set a moment ago, because setting one costs more than
// reading the clock.
func (c *conn) setIdleDeadline() {
	now := time.Now()
	c.reportIdle(now)
	timeout := c.server.IdleTimeout
	if timeout <= 0 {
		c.clearDeadline()
		return
	}
	if c.hasDeadline && now.Sub(c.idleDeadlineSet) < timeout/64 {
		return
	}
	c.SetReadDeadline(now.Add(timeout))
	c.hasDeadline, c.idleDeadlineSet = true, now
}

// setHeaderDeadline limits the wait for the rest of a header. Only its first
// call for a request has an effect.
func (c *conn) setHeaderDeadline() {
	if c.headerTimed {
		return
	}
	c.headerTimed = true
	now := time.Now()
	c.reportIdle(now)
	if c.server.HeaderTimeout > 0 {
		c.SetReadDeadline(now.Add(c.server.HeaderTimeout))
		c.hasDeadline, c.idleDeadlineSet = true, time.Time{}
	}
}

// reportIdle tells the Activity that the connection has no request under way.
func (c *conn) reportIdle(now time.Time) {
	if c.activity != nil {
		c.activity.Idle(now)
	}
}

// clearDeadline removes the read deadline. A deadline may stay set between
// requests and during a request without a body: then only the watcher reads,
// and it clears the deadline itself.
func (c *conn) clearDeadline() {
	if c.hasDeadline {
		c.SetReadDeadline(time.Time{})
		c.hasDeadline, c.idleDeadlineSet = false, time.Time{}
	}
}

// refuse sends an error response to a malformed request and waits until the
// client has had a chance to read it.
func (c *conn) refuse(ctx context.Context, err error) {
	if err == errClosedIdle {
		return
	}
	status := http.StatusBadRequest
	var statusErr *statusError
	switch {
	case errors.As(err, &statusErr):
		status = statusErr.status
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, err = http.StatusRequestTimeout, errors.New("the request header did not arrive in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the client disconnected in the middle of a request header")
	}
	if c.server.Malformed != nil {
		c.server.Malformed(ctx, c.Conn, err)
	}
	text := MalformedMessage(err) + "\n"
	fmt.Fprintf(c.bw, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(text), text)
	c.SetWriteDeadline(time.Now().Add(lingerQuietTimeout))
	if c.bw.Flush() == nil {
		c.linger()
	}
}

// MalformedMessage returns the message of the response to a malformed request.
func MalformedMessage(err error) string {
	return "networkproxy cannot carry this request: " + err.Error()
}

// Limits of lingering. Closing a connection with unread input resets it, which
// can destroy a response that the client has not read. Many clients read
// nothing before they have sent their whole body.
const (
	lingerQuietTimeout = 500 * time.Millisecond // without a byte from the client
	lingerTimeout      = 5 * time.Second        // in total
)

// linger closes the write side of the connection and discards what the client
// still sends.
func (c *conn) linger() {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	for now, end := time.Now(), time.Now().Add(lingerTimeout); now.Before(end); now = time.Now() {
		quiet := now.Add(lingerQuietTimeout)
		if quiet.After(end) {
			quiet = end
		}
		c.SetReadDeadline(quiet)
		n, err := c.br.Discard(drainBytes)
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return
		}
	}
}

// serveRequest serves one request and reports whether another may follow.
func (c *conn) serveRequest(x *exchange, r *http.Request) (again bool) {
	x.ctx.begin()
	defer x.ctx.end()
	w := &x.writer
	w.init(c, r)
	if r.Body != http.NoBody {
		r.Body = &w.body
		c.clearDeadline()
	}
	c.watcher.begin(x)

	defer func() { again = c.endRequest(w, again, recover()) }()
	if r.Method == http.MethodConnect {
		c.server.fairness.yield() // before the dial, which wakes another goroutine like a write
	}
	c.server.Handler.ServeHTTP(w, r)
	if w.hijacked {
		return false
	}
	return w.finish()
}

// endRequest ends a request whose handler has returned, or has panicked with
// panicValue. It reports whether another request may follow; reusable says
// that the response allows it. If none may follow, the connection is closed,
// unless the handler has taken it over.
func (c *conn) endRequest(w *responseWriter, reusable bool, panicValue any) bool {
	if w.hijacked {
		if panicValue != nil {
			c.reportPanic(panicValue)
		}
		return false
	}
	c.watcher.end()
	aborted := panicValue == http.ErrAbortHandler
	if panicValue != nil && !aborted {
		c.reportPanic(panicValue)
	}
	if panicValue != nil || !reusable {
		if aborted {
			c.flushAborted(w)
		}
		c.Conn.Close()
		w.body.Close() // stop a goroutine that still reads from the buffers
		c.releaseBuffers()
		return false
	}
	c.state.Store(stateIdle)
	if c.server.draining.Load() && c.state.CompareAndSwap(stateIdle, stateClosed) {
		c.Conn.Close()
		return false
	}
	return true
}

// flushAborted sends the part of the response that was written. The end of the
// connection tells the client that it is incomplete.
func (c *conn) flushAborted(w *responseWriter) {
	c.SetWriteDeadline(time.Now().Add(lingerQuietTimeout))
	w.beginFinal()
	c.bw.Flush()
}

func (c *conn) reportPanic(v any) {
	if c.server.Panicked != nil {
		c.server.Panicked(c.Conn, v, debug.Stack())
	}
}

// releaseBuffers returns the buffers to the server's pools. The connection
// must not use them afterwards.
func (c *conn) releaseBuffers() {
	if c.br.Size() == bufferSize {
		c.br.Reset(nil)
		c.server.readers.Put(c.br)
	}
	c.bw.Reset(nil)
	c.server.writers.Put(c.bw)
	c.br, c.bw = nil, nil
}
