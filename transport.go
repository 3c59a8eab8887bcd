// The host's own requests, under the policy of its commands and without a
// socket in between.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
)

// tlsTimeout bounds the TLS handshake of the host's own requests.
const tlsTimeout = 10 * time.Second

// Transport returns an http.RoundTripper for the host's own requests: those
// of its tools, say. Each is judged as if it had come to the proxy, by
// attribution a: an http:// URL as a forwarded request, an https:// URL as a
// CONNECT, also where a connection that is open already carries it. A refusal
// is an error, a *[RefusedError] (test with errors.As), and is recorded like
// any other. The request's Host field is not heeded with http://: it is the
// URL's host that was judged.
//
// Connections are kept for reuse, and cut when a change of the policy or the
// end of the proxy says so; with the latter, requests fail with [ErrClosed].
// Whoever made the transport need not close it. To drop idle connections
// before, use [http.Client.CloseIdleConnections].
//
// What a decider grants to the transport's requests (see [Decision]) is the
// transport's: make one for each tool, not for each request.
//
// It uses the system's roots and TLS defaults. For other TLS settings, put
// [Handle.DialContext] into an http.Transport of your own.
func (h *Handle) Transport(a Attribution) http.RoundTripper {
	t := &transport{gate: h.gate, from: gate.NewPrincipal(h.drain, audit.Attribution(a))}
	t.direct, t.proxied = h.newHostPool(), h.newHostPool()
	return t
}

// newHostPool returns a pool of connections for the requests of the host.
func (h *Handle) newHostPool() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// Under the client's context: the transport would dial on without it.
			d := ctx.Value(dialKey{}).(*hostDial)
			conn, err := h.gate.DialPooled(d.x.ctx, d.x.req, &d.x.verdict, d.route)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    tlsTimeout,
		MaxIdleConns:           h.settings.limits.IdleUpstream,
		MaxIdleConnsPerHost:    httpproxy.UpstreamIdlePerHost,
		IdleConnTimeout:        httpproxy.UpstreamIdle,
		MaxResponseHeaderBytes: int64(h.settings.limits.ResponseHeaderBytes),
	}
}

// transport carries the host's own requests. Safe for concurrent use.
type transport struct {
	gate *gate.Gate
	from *gate.Principal

	// These speak TLS and HTTP/2 too. They dial like any principal's, but that
	// what goes through a proxy is in a tunnel, plain HTTP as well.
	direct, proxied *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	closeBody := func() {
		if r.Body != nil {
			r.Body.Close() // a RoundTripper closes it in any case
		}
	}
	protocol, target, err := targetOfURL(r.URL)
	if err != nil {
		closeBody()
		t.gate.Malformed(netip.AddrPort{}, protocol, err)
		return nil, err
	}
	req := t.request(protocol, target, r.Method)
	if protocol == ProtocolHTTP {
		r, req.Upgrade = offering(r)
	}
	v, err := t.admit(r.Context(), req)
	if err != nil {
		closeBody()
		return nil, err
	}
	x := &hostExchange{transport: t, req: req, verdict: v}
	if err := x.begin(r.Context()); err != nil {
		closeBody()
		return nil, t.failedWith(req, err)
	}
	route := t.gate.Route(t.gate.Policy(), &req.Query)
	pool := t.direct
	if route.Proxy != nil {
		pool = t.proxied
	}
	answer, err := pool.RoundTrip(x.addressed(r, route))
	if err != nil {
		err = x.live.Cause(err)
		x.end()
		return nil, t.failedWith(req, err)
	}
	if answer.StatusCode == http.StatusSwitchingProtocols {
		if err := x.takeConn(); err != nil {
			answer.Body.Close()
			x.end()
			return nil, t.failedWith(req, err)
		}
	}
	t.gate.Count.Allow(req.Protocol)
	answer.Body = x.body(answer.Body)
	return answer, nil
}

// offering returns a request without the offers to switch protocols that are not
// passed on; see [upgradeOffer]. It reports whether one is left.
func offering(r *http.Request) (*http.Request, bool) {
	offer := httpproxy.UpgradeOffer(r.Header)
	if len(r.Header["Upgrade"]) == 0 || offer == httpproxy.UpgradeType(r.Header) {
		return r, offer != ""
	}
	out := r.WithContext(r.Context()) // a copy
	out.Header = r.Header.Clone()
	for _, name := range [...]string{"Connection", "Upgrade", "Http2-Settings"} {
		out.Header.Del(name)
	}
	if offer != "" {
		out.Header.Set("Connection", "Upgrade")
		out.Header.Set("Upgrade", offer)
	}
	return out, offer != ""
}

// hostExchange is one request of the host's own and its response.
type hostExchange struct {
	*transport
	req     *gate.Request
	verdict gate.Ruling
	live    gate.LiveRequest
	ctx     context.Context // the request's, which also ends when the request is cut
	cancel  context.CancelFunc

	mu   sync.Mutex
	conn *gate.PooledConn // that carries the request; nil while none does
	over bool
}

// begin puts the request under way.
func (x *hostExchange) begin(ctx context.Context) error {
	x.ctx, x.cancel = context.WithCancel(ctx)
	if err := x.gate.Begin(&x.live, x.req, &x.verdict); err != nil {
		x.cancel()
		return err
	}
	return nil
}

