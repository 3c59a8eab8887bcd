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
	date             dateField
	turns            turns
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
	br    *bufio.Reader
	bw    *bufio.Writer
	state atomic.Int32
	watch watcher

	activity Activity // nil: nobody is told
	bound    boundConns

	limited bool      // there is a read deadline
	idleAt  time.Time // when it was set, if it is one for idleness
	waiting bool      // for the rest of a head
}

// ServeConn serves the requests of c in turn and returns when there will be
// no more: c is closed then, unless a handler has hijacked it. The context of
// every request is below ctx, and ends when the client goes away or the
// handler returns.
func (s *Server) ServeConn(ctx context.Context, c net.Conn) {
	s.turns.look()
	k := &conn{server: s, Conn: c, br: s.reader(c), bw: s.writer(c)}
	k.watch.init(k)
	if !s.join(k) {
		c.Close()
		return
	}
	defer s.leave(k)
	if s.Activity != nil {
		k.activity = s.Activity(ctx)
	}
	x := newExchange(ctx, &s.turns, &k.bound)
	defer k.bound.close()
	defer func() {
		x.drop()
		if !x.response.hijacked {
			k.watch.stop() // else it counts as busy for a moment more: it has just become a tunnel, and is
		}
	}()
	for {
		r, err := k.next(x)
		if k.activity != nil && !k.activity.Begin() {
			err = errIdle
		}
		if err != nil {
			k.refuse(err)
			c.Close()
			return
		}
		if !k.serve(x, r) {
			return
		}
		if !x.reusable() {
			x.drop()
			x = newExchange(ctx, &s.turns, &k.bound)
		}
	}
}

// Shutdown makes every connection end: at once where it waits for a request,
// else after the answer that is under way. It does not wait for that.
func (s *Server) Shutdown() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining.Store(true)
	for k := range s.conns {
		if k.state.CompareAndSwap(stateIdle, stateClosed) {
			k.Conn.Close()
		}
	}
}

func (s *Server) join(k *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[k] = struct{}{}
	return true
}

func (s *Server) leave(k *conn) {
	s.mu.Lock()
	delete(s.conns, k)
	s.mu.Unlock()
}

// errIdle says that a connection ended between two requests: nothing was
// refused, nobody is told.
var errIdle = errors.New("the connection ended between requests")

// next waits for a request and reads its head.
func (k *conn) next(x *exchange) (*http.Request, error) {
	if k.br.Buffered() == 0 {
		k.idleDeadline()
		k.server.turns.yield()
		if _, err := k.br.Peek(1); err != nil {
			return nil, errIdle
		}
	}
	if !k.state.CompareAndSwap(stateIdle, stateBusy) {
		return nil, errIdle
	}
	limit := k.server.maxHeaderBytes()
	k.waiting = false
	head, br, err := readHead(k.br, k.Conn, limit, k.headerDeadline)
	k.br = br
	if err != nil {
		return nil, err
	}
	if err := x.head.parse(string(head), k.server.maxHeaderFields()); err != nil {
		return nil, err
	}
	x.large = len(head) > bufferSize || len(x.head.fields)+1 > plainFields // and Host
	k.br.Discard(len(head))
	return x.makeRequest(k.br, k.server.maxHeaderFields(), limit)
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
	if quotes && ofParsers(err) {
		return errors.New(strings.TrimRight(what, " :"))
	}
	return err
}

// ofParsers reports whether err may come from one of net/http's parsers, most
// of which use types that are not exported.
func ofParsers(err error) bool {
	of, _, _ := strings.Cut(strings.TrimLeft(fmt.Sprintf("%T", err), "*"), ".")
	return of == "errors" || of == "fmt" || of == "http"
}

// idleDeadline bounds the wait for the first byte of a request. A deadline
// that was set a moment ago will do: setting one costs more than asking for
// the time.
func (k *conn) idleDeadline() {
	now := time.Now()
	k.idle(now)
	timeout := k.server.IdleTimeout
	if timeout <= 0 {
		k.noDeadline()
		return
	}
	if k.limited && now.Sub(k.idleAt) < timeout/64 {
		return
	}
	k.SetReadDeadline(now.Add(timeout))
	k.limited, k.idleAt = true, now
}

// headerDeadline bounds the wait for the rest of a head, once.
func (k *conn) headerDeadline() {
	if k.waiting {
		return
	}
	k.waiting = true
	now := time.Now()
	k.idle(now)
	if k.server.HeaderTimeout > 0 {
		k.SetReadDeadline(now.Add(k.server.HeaderTimeout))
		k.limited, k.idleAt = true, time.Time{}
	}
}

