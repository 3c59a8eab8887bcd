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

// Config holds the settings of an HTTP front. All limits must be set.
type Config struct {
	Tokens      *gate.Tokens // of the sessions
	UnixSockets bool         // serve x-unix-socket

	HeaderTimeout       time.Duration
	IdleTimeout         time.Duration
	HeaderBytes         int
	HeaderFields        int
	ResponseHeaderBytes int
	IdleUpstream        int // connections kept for each principal
}

// Proxy serves HTTP on every listener of one proxy.
type Proxy struct {
	gate      *gate.Gate
	config    Config
	server    *http1.Server
	upgrades  *http1.Transport // for connections that are not pooled
	overLimit *http1.Server    // of connections beyond the limit
	buffers   sync.Pool        // of *[]byte
}

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

// clientState is a client's connection, as its requests find it.
type clientState struct {
	client    netip.AddrPort
	principal *gate.Principal
	entry     *track.Entry // its place among the live connections

	// live is the forwarded request under way. The server serves one at a time.
	live gate.LiveRequest

	// What one request after the other uses for being forwarded.
	dial   dialInfo
	target lastTarget
	out    http1.Request
	fields []http1.Field // the memory of those of a request on its way out
}

// clientStateKey finds the exchange in a request's context.
type clientStateKey struct{}

func clientStateOf(r *http.Request) *clientState {
	return r.Context().Value(clientStateKey{}).(*clientState)
}

// Serve accepts connections until l is closed.
func (h *Proxy) Serve(l *gate.Listener) error {
	l.OverLimit = h.serveOverLimitConn(l.Principal)
	return l.Serve(func(c net.Conn, entry *track.Entry) {
		state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: l.Principal, entry: entry}
		state.live.Lasting = true
		defer state.live.Leave()
		h.server.ServeConn(context.WithValue(l.Principal.Context, clientStateKey{}, state), c)
	})
}

// ServeConn serves one connection, which nothing accounts for, until it ends.
func (h *Proxy) ServeConn(p *gate.Principal, c net.Conn) {
	state := &clientState{client: gate.AddrPortOf(c.RemoteAddr()), principal: p}
	h.server.ServeConn(context.WithValue(p.Context, clientStateKey{}, state), c)
}

// Shutdown closes idle client connections at once and lets every other one end
// after its current response. It does not wait for them.
func (h *Proxy) Shutdown() { h.server.Shutdown() }

// serveRequest decides about a request, and sorts it into forwarding or CONNECT.
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

// admit reads what a request asks for, and on whose behalf. It answers one that
// asks for nothing that can be decided about, and returns nil.
func (h *Proxy) admit(w http.ResponseWriter, r *http.Request) *gate.Request {
	state := clientStateOf(r)
	protocol, target, err := targetOf(r)
	if err != nil {
		err = gate.WithoutSecrets(err)
		h.gate.Malformed(state.client, protocol, err)
		writeMalformed(w, protocol, r.Method, err)
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
	if !state.entry.Move(req.Principal.Group) { // it counts for the session of its last request
		h.refuse(w, req, h.gate.OverLimit())
		return nil
	}
	if paths := r.Header[socketHeader]; len(paths) > 0 && !h.setSocketTarget(w, req, paths) {
		return nil
	}
	return req
}

// refuse answers and records one refusal.
func (h *Proxy) refuse(w http.ResponseWriter, req *gate.Request, v policy.Verdict) {
	h.gate.Refused(req, v)
	writeRefusal(w, req, v)
}

// fail answers and records that a target could not be reached, or, where the
// addresses that it resolved to were refused, that refusal. Where the request
// has ended (the client left, the proxy stops), the connection is cut: to
// return without a word would be an empty 200.
func (h *Proxy) fail(w http.ResponseWriter, r *http.Request, req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		h.gate.Refused(req, refused.Verdict)
		writeRefusal(w, req, refused.Verdict)
		return
	}
	_, reason := failureStatus(err)
	h.gate.FailedFor(req, reason, err)
	if r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	writeFailure(w, req, err)
}
