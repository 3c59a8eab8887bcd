// The server: its configuration and its connections.

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

// Server serves HTTP/1.1 on connections that its caller accepts. Set its
// fields before the first call of ServeConn. It is safe for concurrent use and
// must not be copied.
type Server struct {
	// Handler serves the requests. Its ResponseWriter can do what net/http's
	// can: informational responses, Flush, Hijack, trailers, and reading the
	// request body while the response is written. It never guesses a
	// Content-Type.
	Handler http.Handler

	HeaderTimeout  time.Duration // from the first byte of a request to the end of its header; 0 means none
	IdleTimeout    time.Duration // wait for the first byte of a request; 0 means none
	MaxHeaderBytes int           // size of a request header, and of a trailer section; 0 means 64 KiB

	// MaxHeaderFields limits the fields of a request header, and those of a
	// trailer section. 0 means 256. A limit on bytes is not enough, because a
	// field of two bytes takes as much memory as one of fifty. The names
	// listed in Connection and Trailer count as fields.
	MaxHeaderFields int

	// Malformed is called with the error when a client sends something that is
	// not a valid request. The client gets status 400, or a more specific 4xx
	// or 5xx status. ctx is the context that ServeConn was called with. Malformed may be nil.
	Malformed func(ctx context.Context, c net.Conn, err error)

	// Panicked is called after a panic in Handler other than
	// http.ErrAbortHandler. The panic ends only that connection. Panicked may
	// be nil.
	Panicked func(c net.Conn, value any, stack []byte)

	// Activity returns the Activity of a connection. ctx is the context that
	// was passed to ServeConn. The function may be nil and may return nil.
	Activity func(ctx context.Context) Activity

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining atomic.Bool // written with mu held, read without

	readers, writers sync.Pool
	date             dateCache
	fairness         fairness
}

// Activity is notified when a connection starts to wait for a request and when
// a request has arrived. Its methods are called by one goroutine.
type Activity interface {
	// Begin is called when a complete request header has arrived. It reports
	// whether the request may be served. It returns false if the connection
	// was closed while it was idle.
	Begin() bool

	// Idle is called before the connection waits for a request or for the rest
	// of a header. Until the next call of Begin, another goroutine may close
	// the connection.
	Idle(now time.Time)
}

// ServeConn serves the requests on netConn one after another. It returns when
// no further request will follow. By then netConn is closed, unless a handler
// has hijacked it. Each request's context is derived from ctx. It ends when
// the client disconnects or the handler returns.
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
			// A hijacked connection counts as busy until the next tick, because
			// it has just become a tunnel.
			c.watcher.stop()
		}
	}()
	for {
		r, err := c.readRequest(x)
		if c.activity != nil && !c.activity.Begin() {
			err = errClosedIdle
		}
		if err != nil {
			c.refuse(ctx, err)
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

// Shutdown closes idle connections at once and lets every other connection end
// after its current response. It does not wait for them.
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

// register adds c to the connections and reports whether the server still
// accepts it.
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
