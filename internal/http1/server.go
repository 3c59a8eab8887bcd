// The server's side: the requests of one connection, one after the other.

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
	"net/textproto"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves HTTP/1.1 on connections that somebody else accepts. Set its
// fields before its first connection. Safe for concurrent use; it must not be
// copied.
type Server struct {
	// Handler serves the requests. Its ResponseWriter can do what net/http's
	// can: interim answers, Flush, Hijack, trailers, and reading the request
	// while the answer is written. Content-Type is never guessed.
	Handler http.Handler

	HeaderTimeout  time.Duration // from the first byte of a request to the end of its head; 0 means none
	IdleTimeout    time.Duration // to the first byte of a request; 0 means none
	MaxHeaderBytes int           // of a request's head, and of its trailer section; 0 means 64 KiB

	// MaxHeaderFields bounds the fields of a request's head, and those of its
	// trailer section. 0 means 256. A bound on bytes is not enough: a field of
	// two bytes takes as much memory as one of fifty. The names that Connection
	// and Trailer list count as fields.
	MaxHeaderFields int

	// Malformed is told of what a client sent that is no request. It is
	// answered 400, or with the status of 4xx or 5xx that says more. nil is
	// told nothing.
	Malformed func(c net.Conn, err error)

	// Panicked is told of a panic in Handler other than http.ErrAbortHandler.
	// It ends that one connection.
	Panicked func(c net.Conn, value any, stack []byte)

	// Activity returns who is told of what happens on the connection that ctx
	// was given to ServeConn for. nil, or a nil function, is told nothing.
	Activity func(ctx context.Context) Activity

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining atomic.Bool // set with mu held; read without

	readers, writers sync.Pool
	date             dateCache
	fairness         fairness
}

// Activity is told when a connection waits for a request and when it serves
// one. Its methods are called by one goroutine.
type Activity interface {
	// Begin is called when the whole head of a request has arrived. It reports
	// whether the request is to be served: false if the connection was closed
	// while it waited.
	Begin() bool

	// Idle is called before the connection waits for a request, or for the rest
	// of a head. Somebody else may close it from then on, until Begin.
	Idle(now time.Time)
}

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

// ServeConn serves the requests of c in turn and returns when there will be
// no more: c is closed then, unless a handler has hijacked it. The context of
// every request is below ctx, and ends when the client goes away or the
// handler returns.
func (s *Server) ServeConn(ctx context.Context, netConn net.Conn) {
	s.fairness.refresh()
	c := &conn{server: s, Conn: netConn, br: s.newReader(netConn), bw: s.newWriter(netConn)}
	c.watcher.init(c)
	if !s.register(c) {
		netConn.Close()
		return
	}
	defer s.unregister(c)
	if s.Activity != nil {
		c.activity = s.Activity(ctx)
	}
	x := newExchange(ctx, &s.fairness, &c.bound)
	defer c.bound.close()
	defer func() {
		x.close()
		if !x.writer.hijacked {
			c.watcher.stop() // else it counts as busy for a moment more: it has just become a tunnel, and is
		}
	}()
	for {
		r, err := c.readRequest(x)
		if c.activity != nil && !c.activity.Begin() {
			err = errClosedIdle
		}
		if err != nil {
			c.refuse(err)
			netConn.Close()
			return
		}
		if !c.serveRequest(x, r) {
			return
		}
		if !x.reusable() {
			x.close()
			x = newExchange(ctx, &s.fairness, &c.bound)
		}
	}
}

// Shutdown makes every connection end: at once where it waits for a request,
// else after the answer that is under way. It does not wait for that.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for c := range s.conns {
		if c.state.CompareAndSwap(stateIdle, stateClosed) {
			c.Conn.Close()
		}
	}
}

func (s *Server) register(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) unregister(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
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

func (s *Server) maxHeaderBytes() int  { return cmp.Or(s.MaxHeaderBytes, 64<<10) }
func (s *Server) maxHeaderFields() int { return cmp.Or(s.MaxHeaderFields, 256) }

// withoutQuotes returns an error of net/http's parsers without what it quotes,
// which is whatever the peer wrote: URLs, cookies and the values of framing
// fields. Errors of other packages are returned as they are.
func withoutQuotes(err error) error {
	if err == nil || err == io.EOF {
		return err // the end of every content comes here; the variables below cost memory
	}
	var inURL *url.Error
	var inHeader textproto.ProtocolError
	switch {
	case errors.As(err, &inURL):
		return errors.New("the URL in the request line cannot be parsed")
	case errors.As(err, &inHeader):
		return errors.New("the header cannot be parsed")
	}
	what, _, quotes := strings.Cut(err.Error(), "\"")
	if quotes && fromHTTPParser(err) {
		return errors.New(strings.TrimRight(what, " :"))
	}
	return err
}

// fromHTTPParser reports whether err may come from one of net/http's parsers, most
// of which use types that are not exported.
func fromHTTPParser(err error) bool {
	of, _, _ := strings.Cut(strings.TrimLeft(fmt.Sprintf("%T", err), "*"), ".")
	return of == "errors" || of == "fmt" || of == "http"
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

	defer func() {
		v := recover()
		if w.hijacked {
			if v != nil {
				c.reportPanic(v)
			}
			again = false
			return
		}
		c.watcher.end()
		if v != nil {
			if v != http.ErrAbortHandler {
				c.reportPanic(v)
			}
			again = false
		}
		if !again {
			if v == http.ErrAbortHandler {
				// What there is of the answer; that it is not whole, the
				// end of the connection tells.
				c.SetWriteDeadline(time.Now().Add(lingerQuietTimeout))
				w.beginFinal()
				c.bw.Flush()
			}
			c.Conn.Close()
			w.body.Close() // who still reads the content has the buffers
			c.releaseBuffers()
			return
		}
		c.state.Store(stateIdle)
		if c.server.draining.Load() && c.state.CompareAndSwap(stateIdle, stateClosed) {
			again = false
			c.Conn.Close()
		}
	}()
	if r.Method == http.MethodConnect {
		c.server.fairness.yield() // what follows is a dial, which wakes somebody like a write
	}
	c.server.Handler.ServeHTTP(w, r)
	if w.hijacked {
		return false
	}
	return w.finish()
}

func (c *conn) reportPanic(v any) {
	if c.server.Panicked != nil {
		c.server.Panicked(c.Conn, v, debug.Stack())
	}
}

func (s *Server) newReader(netConn net.Conn) *bufio.Reader {
	if br, ok := s.readers.Get().(*bufio.Reader); ok {
		br.Reset(netConn)
		return br
	}
	return bufio.NewReaderSize(netConn, bufferSize)
}

func (s *Server) newWriter(netConn net.Conn) *bufio.Writer {
	if bw, ok := s.writers.Get().(*bufio.Writer); ok {
		bw.Reset(netConn)
		return bw
	}
	return bufio.NewWriterSize(netConn, bufferSize)
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