// Close ends the request where the policy, its grant or the proxy does. Other
// requests may share the connection, so that this leaves it open.
func (x *hostExchange) Close() error {
	x.cancel()
	return nil
}

// gotConn is told by the pool which connection carries the request. After a
// failure there may be another.
func (x *hostExchange) gotConn(conn net.Conn) {
	for {
		if pooled, ok := conn.(*gate.PooledConn); ok {
			x.acquire(pooled)
			return
		}
		below, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			x.cancel() // no connection of ours: it was not judged
			return
		}
		conn = below.NetConn()
	}
}

func (x *hostExchange) acquire(conn *gate.PooledConn) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	if x.conn != nil {
		x.conn.Release(&x.live)
		x.conn = nil
	}
	if err := conn.Acquire(&x.live, x); err != nil {
		x.cancel() // live says why
		return
	}
	x.conn = conn
}

// takeConn makes the policy close the connection where it ends the request.
// After a switch of protocols the connection carries nothing else, and no
// longer ends with the request's context. The error says why the request may
// not go on; the connection is then closed, or about to be.
func (x *hostExchange) takeConn() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == nil {
		return x.live.Cause(gate.ErrCut)
	}
	to := x.conn.To
	to.Generation = x.conn.Idle.Judged.Load()
	return x.gate.Attach(&x.live, gate.BelowTLS(x.conn.Conn), to)
}

// end says that the request and its response are over. It may be called more
// than once.
func (x *hostExchange) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	x.over = true
	if x.conn != nil {
		x.conn.Release(&x.live)
	}
	x.live.End()
	x.cancel()
}

// body returns the body of the response, with whose end the request is over.
func (x *hostExchange) body(body io.ReadCloser) io.ReadCloser {
	if body == http.NoBody {
		x.end()
		return body
	}
	b := &hostBody{body, x}
	if w, ok := body.(io.Writer); ok { // the response switched protocols
		return switchedBody{b, w}
	}
	return b
}

// hostBody is the body of a response to the host.
type hostBody struct {
	io.ReadCloser
	x *hostExchange
}

func (b *hostBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		err = publicError(b.x.live.Cause(err))
	}
	b.x.end()
	return n, err
}

func (b *hostBody) Close() error {
	defer b.x.end()
	return b.ReadCloser.Close()
}

// switchedBody is a connection after a switch of protocols. It goes on after
// the end of what the other side sends.
type switchedBody struct {
	*hostBody
	w io.Writer
}

func (b switchedBody) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	return n, publicError(b.x.live.Cause(err))
}

func (b switchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = publicError(b.x.live.Cause(err))
	}
	return n, err
}

// CloseIdleConnections is what http.Client.CloseIdleConnections calls.
func (t *transport) CloseIdleConnections() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

// targetOfURL is the target of a URL, and how a proxy would be asked for it.
func targetOfURL(u *url.URL) (Protocol, hostname.Target, error) {
	switch {
	case u == nil:
		return ProtocolHTTP, hostname.Target{}, errors.New("the request has no URL")
	case u.Scheme == "https":
		t, err := hostname.ParseTargetDefault(escapedHost(u), 443)
		return ProtocolHTTPSConnect, t, err
	case u.Scheme == "http":
		t, err := hostname.ParseTargetDefault(escapedHost(u), 80)
		return ProtocolHTTP, t, err
	}
	return ProtocolHTTP, hostname.Target{}, fmt.Errorf("the scheme %.20q is not carried; http and https are", u.Scheme)
}

// escapedHost is the host and port of a URL as they stand in its text: net/url
// undoes the escape that introduces a zone.
func escapedHost(u *url.URL) string {
	if !strings.HasPrefix(u.Host, "[") {
		return u.Host
	}
	return strings.Replace(u.Host, "%", "%25", 1)
}

// hostDial is what a new connection is made for. The pool passes it on in the
// context of a request.
type hostDial struct {
	x     *hostExchange
	route gate.Route
}

// dialKey is the context key of a *hostDial.
type dialKey struct{}

// addressed returns a request to exactly what was judged. A RoundTripper does
// not change the request that it is given.
func (x *hostExchange) addressed(r *http.Request, by gate.Route) *http.Request {
	req := x.req
	ctx := httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { x.gotConn(i.Conn) },
	})
	ctx = context.WithValue(ctx, dialKey{}, &hostDial{x, by})
	out := r.WithContext(ctx)
	u := *r.URL
	// As net/url has it: with the zone of an address as it is, not escaped.
	u.Host = net.JoinHostPort(req.Target.Host.String(), strconv.Itoa(int(req.Target.Port)))
	out.URL = &u
	if req.Protocol == ProtocolHTTP {
		out.Host = withoutPort(u.Host, 80)
	} else if r.Host == "" || r.Host == r.URL.Host {
		out.Host = withoutPort(u.Host, 443)
	}
	return out
}

// withoutPort leaves out a port that is the default.
func withoutPort(hostport string, port int) string {
	return strings.TrimSuffix(hostport, ":"+strconv.Itoa(port))
}
