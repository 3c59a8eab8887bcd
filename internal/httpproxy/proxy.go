// The HTTP front: its configuration, its client connections, and the checks
// that every request passes first.

package httpproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/mirror"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// Config holds the settings of a Proxy. All limits must be set.
type Config struct {
	Tokens      *gate.Tokens // identify the session of a request
	UnixSockets bool         // accept the x-unix-socket header

	HeaderTimeout       time.Duration // for a request header, and for a response header
	IdleTimeout         time.Duration // of client connections between requests
	HeaderBytes         int           // of a request header
	HeaderFields        int           // of a request header or response header
	ResponseHeaderBytes int           // of a response header
	IdleUpstream        int           // idle connections kept in each pool of a principal

	DialTimeout      time.Duration // of a connection to a target
	HandshakeTimeout time.Duration // of TLS, and for the first bytes in an opened tunnel
	TunnelLifetime   time.Duration // of an opened tunnel; 0 means no limit

	// Leaf returns the certificate that the proxy shows for a host in an opened
	// tunnel. It may be nil if the policy never opens one.
	Leaf func(hostname.Host) (*tls.Certificate, error)

	// Roots returns the certificate authorities to trust for a host. If the function
	// or the pool is nil, the roots of the system are trusted.
	Roots func(hostname.Host) *x509.CertPool
}

// Proxy is the HTTP front. It serves any number of listeners. Use New.
type Proxy struct {
	gate      *gate.Gate
	config    Config
	server    *http1.Server
	upgrades  *http1.Transport // upgrade requests, on connections that are not pooled
	overLimit *http1.Server    // connections over the limit
	buffers   sync.Pool        // *[]byte of copyBufferSize

	mirror         mirror.Mirror
	http2          *http.Server    // HTTP/2 with clients, in opened tunnels
	http2Transport *http.Transport // HTTP/2 with origin servers, for these clients
	http2Conns     sync.Map        // *tls.Conn of a client to its *openedListener
	distrust       distrusts
}

// New returns a Proxy that asks g about requests. c.Tokens must not be nil.
func New(g *gate.Gate, c Config) *Proxy {
	h := &Proxy{gate: g, config: c}
	h.buffers.New = func() any {
		b := make([]byte, copyBufferSize)
		return &b
	}
	h.server = &http1.Server{
		Handler:         http.HandlerFunc(h.serveRequest),
		HeaderTimeout:   c.HeaderTimeout,
		IdleTimeout:     c.IdleTimeout,
		MaxHeaderBytes:  c.HeaderBytes,
		MaxHeaderFields: c.HeaderFields,
		Malformed: func(ctx context.Context, c net.Conn, err error) {
			h.gate.Malformed(ctx.Value(clientStateKey{}).(*clientState).principal, gate.AddrPortOf(c.RemoteAddr()), policy.ProtocolHTTP, err)
		},
		Panicked: func(c net.Conn, v any, stack []byte) {
			h.gate.ClientLog.Error("panic while serving a request", "client", c.RemoteAddr().String(), "panic", v, "stack", string(stack))
		},
	}
	h.server.Activity = func(ctx context.Context) http1.Activity { return ctx.Value(clientStateKey{}).(*clientState).entry }
	h.upgrades = &http1.Transport{MaxHeaderBytes: c.ResponseHeaderBytes, MaxHeaderFields: c.HeaderFields}
	h.overLimit = h.newOverLimitServer()
	h.mirror.Leaf, h.mirror.Roots = c.Leaf, c.Roots
	h.http2, h.http2Transport = h.newHTTP2Server(), h.newHTTP2Transport()
	return h
}

// clientState is the state of one client connection. Its requests find it in
// their contexts.
type clientState struct {
	client    netip.AddrPort
	principal *gate.Principal
	entry     *track.Entry // nil if nothing counts the connection

	captured *captured // nil unless a fence captured the connection
	opened   *opened   // nil unless the connection is that of an opened tunnel

	// live is the forwarded request in progress. There is at most one.
	live gate.LiveRequest

	exchange credential.Exchange // of the request in progress

	*forwarding // nil until forward allocates it
}

// forwarding is memory that forward reuses from request to request. Tunnels and streams of
// HTTP/2 do not need it.
type forwarding struct {
	dial   dialInfo
	out    http1.Request
	fields []http1.Field // for out.Fields
}

// clientStateKey is the key of the *clientState in a request's context.
type clientStateKey struct{}

func clientStateOf(r *http.Request) *clientState {
	return r.Context().Value(clientStateKey{}).(*clientState)
}

// Serve serves the connections that l accepts, until l is closed.
func (h *Proxy) Serve(l *gate.Listener) error {
	l.OverLimit = h.serveOverLimitConn(l.Principal)
	return l.Serve(func(c net.Conn, entry *track.Entry) {
		state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: l.Principal, entry: entry}
		state.live.Persistent = true
		defer state.live.Leave()
		h.server.ServeConn(context.WithValue(l.Principal.Context, clientStateKey{}, state), c)
	})
}

// ServeConn serves one connection for p until it ends. No limit applies to the
// connection, and no group closes it.
func (h *Proxy) ServeConn(p *gate.Principal, c net.Conn) {
	state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: p}
	h.server.ServeConn(context.WithValue(p.Context, clientStateKey{}, state), c)
}

