// The server's side: the requests of one connection, one after the other.

package http1

import (
	"bufio"
	"cmp"
	"context"
	"net"
	"net/http"
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

func (s *Server) maxHeaderBytes() int  { return cmp.Or(s.MaxHeaderBytes, 64<<10) }
func (s *Server) maxHeaderFields() int { return cmp.Or(s.MaxHeaderFields, 256) }

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
