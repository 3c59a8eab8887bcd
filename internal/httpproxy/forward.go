// Forwarding plain HTTP: one request out, one answer back, both streamed,
// with what RFC 9110 section 7.6 asks of an intermediary and no traces of
// its own.

package httpproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/upstream"
)

const (
	UpstreamIdleTimeout = 90 * time.Second // a pooled connection without a request
	UpstreamIdlePerHost = 256
	copyBufferSize      = 32 << 10
)

// dialInfo implements http1.RoundTripHooks for one round trip, so that a new
// connection goes to the target that was judged and to nothing else.
type dialInfo struct {
	gate    *gate.Gate
	req     *gate.Request
	verdict gate.Ruling
	route   gate.Route
	live    *gate.LiveRequest
	w       http.ResponseWriter // for informational responses
	ctx     context.Context     // the client's
}

// pools are the connections of one principal that further requests may use. A
// connection serves only the host and port that it was made for, its address
// was judged when it was made, and it is judged again at every change of the
// policy: its reuse needs no lookup and cannot lead elsewhere.
//
// Each route has a pool of its own: a request that is written for a proxy,
// with credentials for it, never meets a connection to an origin.
type pools struct {
	direct, proxied, sockets *http1.Transport
}

func (h *Proxy) newPools() *pools {
	p := &pools{direct: h.newTransport(), proxied: h.newTransport(), sockets: h.newTransport()}
	p.sockets.MaxIdlePerAddr = -1 // connections are kept by host, which is nothing here
	return p
}

// Adopt prepares the front for the requests of a principal.
func (h *Proxy) Adopt(p *gate.Principal) { p.HTTP = h.newPools() }

// CloseIdle closes the principal's connections that no request is using.
func (h *Proxy) CloseIdle(p *gate.Principal) { poolsOf(p).CloseIdleConnections() }

func poolsOf(p *gate.Principal) *pools { return p.HTTP.(*pools) }

// transportFor is the pool for requests by one route.
func (p *pools) transportFor(req *gate.Request, route gate.Route) *http1.Transport {
	switch {
	case !req.Socket.IsZero():
		return p.sockets
	case route.Proxy != nil:
		return p.proxied
	}
	return p.direct
}

// CloseIdleConnections closes the connections that no request is using.
func (p *pools) CloseIdleConnections() {
	p.direct.CloseIdleConnections()
	p.proxied.CloseIdleConnections()
	p.sockets.CloseIdleConnections()
}

func (h *Proxy) newTransport() *http1.Transport {
	return &http1.Transport{
		MaxIdle:         h.config.IdleUpstream,
		MaxIdlePerAddr:  UpstreamIdlePerHost,
		IdleTimeout:     UpstreamIdleTimeout,
		MaxHeaderBytes:  h.config.ResponseHeaderBytes,
		MaxHeaderFields: h.config.HeaderFields,
		HeaderTimeout:   h.config.HeaderTimeout,
	}
}

// Dial implements http1.RoundTripHooks. It connects to the target that was
// judged; addr only names the pool.
func (d *dialInfo) Dial(context.Context, string) (net.Conn, error) {
	return d.gate.DialPooled(d.ctx, d.req, &d.verdict, d.route)
}

// Acquire implements http1.RoundTripHooks.
func (d *dialInfo) Acquire(conn net.Conn) error {
	c := conn.(*gate.PooledConn)
	err := c.Acquire(d.live, gate.BelowTLS(c.Conn))
	if errors.Is(err, gate.ErrStale) {
		return http1.ErrStale
	}
	return err
}

// Release implements http1.RoundTripHooks.
func (d *dialInfo) Release(conn net.Conn) { conn.(*gate.PooledConn).Release(d.live) }

// Informational implements http1.RoundTripHooks. It passes an informational
// response on to the client.
func (d *dialInfo) Informational(r *http1.Response) {
	fields := appendResponseFields(r.Fields[:0], r.Fields, connectionOptions(r.Fields))
	d.w.(http1.Relayer).RelayInformational(r.Status, r.Reason, fields)
}

