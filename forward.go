// Forwarding plain HTTP: one request out, one answer back, both streamed,
// with what RFC 9110 section 7.6 asks of an intermediary and no traces of
// its own.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/http1"
)

const (
	upstreamIdle        = 90 * time.Second // a pooled connection without a request
	upstreamIdlePerHost = 256
	copyBufferSize      = 32 << 10
)

// forwarder carries plain HTTP for one proxy. Safe for concurrent use.
type forwarder struct {
	*enforcer
	buffers sync.Pool // of *[]byte
}

func newForwarder(e *enforcer) *forwarder {
	return &forwarder{
		enforcer: e,
		buffers: sync.Pool{New: func() any {
			b := make([]byte, copyBufferSize)
			return &b
		}},
	}
}

// carriage is what a transport's hooks are told of the round trip that they
// are called for, so that a new connection is made to what was judged and to
// nothing else.
type carriage struct {
	req     *request
	verdict Verdict
	route   route
	live    *liveRequest
	client  http.ResponseWriter // for interim answers
	ends    context.Context     // the client's
}

// pools are the connections of one entrance that further requests may use. A
// connection serves only the host and port that it was made for, its address
// was judged when it was made, and it is judged again at every change of the
// policy: its reuse needs no lookup and cannot lead elsewhere.
//
// Each route has a pool of its own: a request that is written for a proxy,
// with credentials for it, never meets a connection to an origin.
type pools struct {
	direct, proxied, sockets *http1.Transport
}

func newPools(e *enforcer) *pools {
	p := &pools{direct: newPool(e), proxied: newPool(e), sockets: newPool(e)}
	p.sockets.MaxIdlePerAddr = -1 // connections are kept by host, which is nothing here
	return p
}

