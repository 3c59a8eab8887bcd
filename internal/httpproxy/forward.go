// Forwarding of plain HTTP requests: one request out, one response back, both streamed.

package httpproxy

import (
	"io"
	"net/http"
	"net/netip"
	"strings"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/upstream"
)

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

// proxyAuthError is the failure where an answer is not the origin's: the proxy
// wants credentials, from us and not from our client (RFC 9110 section
// 15.5.8). Its other refusals cannot be told from an origin's.
func proxyAuthError(resp *http1.Response, via *upstream.Proxy) error {
	if via == nil || resp.Status != http.StatusProxyAuthRequired {
		return nil
	}
	return &upstream.Error{Proxy: via, Err: &upstream.StatusError{Status: resp.Status}}
}
