package http1

import (
	"bufio"
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

// The states of a connection: Shutdown closes those that wait for a request.
const (
	stateIdle = iota
	stateBusy
	stateClosed
)

// conn is one connection being served.
type conn struct {
	server *Server
	net.Conn
	br      *bufio.Reader
	bw      *bufio.Writer
	state   atomic.Int32
	watcher watcher

	activity Activity // nil: nobody is told
	bound    boundConns

	hasDeadline     bool      // there is a read deadline
	idleDeadlineSet time.Time // when it was set, if it is one for idleness
	headerTimed     bool      // for the rest of a head
}

// errClosedIdle says that a connection ended between two requests: nothing was
// refused, nobody is told.
var errClosedIdle = errors.New("the connection ended between requests")

// readRequest waits for a request and reads its head.
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
	x.largeHeader = len(header) > bufferSize || len(x.header.fields)+1 > usualFields // and Host
	c.br.Discard(len(header))
	return x.makeRequest(c.br, c.server.maxHeaderFields(), limit)
}

// setIdleDeadline bounds the wait for the first byte of a request. A deadline
// that was set a moment ago will do: setting one costs more than asking for
// the time.
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

// setHeaderDeadline bounds the wait for the rest of a head, once.
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

// reportIdle reports that the connection waits for a client that has no request under
// way.
func (c *conn) reportIdle(now time.Time) {
	if c.activity != nil {
		c.activity.Idle(now)
	}
}

// clearDeadline lets reads take their time. Between two requests the deadline
// may stay: nothing reads while a request without content is served, but the
// watch, which sees to it.
func (c *conn) clearDeadline() {
	if c.hasDeadline {
		c.SetReadDeadline(time.Time{})
		c.hasDeadline, c.idleDeadlineSet = false, time.Time{}
	}
}

// refuse answers what is no request, and lets the answer arrive.
func (c *conn) refuse(err error) {
	if err == errClosedIdle {
		return
	}
	status := http.StatusBadRequest
	var statusErr *statusError
	switch {
	case errors.As(err, &statusErr):
		status = statusErr.status
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, err = http.StatusRequestTimeout, errors.New("the request's header did not arrive in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the client left in the middle of a request's header")
	}
	if c.server.Malformed != nil {
		c.server.Malformed(c.Conn, err)
	}
	text := "networkproxy cannot carry this request: " + err.Error() + "\n"
	fmt.Fprintf(c.bw, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(text), text)
	c.SetWriteDeadline(time.Now().Add(lingerQuietTimeout))
	if c.bw.Flush() == nil {
		c.linger()
	}
}

// Lingering lets a response arrive at a client that still sends: closing with
// unread input resets the connection, and takes the response with it. Many
// clients read nothing before they have sent all of their content.
const (
	lingerQuietTimeout = 500 * time.Millisecond // without a byte from the client
	lingerTimeout      = 5 * time.Second        // in all
)

// linger ends the connection's side to the client, and reads away what the
// client still sends.
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

// startServer serves one request and reports whether another may follow.
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
		c.server.fairness.yield() // what follows is a dial, which wakes somebody like a write
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
		w.body.Close() // a goroutine that still reads the body has the buffers
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

// releaseBuffers gives the buffers back; the connection no longer uses them.
func (c *conn) releaseBuffers() {
	if c.br.Size() == bufferSize {
		c.br.Reset(nil)
		c.server.readers.Put(c.br)
	}
	c.bw.Reset(nil)
	c.server.writers.Put(c.bw)
	c.br, c.bw = nil, nil
}