// idle reports that the connection waits for a client that has no request under
// way.
func (k *conn) idle(now time.Time) {
	if k.activity != nil {
		k.activity.Idle(now)
	}
}

// noDeadline lets reads take their time. Between two requests the deadline
// may stay: nothing reads while a request without content is served, but the
// watch, which sees to it.
func (k *conn) noDeadline() {
	if k.limited {
		k.SetReadDeadline(time.Time{})
		k.limited, k.idleAt = false, time.Time{}
	}
}

// refuse answers what is no request, and lets the answer arrive.
func (k *conn) refuse(err error) {
	if err == errIdle {
		return
	}
	status := http.StatusBadRequest
	var odd *headError
	switch {
	case errors.As(err, &odd):
		status = odd.status
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, err = http.StatusRequestTimeout, errors.New("the request's header did not arrive in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the client left in the middle of a request's header")
	}
	if k.server.Malformed != nil {
		k.server.Malformed(k.Conn, err)
	}
	text := "networkproxy cannot carry this request: " + err.Error() + "\n"
	fmt.Fprintf(k.bw, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		status, http.StatusText(status), len(text), text)
	k.SetWriteDeadline(time.Now().Add(lingerQuiet))
	if k.bw.Flush() == nil {
		k.linger()
	}
}

// Lingering lets a response arrive at a client that still sends: closing with
// unread input resets the connection, and takes the response with it. Many
// clients read nothing before they have sent all of their content.
const (
	lingerQuiet = 500 * time.Millisecond // without a byte from the client
	lingerTime  = 5 * time.Second        // in all
)

// linger ends the connection's side to the client, and reads away what the
// client still sends.
func (k *conn) linger() {
	half, ok := k.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	for now, end := time.Now(), time.Now().Add(lingerTime); now.Before(end); now = time.Now() {
		quiet := now.Add(lingerQuiet)
		if quiet.After(end) {
			quiet = end
		}
		k.SetReadDeadline(quiet)
		n, err := k.br.Discard(drainBytes)
		if err != nil && (n == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			return
		}
	}
}

// serve serves one request and reports whether another may follow.
func (k *conn) serve(x *exchange, r *http.Request) (again bool) {
	x.ctx.begin()
	defer x.ctx.end()
	w := &x.response
	w.init(k, r)
	if r.Body != http.NoBody {
		r.Body = &w.body
		k.noDeadline()
	}
	k.watch.begin(x)

	defer func() {
		v := recover()
		if w.hijacked {
			if v != nil {
				k.panicked(v)
			}
			again = false
			return
		}
		k.watch.end()
		if v != nil {
			if v != http.ErrAbortHandler {
				k.panicked(v)
			}
			again = false
		}
		if !again {
			if v == http.ErrAbortHandler {
				// What there is of the answer; that it is not whole, the
				// end of the connection tells.
				k.SetWriteDeadline(time.Now().Add(lingerQuiet))
				w.noContinue()
				k.bw.Flush()
			}
			k.Conn.Close()
			w.body.Close() // who still reads the content has the buffers
			k.release()
			return
		}
		k.state.Store(stateIdle)
		if k.server.draining.Load() && k.state.CompareAndSwap(stateIdle, stateClosed) {
			again = false
			k.Conn.Close()
		}
	}()
	if r.Method == http.MethodConnect {
		k.server.turns.yield() // what follows is a dial, which wakes somebody like a write
	}
	k.server.Handler.ServeHTTP(w, r)
	if w.hijacked {
		return false
	}
	return w.finish()
}

func (k *conn) panicked(v any) {
	if k.server.Panicked != nil {
		k.server.Panicked(k.Conn, v, debug.Stack())
	}
}

func (s *Server) reader(c net.Conn) *bufio.Reader {
	if br, ok := s.readers.Get().(*bufio.Reader); ok {
		br.Reset(c)
		return br
	}
	return bufio.NewReaderSize(c, bufferSize)
}

func (s *Server) writer(c net.Conn) *bufio.Writer {
	if bw, ok := s.writers.Get().(*bufio.Writer); ok {
		bw.Reset(c)
		return bw
	}
	return bufio.NewWriterSize(c, bufferSize)
}

// release gives the buffers back; the connection no longer uses them.
func (k *conn) release() {
	if k.br.Size() == bufferSize {
		k.br.Reset(nil)
		k.server.readers.Put(k.br)
	}
	k.bw.Reset(nil)
	k.server.writers.Put(k.bw)
	k.br, k.bw = nil, nil
}
