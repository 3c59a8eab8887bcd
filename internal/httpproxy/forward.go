// Forwarding of plain HTTP requests: one request out, one response back, both streamed.

package httpproxy

import (
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/http1"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/upstream"
)

// forward forwards an allowed request and responds with the response of the
// origin server.
func (h *Proxy) forward(w http.ResponseWriter, r *http.Request, req *gate.Request, v *gate.Ruling) {
	state := clientStateOf(r)
	if err := h.gate.Begin(&state.live, req, v); err != nil {
		h.fail(w, r, req, err)
		return
	}
	defer state.live.End()
	route := h.gate.Route(h.gate.Policy(), &req.Query)
	route.Forwards = req.Protocol != policy.ProtocolHTTPS // TLS needs a tunnel through an upstream proxy
	if state.forwarding == nil {
		state.forwarding = new(forwarding)
	}
	out := &state.out
	if r.ContentLength != 0 {
		out = new(http1.Request) // the upload may still read it after the handler returns
	}
	forwarder := route.Proxy
	if !route.Forwards {
		forwarder = nil
	}
	if err := buildRequest(out, r, req, req.Target.String(), forwarder, state.fields); err != nil {
		h.fail(w, r, req, err)
		return
	}
	defer state.recycleFields(out.Fields)
	out.Fields = changeFields(out.Fields, &state.exchange)
	state.dial = dialInfo{proxy: h, gate: h.gate, req: req, verdict: *v, route: route, live: &state.live, w: w, ctx: r.Context(), masks: state.exchange.Masks}
	state.dial.uploads = r.ContentLength < 0 || r.ContentLength > copyBufferSize
	transport := poolsOf(req.Principal).transportFor(req, route)
	switch {
	case state.opened != nil:
		transport, state.dial.origin, state.dial.offer = state.opened.transport, state.opened.takeOrigin(), state.opened.offer
	case route.Proxy == nil:
		state.dial.origin = state.captured.takeOrigin()
	}
	out.Hooks = &state.dial
	resp, err := transport.Send(out)
	defer func() {
		if state.dial.acquired {
			h.gate.Ended(req, out.Sent(), state.dial.received)
		}
		if state.dial.origin != nil {
			state.dial.origin.Close() // a pooled connection was used instead
		}
		// An idle connection must not keep its last request in memory.
		state.dial, state.out, state.exchange = dialInfo{}, http1.Request{}, credential.Exchange{}
	}()
	if err != nil {
		if out.Sent() > 0 {
			h.gate.Opened(req) // so that the event of the end tells what was sent
		}
		if state.dial.used != nil {
			err = clientCertificateError(state.dial.used, err)
		}
		h.fail(w, r, req, state.live.Cause(err))
		return
	}
	defer resp.Body.Close()
	if err := proxyAuthError(resp, forwarder); err != nil {
		h.fail(w, r, req, err)
		return
	}
	h.gate.AllowedAtEnd(req)
	h.respond(w, req, resp, state.exchange.Masks, &state.dial.received)
}

// respond passes a response on to the client: the header, the body while it
// arrives, and the trailers. It aborts the handler if the body is incomplete.
// received counts the bytes of the body. masks replace the secrets that the origin server
// repeats.
func (h *Proxy) respond(w http.ResponseWriter, req *gate.Request, resp *http1.Response, masks credential.Masks, received *int64) {
	rc := http.NewResponseController(w)
	relay := w.(http1.Relayer)
	options := connectionOptions(resp.Fields)
	announced := announcedTrailer(resp, options)
	fields := appendResponseFields(resp.Fields[:0], resp.Fields, options)
	if req.Protocol == policy.ProtocolHTTPS {
		// HTTP/3 would leave the path on which requests are judged.
		fields = slices.DeleteFunc(fields, func(f http1.Field) bool { return f.Is("alt-svc") })
	}
	maskFields(fields, masks)
	if announced != "" {
		fields = append(fields, http1.Field{Name: "Trailer", Value: announced})
	}
	relay.RelayHeader(resp.Status, resp.Reason, fields, resp.ContentLength)
	if b, ok := resp.Body.(interface{ Buffered() bool }); resp.ContentLength != 0 && !(ok && b.Buffered()) {
		rc.Flush() // the body may be slow, and the client may need only the header
		h.gate.Opened(req)
	}
	if err := h.copyBody(w, rc, req, masks.Reader(resp.Body), resp.ContentLength, received); err != nil {
		// The header has been sent. Closing the connection is the only way to
		// tell the client that the body is incomplete.
		panic(http.ErrAbortHandler)
	}
	trailer := trailerFields(resp.Trailer, options)
	maskFields(trailer, masks)
	relay.RelayTrailer(trailer)
}