// of is the pool for requests by one route.
func (p *pools) of(req *request, r route) *http1.Transport {
	switch {
	case !req.socket.isZero():
		return p.sockets
	case r.proxy != nil:
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

func newPool(e *enforcer) *http1.Transport {
	return &http1.Transport{
		Dial: func(_ context.Context, _ string, hint any) (net.Conn, error) {
			return e.dialPooled(hint.(*carriage))
		},
		Acquire: func(conn net.Conn, hint any) error {
			c := conn.(*pooledConn)
			return c.acquire(hint.(*carriage).live, transportOf(c.Conn))
		},
		Release: func(conn net.Conn, hint any) {
			conn.(*pooledConn).release(hint.(*carriage).live)
		},
		Interim:        relayInterim,
		MaxIdle:        e.limits.IdleUpstream,
		MaxIdlePerAddr: upstreamIdlePerHost,
		IdleTimeout:    upstreamIdle,
		MaxHeaderBytes: e.limits.AnswerHeaderBytes,
	}
}

// dialPooled connects for the request of a round trip.
func (e *enforcer) dialPooled(c *carriage) (net.Conn, error) {
	req := *c.req
	req.method = http.MethodGet // the connection outlives the request
	conn, to, err := withinEntrance(c.ends, &req, &c.verdict, func(ctx context.Context) (net.Conn, destination, error) {
		return e.connect(ctx, &req, &c.verdict, c.route)
	})
	if err != nil {
		return nil, err
	}
	pooled, err := newPooledConn(e, conn, &req, &c.verdict, to)
	if err != nil {
		return nil, err // not a nil *pooledConn
	}
	return pooled, nil
}

// serve carries one allowed request.
func (f *forwarder) serve(w http.ResponseWriter, r *http.Request, req *request, v *Verdict) {
	x := exchangeOf(r)
	if err := f.begin(&x.live, req, v); err != nil {
		f.fail(w, r, req, err)
		return
	}
	defer x.live.end()
	route := f.route(f.current.Load(), &req.query)
	route.forwards = true
	out := outgoing(r, req, x.target.words())
	if route.proxy != nil {
		if err := throughProxy(out, r, route.proxy); err != nil {
			f.fail(w, r, req, err)
			return
		}
	}
	x.carriage = carriage{req, *v, route, &x.live, w, r.Context()}
	answer, err := req.from.pools.of(req, route).Carry(out, &x.carriage)
	// A client that says nothing keeps nothing of its last request.
	defer func() { x.carriage = carriage{} }()
	if err != nil {
		f.fail(w, r, req, x.live.because(err))
		return
	}
	defer answer.Body.Close()
	if err := cmp.Or(refusedByProxy(answer, route.proxy), checkAnswer(answer)); err != nil {
		f.fail(w, r, req, err)
		return
	}
	f.count.allow(req.protocol)
	f.answer(w, http.NewResponseController(w), answer)
}

// checkAnswer refuses what net/http lets through and an origin has no business
// to send, or a server no way to pass on.
func checkAnswer(answer *http.Response) error {
	switch {
	case answer.ProtoMajor != 1:
		return fmt.Errorf("the origin answered in %.20q", answer.Proto)
	case answer.StatusCode == http.StatusSwitchingProtocols:
		return errors.New("the origin switched protocols, which the client had not asked for")
	case answer.StatusCode < 200:
		return fmt.Errorf("the origin answered with the status %d", answer.StatusCode)
	}
	for name := range answer.Header {
		if strings.Contains(name, " ") { // RFC 9112 section 5.1
			return errors.New("the origin answered with a field name that has a space in it (RFC 9112 section 5.1)")
		}
	}
	return nil
}

// answer passes an answer on: header, content as it comes, trailers.
func (f *forwarder) answer(w http.ResponseWriter, rc *http.ResponseController, answer *http.Response) {
	copyAnswerHeader(w.Header(), answer)
	w.WriteHeader(answer.StatusCode)
	if b, ok := answer.Body.(interface{ Buffered() bool }); answer.ContentLength != 0 && !(ok && b.Buffered()) {
		rc.Flush() // the content may take its time, and the client may wait for the header alone
	}
	if err := f.stream(w, rc, answer.Body); err != nil {
		// The status is out; only a cut connection tells the client that
		// the content is incomplete.
		panic(http.ErrAbortHandler)
	}
	// The header is out; what is in the map now are trailers.
	clear(w.Header())
	if len(answer.Trailer) == 0 {
		return
	}
	for name, values := range trailerFields(answer.Trailer) {
		w.Header()[http.TrailerPrefix+name] = values
	}
}

// stream copies content and flushes it whenever more is still to come, so
// that events and other slow streams arrive as they are sent.
func (f *forwarder) stream(w io.Writer, rc *http.ResponseController, body io.Reader) error {
	buf := f.buffers.Get().(*[]byte)
	defer f.buffers.Put(buf)
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

// outgoing is the request as the origin gets it. It is made of r, of which
// only the content, the request line and the context are to be used from here
// on. hostport is that of the target that was judged.
func outgoing(r *http.Request, req *request, hostport string) *http.Request {
	out := r
	if len(r.Trailer) > 0 {
		out = r.WithContext(r.Context()) // a copy
	}
	path := requestPath(r)
	if len(r.Trailer) > 0 {
		out.Trailer = trailerFields(r.Trailer)
		out.Body = &trailedBody{ReadCloser: r.Body, from: r, to: out.Trailer}
	}
	addressTo(out.URL, hostport, path, r.Method)
	out.Host = authority(req, hostport)
	forwards := fewerForwards(r)
	forwardHeader(out.Header)
	if forwards != "" {
		out.Header.Set(maxForwardsHeader, forwards)
	}
	out.TransferEncoding, out.Close = nil, false
	if r.ContentLength == 0 {
		out.Body = http.NoBody
	}
	if !r.ProtoAtLeast(1, 1) {
		out.Header.Del("Expect") // HTTP/1.0 has none (RFC 9110 section 10.1.1)
	}
	return out
}

// addressTo keeps path and query as they were sent, byte for byte; the host
// is the one that was judged.
func addressTo(u *url.URL, hostport, path, method string) {
	u.Scheme, u.Host, u.Opaque = "http", hostport, ""
	switch {
	case path == "" && method == http.MethodOptions && u.RawQuery == "" && !u.ForceQuery:
		u.Opaque = "*" // RFC 9112 section 3.2.4
	case strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "//"):
		// Written as it stands, where Path would be mended; but before "//"
		// net/url would put the scheme.
		u.Opaque = path
	}
}

// lastTarget is a target, and the same in words, kept for the next request to
// it.
type lastTarget struct {
	target   hostname.Target
	hostport string // made when it is first asked for
}

// own is t without the head of a request, of which the name in t is a part: a
// tunnel or a record of it would keep all of that.
func (l *lastTarget) own(t hostname.Target) hostname.Target {
	if l.target != t {
		l.target, l.hostport = t.Clone(), ""
	}
	return l.target
}

// words is the host and port of what own was last given.
func (l *lastTarget) words() string {
	if l.hostport == "" {
		l.hostport = l.target.String()
	}
	return l.hostport
}

// requestPath is the path of absolute-form as it was sent.
func requestPath(r *http.Request) string {
	_, rest, _ := strings.Cut(r.RequestURI, "://")
	path, _, _ := strings.Cut(rest[len(urlAuthority(rest)):], "?")
	return path
}

// authority is the Host field for a target: without the default port, and
// without a zone, which is this machine's own affair (RFC 6874 section 4).
func authority(req *request, hostport string) string {
	if req.target.Host.Zone() != "" {
		hostport = netip.AddrPortFrom(req.target.Host.Addr(), req.target.Port).String()
	}
	if req.target.Port != 80 {
		return hostport
	}
	return strings.TrimSuffix(hostport, ":80")
}

// forwardHeader removes from a client's header what is meant for a proxy or
// for the one connection only (RFC 9110 section 7.6.1).
func forwardHeader(header http.Header) {
	trailers := namesToken(header["Te"], "trailers")
	removeHopByHop(header)
	delete(header, socketHeader)
	if trailers {
		header.Set("Te", "trailers")
	}
	if _, ok := header["User-Agent"]; !ok {
		header["User-Agent"] = noValue // or net/http puts in its own
	}
}

// noValue keeps net/http from giving a field a value of its own. It is not
// changed.
var noValue = []string{""}

// copyAnswerHeader fills in a client's answer header.
func copyAnswerHeader(to http.Header, answer *http.Response) {
	removeHopByHop(answer.Header)
	answer.Header.Del(errorHeader) // only the proxy speaks for the proxy
	maps.Copy(to, answer.Header)
	for _, name := range [...]string{"Date", "Content-Type"} {
		if _, ok := answer.Header[name]; !ok {
			to[name] = nil // or net/http puts in its own
		}
	}
	if len(answer.Trailer) > 0 {
		for name := range trailerFields(answer.Trailer) {
			to.Add("Trailer", name)
		}
	}
}

// removeHopByHop removes the fields that concern one connection alone, those
// that Connection names, and everything addressed to a proxy.
func removeHopByHop(header http.Header) {
	for _, field := range header["Connection"] {
		for name := range strings.SplitSeq(field, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			// A client must not be able to take these from the request.
			if name != "Host" && name != "Content-Length" && name != "Transfer-Encoding" {
				delete(header, name)
			}
		}
	}
	for name := range header {
		if strings.HasPrefix(name, "Proxy-") {
			delete(header, name)
		}
	}
	for _, name := range [...]string{"Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings"} {
		delete(header, name)
	}
}

// namesToken reports whether a comma-separated field has a token.
func namesToken(fields []string, token string) bool {
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			if name, _, _ := strings.Cut(part, ";"); strings.EqualFold(textproto.TrimString(name), token) {
				return true
			}
		}
	}
	return false
}

// trailerFields are those of a trailer section that may be passed on: nothing
// that a header would not have let pass, and no framing (RFC 9110 section
// 6.5.1).
func trailerFields(from http.Header) http.Header {
	fields := from.Clone()
	removeHopByHop(fields)
	for _, name := range [...]string{"Content-Length", "Host", "X-Unix-Socket", errorHeader} {
		fields.Del(name)
	}
	return fields
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
