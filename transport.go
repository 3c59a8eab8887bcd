// HTTP requests of the host itself, under the policy of its commands.

package networkproxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/httprule"
)

// tlsTimeout bounds the TLS handshake of a request of the host.
const tlsTimeout = 10 * time.Second

// Transport returns an [http.RoundTripper] for requests of the host itself, such
// as those of its tools. It judges each request with attribution a as if it had
// come through the proxy: an http:// URL as a forwarded request, an https:// URL
// as a CONNECT request, even if it reuses a connection. A refusal is an error that
// wraps *[RefusedError], and is recorded like any other. With http://, the Host of
// a request is ignored, because the host of the URL was judged.
//
// Connections are kept for reuse. They are cut when a change of the policy refuses
// them, and when the proxy ends. Requests then fail with [ErrClosed]. The
// transport need not be closed. To close idle connections earlier, use
// [http.Client.CloseIdleConnections].
//
// The grants of a decider (see [Decision]) for requests of the transport belong to
// the transport. Make one transport for each tool, not one for each request.
//
// The transport uses the system's roots and the defaults of TLS. For other
// settings, use [Handle.DialContext] in an http.Transport.
func (h *Handle) Transport(a Attribution) http.RoundTripper {
	t := &transport{gate: h.gate, from: gate.NewPrincipal(h.drain, a.internal())}
	t.direct, t.proxied = h.newHostPool(), h.newHostPool()
	return t
}

// newHostPool returns a pool of connections for requests of the host.
func (h *Handle) newHostPool() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// Not the context given here, with which the transport would go on
			// dialing after the request has ended.
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
		IdleConnTimeout:        httpproxy.UpstreamIdleTimeout,
		MaxResponseHeaderBytes: int64(h.settings.limits.ResponseHeaderBytes),
	}
}

// transport sends requests of the host. Safe for concurrent use.
type transport struct {
	gate *gate.Gate
	from *gate.Principal

	// direct and proxied support TLS and HTTP/2. They differ from the connections
	// of other principals in one way: through an upstream proxy, plain HTTP goes in
	// a tunnel, too.
	direct, proxied *http.Transport
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	closeBody := func() {
		if r.Body != nil {
			r.Body.Close() // a RoundTripper must, also after errors
		}
	}
	protocol, target, err := targetOfURL(r.URL)
	if err != nil {
		closeBody()
		t.gate.Malformed(t.from, netip.AddrPort{}, protocol, err)
		return nil, err
	}
	req := t.request(protocol, target, r.Method)
	if protocol == ProtocolHTTP {
		r, req.Upgrade = offering(r)
		req.HTTP = &httprule.Request{Method: r.Method, Target: r.URL.RequestURI(), Header: r.Header}
	}
	v, err := t.admit(r.Context(), req)
	if err == nil && v.Content != httprule.ContentAny {
		r = r.WithContext(r.Context()) // a RoundTripper must not change the request
		if body, failed := t.gate.CheckContent(req, &v, r.Header, r.Body); failed == nil {
			r.Body = body
		} else {
			err = t.failedWith(req, failed)
		}
	}
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
	t.gate.Allowed(req)
	answer.Body = x.body(answer.Body)
	return answer, nil
}