// copyBody copies a response body and flushes after each read, so that slow
// streams such as server-sent events arrive without delay. It does not flush the end
// of a body of a known length, which leaves when the response ends: with HTTP/2, each
// flush is a frame, a TLS record and a system call. length is that of the body, or
// negative. received counts the bytes that it reads, from 0. The request req is open if
// the first read does not return the whole body.
func (h *Proxy) copyBody(w io.Writer, rc *http.ResponseController, req *gate.Request, body io.Reader, length int64, received *int64) error {
	buf := h.buffers.Get().(*[]byte)
	defer h.buffers.Put(buf)
	for {
		n, err := body.Read(*buf)
		*received += int64(n)
		if err == nil {
			h.gate.Opened(req)
		}
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
		if *received == length {
			continue // the next read returns io.EOF
		}
		if err := rc.Flush(); err != nil {
			return err
		}
	}
}

// buildRequest fills out with the request to send. It is the only function that
// turns a client's request into an outgoing one; upgrade adds two fields to the
// result. hostport is the target that was judged. via is the upstream proxy that
// forwards the request, or nil. fields is memory to reuse for out.Fields. An
// error means that the request must not be sent through via.
func buildRequest(out *http1.Request, r *http.Request, req *gate.Request, hostport string, via *upstream.Proxy, fields []http1.Field) error {
	*out = http1.Request{
		Context:       r.Context(),
		Addr:          hostport,
		Method:        r.Method,
		Host:          hostField(req, hostport),
		Body:          r.Body,
		ContentLength: r.ContentLength,
	}
	out.Target = req.HTTP.Target // the text that the rules have judged
	if via != nil {
		out.Target = requestTarget(r, out.Host, true)
	}
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

// requestTarget returns the request-target to send. Path and query stay byte for
// byte as the client sent them. The form is origin-form (RFC 9112 section
// 3.2.1), or for an upstream proxy absolute-form (section 3.2.2) with host, which
// was judged.
func requestTarget(r *http.Request, host string, absolute bool) string {
	path := r.RequestURI
	if r.URL.Scheme != "" {
		_, rest, _ := strings.Cut(path, "://")
		path = rest[len(URLAuthority(rest)):]
	}
	switch {
	case strings.HasPrefix(path, "/"):
	case (path == "" || path == "*") && r.Method == http.MethodOptions:
		if !absolute {
			return "*" // RFC 9112 section 3.2.4
		}
		path = "" // the last proxy in the chain writes "*"
	default:
		path = "/" + path // RFC 9110 section 4.2.3
	}
	if absolute {
		return "http://" + host + path
	}
	return path
}

// hostField returns the value of the Host field for a target. It omits the
// default port, and a zone, which has a meaning on this machine only (RFC 6874
// section 4).
func hostField(req *gate.Request, hostport string) string {
	if req.Target.Host.Zone() != "" {
		hostport = netip.AddrPortFrom(req.Target.Host.Addr(), req.Target.Port).String()
	}
	if req.Protocol == policy.ProtocolHTTPS {
		if req.Target.Port == 443 {
			return strings.TrimSuffix(hostport, ":443")
		}
		return hostport
	}
	if req.Target.Port != 80 {
		return hostport
	}
	return strings.TrimSuffix(hostport, ":80")
}

// recycleFields keeps the memory of fields for the next request, unless it is
// large. It clears the fields, so that no names and values stay in memory.
func (s *clientState) recycleFields(fields []http1.Field) {
	if cap(fields) <= maxRecycledFields {
		clear(fields)
		s.fields = fields
	}
}

const (
	maxRecycledFields = 64
	copyBufferSize    = 32 << 10
)

// proxyAuthError returns an error if the upstream proxy via requires credentials
// (407). That response concerns this proxy and not its client (RFC 9110 section
// 15.5.8). Other error responses of an upstream proxy look like those of an
// origin server and are passed on.
func proxyAuthError(resp *http1.Response, via *upstream.Proxy) error {
	if via == nil || resp.Status != http.StatusProxyAuthRequired {
		return nil
	}
	return &upstream.Error{Proxy: via, Err: &upstream.StatusError{Status: resp.Status}}
}
