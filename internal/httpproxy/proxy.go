// The HTTP proxy: requests in absolute-form are forwarded (RFC 9112 section
// 3.2.2), CONNECT opens a tunnel (RFC 9110 section 9.3.6), and anything else
// is answered with what a proxy expects.

package httpproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/tunnel"
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

// internMethod is a method without the head of a request: see lastTarget.own.
func internMethod(method string) string {
	for _, known := range [...]string{http.MethodGet, http.MethodConnect, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodOptions} {
		if method == known {
			return known
		}
	}
	return strings.Clone(method)
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

// targetOf reads the target of a proxy request and refuses every form that
// is not one a proxy should be sent.
func targetOf(r *http.Request) (policy.Protocol, hostname.Target, error) {
	if r.Method == http.MethodConnect {
		t, err := connectTarget(r)
		return policy.ProtocolHTTPSConnect, t, err
	}
	t, err := forwardTarget(r)
	return policy.ProtocolHTTP, t, err
}

// connectTarget reads authority-form, the only one CONNECT has (RFC 9112
// section 3.2.3). It goes by the bytes of the request line, not by what
// net/url made of them.
func connectTarget(r *http.Request) (hostname.Target, error) {
	if r.ProtoMajor != 1 {
		return hostname.Target{}, fmt.Errorf("unsupported protocol %s; use HTTP/1.1", r.Proto)
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		return hostname.Target{}, errors.New("a CONNECT request has no content (RFC 9110 section 9.3.6)")
	}
	if strings.Contains(r.RequestURI, "@") { // not quoted: it may be a password
		return hostname.Target{}, errUserinfo
	}
	return hostname.ParseTarget(r.RequestURI)
}

// forwardTarget reads absolute-form (RFC 9112 section 3.2.2).
func forwardTarget(r *http.Request) (hostname.Target, error) {
	if r.ProtoMajor != 1 {
		return hostname.Target{}, fmt.Errorf("unsupported protocol %s; use HTTP/1.1", r.Proto)
	}
	return URLTarget(r.URL, r.RequestURI)
}

var errUserinfo = errors.New("a target with a user name or password in it is refused (RFC 9110 section 4.2.4); send an Authorization header")

// URLTarget is the target of an http:// URL, and refuses every other. Like
// connectTarget it goes by the bytes, text: net/url undoes escapes in a host.
func URLTarget(u *url.URL, text string) (hostname.Target, error) {
	switch {
	case u.Scheme == "":
		return hostname.Target{}, errors.New("this is an HTTP proxy, not a web server: send it requests with a full http:// URL, " +
			"for example through HTTP_PROXY or curl --proxy")
	case u.Scheme == "https":
		return hostname.Target{}, errors.New("an https:// URL is reached with CONNECT, not by forwarding")
	case u.Scheme != "http":
		return hostname.Target{}, errors.New(namedScheme(u.Scheme) + " is not carried; http:// and CONNECT are")
	case u.User != nil:
		return hostname.Target{}, errUserinfo
	case u.Host == "": // also where "://" follows later, in a path
		return hostname.Target{}, errors.New("the URL has no host; write http://host/path")
	}
	_, rest, _ := strings.Cut(text, "://")
	return hostname.ParseTargetDefault(URLAuthority(rest), 80)
}

// URLAuthority is what stands between "//" and the path of a URL.
func URLAuthority(rest string) string {
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return rest
}

// namedScheme names a scheme for an error. A scheme that is not well known is
// not quoted, because it may be a secret: "user" in "user:password".
func namedScheme(scheme string) string {
	switch scheme {
	case "ftp", "ws", "wss", "file", "socks5", "socks5h", "ssh", "git":
		return "the scheme " + strconv.Quote(scheme)
	}
	return "the scheme of this URL"
}

// connect dials, and only then answers 200: a client must be able to tell a
// target that is out of reach from one that closes.
func (h *Proxy) connect(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest) // not the exchange's, which a tunnel would keep alive
	target, err := h.gate.Dial(r.Context(), req, v, live)
	if err != nil {
		h.fail(w, r, req, err)
		return
	}
	client, err := takeOver(w, []byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	if err != nil {
		live.End()
		target.Close()
		h.gate.Failed(req, err)
		return
	}
	h.tunnel(clientStateOf(r).entry, client, target, req, live, nil)
}

// tunnel makes a tunnel of a client's connection: until either side ends it,
// the idle time passes, the policy turns against it, or the proxy stops. The
// request is under way as live. back is what the target has already sent
// beyond its answer.
func (h *Proxy) tunnel(entry *track.Entry, client *clientConn, target net.Conn, req *gate.Request, live *gate.LiveRequest, originEarly []byte) {
	if !entry.SetCloser(tunnel.Pair{A: client.conn, B: gate.BelowTLS(target)}) {
		live.End()
		target.Close() // the proxy is stopping
		h.gate.Failed(req, gate.ErrClosed)
		return
	}
	// Not here in the handler, so that a tunnel does not hold its request.
	entry.AfterHandler(func() {
		defer endTunnel(live, target)
		h.gate.Relay(client.conn, target, req, tunnel.Options{Early: client.early, EarlyBack: originEarly})
	})
}

func endTunnel(live *gate.LiveRequest, target net.Conn) {
	live.End()
	target.Close()
}

// clientConn is a client's connection that has become a tunnel's.
type clientConn struct {
	conn  net.Conn // the connection itself, unwrapped
	early []byte   // what the client has sent beyond its request
}

// takeOver takes the connection of a request from the server, behind the head
// of a response.
func takeOver(w http.ResponseWriter, header []byte) (*clientConn, error) {
	conn, early, err := w.(http1.Detacher).Detach(header)
	if err != nil {
		return nil, err
	}
	return &clientConn{conn: conn, early: early}, nil
}