// Shutdown closes idle client connections at once and lets every other one end
// after its current response. It does not wait for them.
func (h *Proxy) Shutdown() {
	h.server.Shutdown()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	h.http2.Shutdown(ctx) // begins the shutdown without waiting; the error says only that ctx has ended
}

// serveRequest is the handler of all requests. It asks the gate for a verdict and
// then refuses, forwards or tunnels the request.
func (h *Proxy) serveRequest(w http.ResponseWriter, r *http.Request) {
	req := h.admit(w, r)
	if req == nil {
		return
	}
	v := h.decide(r, req)
	switch {
	case !v.Allowed:
		h.refuse(w, req, v.Verdict)
	case req.Protocol == policy.ProtocolHTTPSConnect && v.Open:
		h.openTunnel(w, r, req, &v)
	case req.Protocol == policy.ProtocolHTTPSConnect:
		req.CanOpen = false // a later policy that requires an opened tunnel cuts this one
		h.connect(w, r, req, &v)
	case h.alreadyFailed(w, r, req):
	case !h.checkContent(w, r, req, &v), !h.exchange(w, r, req, &v):
	case r.ProtoMajor == 2:
		h.forwardHTTP2(w, r, req, &v)
	case usesMaxForwards(r.Method) && h.respondMaxForwards(w, r, req, &v):
	case req.Upgrade:
		h.upgrade(w, r, req, &v)
	default:
		h.forward(w, r, req, &v)
	}
}

// decide returns the ruling on a request.
func (h *Proxy) decide(r *http.Request, req *gate.Request) gate.Ruling {
	switch state := clientStateOf(r); {
	case state.captured != nil:
		return h.decideCaptured(r.Context(), state.captured, req)
	case state.opened != nil:
		return h.gate.Confirm(req, state.opened.tunnel.Ruling) // the decider is not asked again
	}
	return h.gate.Decide(r.Context(), req)
}

// admit parses the target of a request and identifies its principal. If the
// request is malformed, has an unknown token or is over a limit, admit responds
// to it and returns nil.
func (h *Proxy) admit(w http.ResponseWriter, r *http.Request) *gate.Request {
	state := clientStateOf(r)
	switch {
	case state.captured != nil:
		return h.admitCaptured(w, r, state)
	case state.opened != nil:
		return h.admitOpened(w, r, state)
	}
	protocol, target, err := targetOf(r)
	if err != nil {
		h.malformed(w, state.principal, state.client, protocol, r.Method, gate.RedactError(err))
		return nil
	}
	req := state.newRequest(protocol, target, r.Method)
	if protocol == policy.ProtocolHTTPSConnect {
		req.HTTP, req.CanOpen = nil, true
	} else {
		req.HTTP.Target, req.HTTP.Header = requestTarget(r, "", false), r.Header
		req.Upgrade = r.ProtoAtLeast(1, 1) && UpgradeOffer(r.Header) != ""
	}
	if req.Principal, err = h.config.Tokens.Identify(state.principal, r.Header); err != nil {
		h.refuse(w, req, h.gate.Unidentified(err))
		return nil
	}
	if !state.entry.Move(req.Principal.Clients) { // the connection counts for the session of its last request
		h.refuse(w, req, h.gate.OverLimit())
		return nil
	}
	if paths := r.Header[socketHeader]; len(paths) > 0 && !h.setSocketTarget(w, req, paths) {
		return nil
	}
	return req
}

// newRequest returns a request of the client. The caller sets the target and the
// header of its HTTP part. The target and the method are copied, because they are
// substrings of the whole header, which records and events would keep in memory.
func (s *clientState) newRequest(protocol policy.Protocol, target hostname.Target, method string) *gate.Request {
	x := new(struct { // one allocation
		gate.Request
		http httprule.Request
	})
	method = cloneMethod(method)
	x.http.Method = method
	x.Request = gate.Request{
		Query:     policy.Query{Protocol: protocol, Target: target.Clone(), Method: method, HTTP: &x.http},
		Client:    s.client,
		Principal: s.principal,
		Listener:  s.principal,
	}
	return &x.Request
}

// malformed records a malformed request and responds to it.
func (h *Proxy) malformed(w http.ResponseWriter, principal *gate.Principal, client netip.AddrPort, protocol policy.Protocol, method string, err error) {
	h.gate.Malformed(principal, client, protocol, err)
	writeMalformed(w, protocol, method, err)
}

// refuse records a refusal and responds with it.
func (h *Proxy) refuse(w http.ResponseWriter, req *gate.Request, v policy.Verdict) {
	h.gate.Refused(req, v)
	writeRefusal(w, req, v)
}

// fail records that an allowed request failed and responds with the reason. If
// err is a refusal, for example of the addresses that the target resolved to, it
// records and sends that refusal. If the request has ended because the client
// left or the proxy stops, fail closes the connection. Returning without writing
// would send an empty 200.
func (h *Proxy) fail(w http.ResponseWriter, r *http.Request, req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		h.refuse(w, req, refused.Verdict)
		return
	}
	if v, ok := certificateRefusal(err); ok {
		h.refuse(w, req, v)
		return
	}
	_, reason := failureStatus(err)
	h.gate.FailedWithReason(req, reason, err)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	writeFailure(w, req, err)
}