// offering returns a request without the offers to switch protocols that are not
// forwarded, see [httpproxy.UpgradeOffer]. It reports whether an offer is left.
func offering(r *http.Request) (*http.Request, bool) {
	offer := httpproxy.UpgradeOffer(r.Header)
	if len(r.Header["Upgrade"]) == 0 || offer == httpproxy.UpgradeProtocols(r.Header) {
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

// hostExchange is a request of the host and its response.
type hostExchange struct {
	*transport
	req     *gate.Request
	verdict gate.Ruling
	live    gate.LiveRequest
	ctx     context.Context // the request's, which also ends when the request is cut
	cancel  context.CancelFunc

	sent, received atomic.Int64 // bytes of the bodies, or of the connection after a switch of protocols

	mu   sync.Mutex
	conn *gate.PooledConn // of the request; nil while it has none
	used bool             // it has had a connection; constant after over is set
	over bool
}

// begin registers the request as live.
func (x *hostExchange) begin(ctx context.Context) error {
	x.ctx, x.cancel = context.WithCancel(ctx)
	if err := x.gate.Begin(&x.live, x.req, &x.verdict); err != nil {
		x.cancel()
		return err
	}
	return nil
}

// Close ends the request. The gate calls it to cut the request. The connection
// stays open, because other requests may share it.
func (x *hostExchange) Close() error {
	x.cancel()
	return nil
}

// gotConn is called by the pool with the connection of the request. After
// a failure of that one, it is called again with another.
func (x *hostExchange) gotConn(conn net.Conn) {
	for {
		if pooled, ok := conn.(*gate.PooledConn); ok {
			x.acquire(pooled)
			return
		}
		below, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			x.cancel() // not a connection that the gate has judged
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
		x.cancel() // x.live has the reason
		return
	}
	x.conn, x.used = conn, true
	x.gate.Opened(x.req)
}

// takeConn makes the gate close the connection when it cuts the request. Call it
// after a switch of protocols: the connection then belongs to the request alone
// and does not end with its context. After an error, the request must end, and the
// connection is closed or will be.
func (x *hostExchange) takeConn() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.conn == nil {
		return x.live.Cause(gate.ErrCut)
	}
	return x.gate.Attach(&x.live, gate.UnderlyingConn(x.conn.Conn), x.conn.Destination())
}

// end ends the request after its response. It may be called more than once.
func (x *hostExchange) end() {
	if !x.finish() {
		return
	}
	x.cancel()
	if x.used {
		x.gate.Ended(x.req, x.sent.Load(), x.received.Load())
	}
}

// finish releases the connection. It reports whether this was the first call.
func (x *hostExchange) finish() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return false
	}
	x.over = true
	if x.conn != nil {
		x.conn.Release(&x.live)
	}
	x.live.End()
	return true
}

// body returns the body of the response. The request ends with the body.
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

// hostBody is the body of a response to the host. It ends the request.
type hostBody struct {
	io.ReadCloser
	x *hostExchange
}

func (b *hostBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.received.Add(int64(n))
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

// switchedBody is a connection after a switch of protocols. At the end of reading,
// it does not end the request, because the host may still write.
type switchedBody struct {
	*hostBody
	w io.Writer
}

func (b switchedBody) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	b.x.sent.Add(int64(n))
	return n, publicError(b.x.live.Cause(err))
}

func (b switchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.x.received.Add(int64(n))
	if err != nil && err != io.EOF {
		err = publicError(b.x.live.Cause(err))
	}
	return n, err
}

// CloseIdleConnections implements [http.Client.CloseIdleConnections].
func (t *transport) CloseIdleConnections() {
	t.direct.CloseIdleConnections()
	t.proxied.CloseIdleConnections()
}

// hostDial has the request that a new connection is made for, and its route. It is
// in the context that the pool passes to its dial function.
type hostDial struct {
	x     *hostExchange
	route gate.Route
}

// dialKey is the context key of a *hostDial.
type dialKey struct{}

// addressed returns a copy of r whose URL and Host are the target that was judged.
// A RoundTripper must not change r.
func (x *hostExchange) addressed(r *http.Request, by gate.Route) *http.Request {
	req := x.req
	ctx := httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { x.gotConn(i.Conn) },
	})
	ctx = context.WithValue(ctx, dialKey{}, &hostDial{x, by})
	out := r.WithContext(ctx)
	u := *r.URL
	// As in net/url, the zone of an address is not escaped.
	u.Host = net.JoinHostPort(req.Target.Host.String(), strconv.Itoa(int(req.Target.Port)))
	out.URL = &u
	x.countBody(out)
	if req.Protocol == ProtocolHTTP {
		out.Host = withoutPort(u.Host, 80)
	} else if r.Host == "" || r.Host == r.URL.Host {
		out.Host = withoutPort(u.Host, 443)
	}
	return out
}

// countBody makes x.sent count the bytes of the request's body.
func (x *hostExchange) countBody(r *http.Request) {
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	r.Body = sentBody{r.Body, &x.sent}
	if again := r.GetBody; again != nil { // the pool sends the request once more
		r.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			if err != nil {
				return nil, err
			}
			return sentBody{body, &x.sent}, nil
		}
	}
}

// sentBody is a request body that counts its bytes.
type sentBody struct {
	io.ReadCloser
	sent *atomic.Int64
}

func (b sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.sent.Add(int64(n))
	return n, err
}

// withoutPort returns hostport without the port if that is the default port.
func withoutPort(hostport string, port int) string {
	return strings.TrimSuffix(hostport, ":"+strconv.Itoa(port))
}
