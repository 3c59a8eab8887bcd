// The HTTP front: its configuration, its client connections, and the checks
// that every request passes first.

package httpproxy

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
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
}

// Proxy is the HTTP front. It serves any number of listeners. Use New.
type Proxy struct {
	gate      *gate.Gate
	config    Config
	server    *http1.Server
	upgrades  *http1.Transport // upgrade requests, on connections that are not pooled
	overLimit *http1.Server    // connections over the limit
	buffers   sync.Pool        // *[]byte of copyBufferSize
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
		Malformed: func(c net.Conn, err error) {
			h.gate.Malformed(gate.AddrPortOf(c.RemoteAddr()), policy.ProtocolHTTP, err)
		},
		Panicked: func(c net.Conn, v any, stack []byte) {
			h.gate.ClientLog.Error("panic while serving a request", "client", c.RemoteAddr().String(), "panic", v, "stack", string(stack))
		},
	}
	h.server.Activity = func(ctx context.Context) http1.Activity { return ctx.Value(clientStateKey{}).(*clientState).entry }
	h.upgrades = &http1.Transport{MaxHeaderBytes: c.ResponseHeaderBytes, MaxHeaderFields: c.HeaderFields}
	h.overLimit = h.newOverLimitServer()
	return h
}

// clientState is the state of one client connection. Its requests find it in
// their contexts.
type clientState struct {
	client    netip.AddrPort
	principal *gate.Principal
	entry     *track.Entry // nil if nothing counts the connection

	// live is the forwarded request in progress. There is at most one.
	live gate.LiveRequest

	// Memory that forwarding reuses from request to request.
	dial   dialInfo
	target lastTarget
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
func (h *Proxy) Shutdown() { h.server.Shutdown() }

// serveRequest is the handler of all requests. It asks the gate for a verdict and
// then refuses, forwards or tunnels the request.
func (h *Proxy) serveRequest(w http.ResponseWriter, r *http.Request) {
	req := h.admit(w, r)
	if req == nil {
		return
	}
	v := h.gate.Decide(r.Context(), req)
	switch {
	case !v.Allowed:
		h.refuse(w, req, v.Verdict)
	case req.Protocol == policy.ProtocolHTTPSConnect:
		h.connect(w, r, req, &v)
	case usesMaxForwards(r.Method) && h.respondMaxForwards(w, r, req):
	case req.Upgrade:
		h.upgrade(w, r, req, &v)
	default:
		h.forward(w, r, req, &v)
	}
}

// admit parses the target of a request and identifies its principal. If the
// request is malformed, has an unknown token or is over a limit, admit responds
// to it and returns nil.
func (h *Proxy) admit(w http.ResponseWriter, r *http.Request) *gate.Request {
	state := clientStateOf(r)
	protocol, target, err := targetOf(r)
	if err != nil {
		h.malformed(w, state.client, protocol, r.Method, gate.RedactError(err))
		return nil
	}
	req := &gate.Request{
		Query: policy.Query{
			Protocol: protocol,
			Target:   state.target.intern(target),
			Method:   internMethod(r.Method),
			Upgrade:  protocol == policy.ProtocolHTTP && r.ProtoAtLeast(1, 1) && UpgradeOffer(r.Header) != "",
		},
		Client:    state.client,
		Principal: state.principal,
		Listener:  state.principal,
	}
	if req.Principal, err = h.config.Tokens.Identify(state.principal, r.Header); err != nil {
		h.refuse(w, req, h.gate.Unidentified(err))
		return nil
	}
	if !state.entry.Move(req.Principal.Group) { // the connection counts for the session of its last request
		h.refuse(w, req, h.gate.OverLimit())
		return nil
	}
	if paths := r.Header[socketHeader]; len(paths) > 0 && !h.setSocketTarget(w, req, paths) {
		return nil
	}
	return req
}

// malformed records a malformed request and responds to it.
func (h *Proxy) malformed(w http.ResponseWriter, client netip.AddrPort, protocol policy.Protocol, method string, err error) {
	h.gate.Malformed(client, protocol, err)
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
		h.gate.Refused(req, refused.Verdict)
		writeRefusal(w, req, refused.Verdict)
		return
	}
	_, reason := failureStatus(err)
	h.gate.FailedWithReason(req, reason, err)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	writeFailure(w, req, err)
}
