// HTTP/2 in opened tunnels. net/http speaks the protocol on both sides; this file
// passes the messages on.

package httpproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/mirror"
	"example.com/networkproxy/internal/track"
)

// continueTimeout is how long a request with Expect waits for 100 (Continue).
const continueTimeout = time.Second

// maxStreams limits the concurrent requests of one client connection.
const maxStreams = 100

// newHTTP2Server returns the server of all HTTP/2 connections.
func (h *Proxy) newHTTP2Server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:                      http.HandlerFunc(h.serveStream),
		Protocols:                    protocols,
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the origin server
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		IdleTimeout:                  h.config.IdleTimeout,
		MaxHeaderBytes:               h.config.HeaderBytes,
		ErrorLog:                     slog.NewLogLogger(h.gate.ClientLog.Handler(), slog.LevelDebug),
		BaseContext:                  func(l net.Listener) context.Context { return l.(*openedListener).ctx },
		ConnState:                    h.connStateChanged,
	}
}

// newHTTP2Transport returns the transport of all HTTP/2 connections to origin servers.
// Its connections are those that the contexts of the calls contain.
func (h *Proxy) newHTTP2Transport() *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return ctx.Value(originKey{}).(*gate.PooledConn).Conn.(*mirror.OriginConn).Conn, nil
		},
		Protocols:              protocols,
		DisableCompression:     true, // or it would decode bodies
		ExpectContinueTimeout:  continueTimeout,
		MaxResponseHeaderBytes: int64(h.config.ResponseHeaderBytes),
	}
}

// originKey is the key of the *gate.PooledConn that NewClientConn is to use.
type originKey struct{}

// openedListener "accepts" the one connection that it is given, so that net/http serves
// it.
type openedListener struct {
	ctx    context.Context
	conn   *tls.Conn
	taken  bool
	closed chan struct{} // closed by Close
	ended  chan struct{} // closed when the server has ended the connection
	once   sync.Once     // for Close

	// Handlers may run for a moment after the connection has ended.
	mu       sync.Mutex
	over     bool // no handler may begin
	handlers sync.WaitGroup
}

// Accept implements net.Listener. It returns the connection once.
func (l *openedListener) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	select {
	case <-l.ended:
	case <-l.closed:
	}
	return nil, net.ErrClosed
}

// Close implements net.Listener. It does not close the connection.
func (l *openedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *openedListener) Addr() net.Addr { return l.conn.LocalAddr() }

// begin reports whether a handler may begin. If so, it calls handlers.Done.
func (l *openedListener) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.handlers.Add(1)
	}
	return !l.over
}

// wait waits until the connection and its handlers have ended.
func (l *openedListener) wait() {
	if l.taken {
		<-l.ended
	}
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.handlers.Wait()
}

// openedConnKey is the key of the *openedConn in the context of a stream.
type openedConnKey struct{}

// openedConn is what the streams of one client connection share.
type openedConn struct {
	entry    *track.Entry
	opened   *opened
	listener *openedListener
}

// serveOpenedHTTP2 serves HTTP/2 on an opened connection.
func (h *Proxy) serveOpenedHTTP2(entry *track.Entry, client *tls.Conn, o *opened) {
	defer client.Close()
	o.http2 = &http2Origin{proxy: h, opened: o, dialing: make(chan struct{}, 1)}
	defer o.http2.close()
	if o.fault == nil {
		origin := o.takeOrigin()
		if err := o.http2.use(o.tunnel.Request.Principal.Context, origin); err != nil {
			o.fault = clientCertificateError(origin, err)
		}
	}
	l := &openedListener{conn: client, closed: make(chan struct{}), ended: make(chan struct{})}
	l.ctx = context.WithValue(o.tunnel.Request.Principal.Context, openedConnKey{}, &openedConn{entry, o, l})
	h.http2Conns.Store(client, l)
	defer h.http2Conns.Delete(client)
	h.http2.Serve(l) // always an error: the connection has ended, or the server stops
	l.wait()
}

// connStateChanged is called by net/http.
func (h *Proxy) connStateChanged(c net.Conn, s http.ConnState) {
	if s != http.StateClosed { // each request calls it twice with other states
		return
	}
	if l, ok := h.http2Conns.Load(c); ok {
		close(l.(*openedListener).ended)
	}
}

// serveStream serves one request of HTTP/2.
func (h *Proxy) serveStream(w http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(openedConnKey{}).(*openedConn)
	if !c.listener.begin() {
		panic(http.ErrAbortHandler)
	}
	defer c.listener.handlers.Done()
	ctx := &streamContext{Context: r.Context(), state: c.opened.newState(c.entry)}
	h.serveRequest(w, r.WithContext(ctx))
}

// streamContext is the context of a stream. It has the state of its request, which saves
// an allocation.
type streamContext struct {
	context.Context
	state clientState
}

// Value implements context.Context.
func (c *streamContext) Value(key any) any {
	if key == (clientStateKey{}) {
		return &c.state
	}
	return c.Context.Value(key)
}

// http2Origin has the connection with the origin server that the streams of one client
// connection share.
type http2Origin struct {
	proxy  *Proxy
	opened *opened

	dialing chan struct{} // holds a value while a connection is made
	mu      sync.Mutex
	conn    *gate.PooledConn
	client  *http.ClientConn // speaks HTTP/2 on conn
}

// use makes conn the connection with the origin server.
func (s *http2Origin) use(ctx context.Context, conn *gate.PooledConn) error {
	host := s.opened.tunnel.Request.Target.String()
	client, err := s.proxy.http2Transport.NewClientConn(context.WithValue(ctx, originKey{}, conn), "https", host)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.conn, s.client = conn, client
	s.mu.Unlock()
	return nil
}

// usable returns the connection, or nil if there is none that can be used.
func (s *http2Origin) usable() (*gate.PooledConn, *http.ClientConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client == nil || s.client.Err() != nil || s.client.Available() == 0 && s.client.InFlight() == 0 { // the last after GOAWAY
		return nil, nil
	}
	return s.conn, s.client
}

// connect returns the connection for a request. If the origin server has closed it,
// connect makes another one.
func (s *http2Origin) connect(ctx context.Context, req *gate.Request, v *gate.Ruling) (*gate.PooledConn, *http.ClientConn, error) {
	select {
	case s.dialing <- struct{}{}:
		defer func() { <-s.dialing }()
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if conn, client := s.usable(); client != nil {
		return conn, client, nil
	}
	conn, err := s.proxy.dialOrigin(ctx, req, v, s.opened.offer)
	if err != nil {
		return nil, nil, err
	}
	s.close()
	if err := s.use(ctx, conn); err != nil {
		conn.Close()
		return nil, nil, clientCertificateError(conn, err)
	}
	if _, client := s.usable(); client != nil {
		return conn, client, nil
	}
	return nil, nil, clientCertificateError(conn, errors.New("the server closed the connection at once"))
}

// drop makes client unusable for further requests.
func (s *http2Origin) drop(client *http.ClientConn) {
	s.mu.Lock()
	current := s.client == client
	s.mu.Unlock()
	if current {
		s.close()
	}
}

// close closes the connection.
func (s *http2Origin) close() {
	s.mu.Lock()
	conn, client := s.conn, s.client
	s.conn, s.client = nil, nil
	s.mu.Unlock()
	if client != nil {
		client.Close()
	}
	if conn != nil {
		conn.Close()
	}
}