// serve carries one allowed request.
func (h *Proxy) forward(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	state := clientStateOf(r)
	if err := h.gate.Begin(&state.live, req, v); err != nil {
		h.fail(w, r, req, err)
		return
	}
	defer state.live.End()
	route := h.gate.Route(h.gate.Policy(), &req.Query)
	route.Forwards = true
	out := &state.out
	if r.ContentLength != 0 {
		out = new(http1.Request) // the content may be on its way for longer
	}
	if err := buildRequest(out, r, req, state.target.hostport(), route.Proxy, state.fields); err != nil {
		h.fail(w, r, req, err)
		return
	}
	defer state.recycleFields(out.Fields)
	state.dial = dialInfo{h.gate, req, *v, route, &state.live, w, r.Context()}
	out.Hooks = &state.dial
	resp, err := poolsOf(req.Principal).transportFor(req, route).Send(out)
	// A client that says nothing keeps nothing of its last request.
	defer func() { state.dial, state.out = dialInfo{}, http1.Request{} }()
	if err != nil {
		h.fail(w, r, req, state.live.Cause(err))
		return
	}
	defer resp.Body.Close()
	if err := proxyAuthError(resp, route.Proxy); err != nil {
		h.fail(w, r, req, err)
		return
	}
	h.gate.Count.Allow(req.Protocol)
	h.respond(w, http.NewResponseController(w), resp)
}

// answer passes a response on: header, content as it comes, trailers.
func (h *Proxy) respond(w http.ResponseWriter, rc *http.ResponseController, resp *http1.Response) {
	relay := w.(http1.Relayer)
	options := connectionOptions(resp.Fields)
	announced := announcedTrailer(resp, options)
	fields := appendResponseFields(resp.Fields[:0], resp.Fields, options)
	if announced != "" {
		fields = append(fields, http1.Field{Name: "Trailer", Value: announced})
	}
	relay.RelayHeader(resp.Status, resp.Reason, fields, resp.ContentLength)
	if b, ok := resp.Body.(interface{ Buffered() bool }); resp.ContentLength != 0 && !(ok && b.Buffered()) {
		rc.Flush() // the content may take its time, and the client may wait for the header alone
	}
	if err := h.copyBody(w, rc, resp.Body); err != nil {
		// The status is out; only a cut connection tells the client that
		// the content is incomplete.
		panic(http.ErrAbortHandler)
	}
	relay.RelayTrailer(trailerFields(resp.Trailer, options))
}

