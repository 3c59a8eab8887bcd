// Package adminhttp serves a small JSON API to local tools such as curl, and to one
// page in a browser. It refuses requests that other web pages send, checks a token,
// and makes the API read-only on demand. It also writes metrics as text for
// Prometheus.
//
// The package knows nothing about the proxy: its user supplies the routes.
package adminhttp

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"example.com/networkproxy/internal/track"
)

const (
	maxBodyBytes   = 8 << 10
	maxConnections = 64
	ioTimeout      = 30 * time.Second // for reading a request, and for writing a response

	// streamBuffer is the size of the system's buffer for a stream, in bytes. By
	// default it grows to megabytes for a client that does not read.
	streamBuffer = 64 << 10
)

// Config is the configuration of a [Server].
type Config struct {
	// Routes are the resources of the API.
	Routes []Route

	// Token is the bearer token that every request must carry, except those for
	// public routes. Empty means that requests need none. A request of the page
	// that may change something needs one in any case: that of [Server.Login].
	Token string

	// ReadOnly reports whether requests that may change something, all but GET
	// and HEAD, are refused with status 403. It is called for each of them,
	// from many goroutines at once. nil means never.
	ReadOnly func() bool

	// Context is the parent of the contexts of all requests. Required.
	Context context.Context

	// HeaderTimeout bounds reading the header of a request, IdleTimeout the
	// wait for the next request, and MaxHeaderBytes the size of a header. Zero
	// has the same meaning as in [http.Server].
	HeaderTimeout  time.Duration
	IdleTimeout    time.Duration
	MaxHeaderBytes int

	// Logger receives errors of connections. Required.
	Logger *slog.Logger
}

// Server serves an API on one listener. All methods are safe for concurrent
// use.
type Server struct {
	config Config
	server *http.Server
	conns  *track.Group

	public    map[string]bool // the paths of the public routes
	pageToken string          // config.Token, or a random one
	codes     codes           // that the page can exchange for pageToken
}

// New returns a server that has no listener yet.
func New(c Config) *Server {
	s := &Server{config: c, conns: track.NewGroup(nil), public: make(map[string]bool), pageToken: c.Token}
	if s.pageToken == "" {
		s.pageToken = rand.Text()
	}
	for _, route := range c.Routes {
		if route.Public {
			s.public[strings.TrimSuffix(route.Path, "{$}")] = true
		}
	}
	s.conns.SetLimit(maxConnections)
	s.server = &http.Server{
		ReadHeaderTimeout: c.HeaderTimeout,
		ReadTimeout:       ioTimeout,
		WriteTimeout:      ioTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    c.MaxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(c.Logger.Handler(), slog.LevelWarn),
		BaseContext:       func(net.Listener) context.Context { return c.Context },

		// Otherwise net/http responds to OPTIONS * without asking the guard.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// Serve serves the API on l. It returns [http.ErrServerClosed] after Shutdown
// or Close, and otherwise the error of l. It may be called once.
func (s *Server) Serve(l net.Listener) error {
	tracked := &track.Listener{Inner: l, Group: s.conns, StartIdle: true, Logger: s.config.Logger}
	s.server.Handler = s.guard(l.Addr(), s.mux())
	s.server.ConnState = tracked.ConnState
	s.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(context.WithValue(ctx, entryKey{}, tracked.Entry(c)), connKey{}, c)
	}
	return s.server.Serve(tracked)
}

// Shutdown stops accepting connections and waits until all requests have ended
// or ctx ends.
func (s *Server) Shutdown(ctx context.Context) error { return s.server.Shutdown(ctx) }

// Close closes the listener and all connections.
func (s *Server) Close() error { return s.server.Close() }

// Wait waits until every connection is closed and its goroutine has ended.
func (s *Server) Wait() { s.conns.Wait(context.Background()) }

// entryKey and connKey are the keys of a connection's *track.Entry and net.Conn in the
// contexts of its requests.
type (
	entryKey struct{}
	connKey  struct{}
)