// stream copies content and flushes it whenever more is still to come, so
// that events and other slow streams arrive as they are sent.
func (h *Proxy) copyBody(w io.Writer, rc *http.ResponseController, body io.Reader) error {
	buf := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buf)
	for {
		n, err := body.Read(*buf)
		if n > 0 {
			if _, err := w.Write((*buf)[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := rc.Flush(); err != nil {
			return err
		}
	}
}

// buildRequest makes out the request as it leaves: the one place where its head is
// written anew. hostport is that of the target that was judged, via the upstream
// proxy that forwards the request, if one does, and fields the memory for the
// fields. The error is that of a request that via must not get.
func buildRequest(out *http1.Request, r *http.Request, req *gate.Request, hostport string, via *upstream.Proxy, fields []http1.Field) error {
	*out = http1.Request{
		Context:       r.Context(),
		Addr:          hostport,
		Method:        r.Method,
		Host:          hostField(req, hostport),
		Body:          r.Body,
		ContentLength: r.ContentLength,
	}
	out.Target = requestTarget(r, out.Host, via != nil)
	if len(r.Trailer) > 0 {
		out.Trailer = requestTrailer(r.Trailer, r.Header["Connection"])
		out.Body = &trailedBody{ReadCloser: r.Body, from: r, to: out.Trailer}
	}
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	out.Fields = appendRequestFields(fields[:0], r)
	if via != nil {
		if credentials := via.Authorization(); credentials != "" {
			if isTrace(r.Method) {
				return errTraceShowsCredentials
			}
			out.Fields = append(out.Fields, http1.Field{Name: "Proxy-Authorization", Value: credentials})
		}
	}
	return nil
}

// requestTarget returns the request-target to send: path and query byte for
// byte as they came, in origin-form (RFC 9112 section 3.2.1), or for a proxy in
// absolute-form (section 3.2.2) with the host that was judged.
func requestTarget(r *http.Request, host string, absolute bool) string {
	_, rest, _ := strings.Cut(r.RequestURI, "://")
	path := rest[len(URLAuthority(rest)):]
	switch {
	case strings.HasPrefix(path, "/"):
	case path == "" && r.Method == http.MethodOptions:
		if !absolute {
			return "*" // RFC 9112 section 3.2.4
		}
		// The last proxy writes it.
	default:
		path = "/" + path // RFC 9110 section 4.2.3
	}
	if absolute {
		return "http://" + host + path
	}
	return path
}

// lastTarget caches the target of a connection's last request, because the
// next one mostly has the same.
type lastTarget struct {
	target hostname.Target
	text   string // "host:port"; made on first use
}

// intern returns t with its own copy of the host name. The parsed name is a
// substring of the whole header, which it would keep alive.
func (l *lastTarget) intern(t hostname.Target) hostname.Target {
	if l.target != t {
		l.target, l.text = t.Clone(), ""
	}
	return l.target
}

// hostport returns the cached "host:port" of the last target.
func (l *lastTarget) hostport() string {
	if l.text == "" {
		l.text = l.target.String()
	}
	return l.text
}

// hostField is the Host field for a target: without the default port, and
// without a zone, which is this machine's own affair (RFC 6874 section 4).
func hostField(req *gate.Request, hostport string) string {
	if req.Target.Host.Zone() != "" {
		hostport = netip.AddrPortFrom(req.Target.Host.Addr(), req.Target.Port).String()
	}
	if req.Target.Port != 80 {
		return hostport
	}
	return strings.TrimSuffix(hostport, ":80")
}

// recycleFields keeps the memory of a request's fields for the next one, unless
// there are many. It keeps nothing of what they say.
func (s *clientState) recycleFields(fields []http1.Field) {
	if cap(fields) <= maxRecycledFields {
		clear(fields)
		s.fields = fields
	}
}

const maxRecycledFields = 64

// appendRequestFields appends the fields of a client's request that go on to the
// origin, in their order and spelling.
func appendRequestFields(to []http1.Field, r *http.Request) []http1.Field {
	from := http1.Fields(r)
	options := connectionOptions(from)
	forwards := decrementMaxForwards(r)
	trailers := false
	for i := range from {
		f := from[i]
		switch {
		case f.Is("te"):
			trailers = trailers || listHasToken(f.Value, "trailers")
			continue
		case isHopByHop(f.Name, options), f.Is("x-unix-socket"):
			continue
		case f.Is("expect") && !r.ProtoAtLeast(1, 1):
			continue // HTTP/1.0 has none (RFC 9110 section 10.1.1)
		case forwards != "" && f.Is("max-forwards"):
			continue
		}
		to = append(to, f)
	}
	if forwards != "" {
		to = append(to, http1.Field{Name: maxForwardsHeader, Value: forwards})
	}
	if trailers {
		to = append(to, http1.Field{Name: "TE", Value: "trailers"})
	}
	return to
}

// appendResponseFields appends the fields of a response that go on to the client, in
// their order and spelling. to may be the beginning of from.
func appendResponseFields(to, from []http1.Field, options []string) []http1.Field {
	for _, f := range from {
		// Only the proxy speaks for the proxy.
		if !isHopByHop(f.Name, options) && !f.Is("x-proxy-error") {
			to = append(to, f)
		}
	}
	return to
}

// connectionOptions returns the names that the Connection fields list, as they
// are spelled there.
func connectionOptions(fields []http1.Field) (names []string) {
	for i := range fields {
		f := &fields[i]
		if !f.Is("connection") || strings.EqualFold(f.Value, "keep-alive") {
			continue // Keep-Alive is not passed on anyway
		}
		for name := range strings.SplitSeq(f.Value, ",") {
			if name = textproto.TrimString(name); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// isHopByHop reports whether a field must not be passed on: the fields
// that concern one connection (RFC 9110 section 7.6.1), those that Connection
// names, and everything addressed to a proxy. A peer cannot name the fields
// that frame the message.
func isHopByHop(name string, options []string) bool {
	switch len(name) {
	case len("Te"):
		if strings.EqualFold(name, "te") {
			return true
		}
	case len("Trailer"): // and Upgrade
		if strings.EqualFold(name, "trailer") || strings.EqualFold(name, "upgrade") {
			return true
		}
	case len("Connection"): // and Keep-Alive
		if strings.EqualFold(name, "connection") || strings.EqualFold(name, "keep-alive") {
			return true
		}
	case len("HTTP2-Settings"):
		if strings.EqualFold(name, "http2-settings") { // RFC 7540 section 3.2.1
			return true
		}
	case len("Transfer-Encoding"):
		if strings.EqualFold(name, "transfer-encoding") {
			return true
		}
	}
	if len(name) >= len("proxy-") && strings.EqualFold(name[:len("proxy-")], "proxy-") {
		return true
	}
	for _, n := range options {
		if strings.EqualFold(n, name) {
			return !strings.EqualFold(name, "host") && !strings.EqualFold(name, "content-length")
		}
	}
	return false
}

// hasToken reports whether a comma-separated field has a token.
func hasToken(fields []string, token string) bool {
	for _, field := range fields {
		if listHasToken(field, token) {
			return true
		}
	}
	return false
}

// listHasToken reports whether a comma-separated list has a token, with parameters
// or without.
func listHasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if name, _, _ := strings.Cut(part, ";"); strings.EqualFold(textproto.TrimString(name), token) {
			return true
		}
	}
	return false
}

// forbiddenInTrailer reports whether a field must not be passed on in a trailer
// section: nothing that a header would not have let pass, and no framing (RFC
// 9110 section 6.5.1).
func forbiddenInTrailer(name string, options []string) bool {
	if isHopByHop(name, options) {
		return true
	}
	for _, no := range [...]string{"content-length", "host", "x-unix-socket", "x-proxy-error"} {
		if strings.EqualFold(name, no) {
			return true
		}
	}
	return false
}

// trailerFields returns the fields of a response's trailer section that may be
// passed on. It changes from.
func trailerFields(from []http1.Field, options []string) []http1.Field {
	return slices.DeleteFunc(from, func(f http1.Field) bool { return forbiddenInTrailer(f.Name, options) })
}

// announcedTrailer returns the names that a response announces for its trailer
// section, as a list, without those that may not be passed on.
func announcedTrailer(resp *http1.Response, options []string) string {
	if resp.ContentLength >= 0 {
		return ""
	}
	var names []string
	for _, list := range http1.Values(resp.Fields, "trailer") {
		for name := range strings.SplitSeq(list, ",") {
			if name = textproto.TrimString(name); name != "" && !forbiddenInTrailer(name, options) {
				names = append(names, name)
			}
		}
	}
	return strings.Join(names, ", ")
}

// requestTrailer returns the announced trailer fields of a request that may be
// passed on. connection are the request's Connection fields.
func requestTrailer(announced http.Header, connection []string) http.Header {
	trailer := announced.Clone()
	for name := range trailer {
		if forbiddenInTrailer(name, nil) || hasToken(connection, name) {
			delete(trailer, name)
		}
	}
	return trailer
}

// trailedBody is the content of a request that announces trailers. Behind the
// end of the content it takes those that came, among those announced.
type trailedBody struct {
	io.ReadCloser
	from *http.Request
	to   http.Header
}

func (b *trailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		for name := range b.to {
			b.to[name] = b.from.Trailer[name]
		}
	}
	return n, err
}

// proxyAuthError is the failure where an answer is not the origin's: the proxy
// wants credentials, from us and not from our client (RFC 9110 section
// 15.5.8). Its other refusals cannot be told from an origin's.
func proxyAuthError(resp *http1.Response, via *upstream.Proxy) error {
	if via == nil || resp.Status != http.StatusProxyAuthRequired {
		return nil
	}
	return &upstream.Error{Proxy: via, Err: &upstream.StatusError{Status: resp.Status}}
}
