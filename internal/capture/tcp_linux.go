// Captured TCP connections.

package capture

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hangup"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/sniff"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/tunnel"
)

// refusalPatience limits the wait for the first bytes of a refused client, which decide
// the form of the refusal.
const refusalPatience = 300 * time.Millisecond

// slowStart is how long the rest of a first line is waited for. Clients send it at once;
// a client that does not may have a protocol without lines.
const slowStart = 500 * time.Millisecond

// lingerTime is how long a refused client may take to read the reason.
const lingerTime = 500 * time.Millisecond

// conn is a captured connection of a client.
type conn struct {
	*net.TCPConn
	client netip.AddrPort
	to     netip.AddrPort // the address that the command connected to
	entry  *track.Entry   // nil if the connection is over the limit
	room   *Room
	target hostname.Target
	local  bool // the command reaches the target at a loopback address; see ServeLocal
}

// ServeTCP serves the connections that l accepts, until l is closed. The target of a
// connection is r.Target, or else its local address. l accepts *net.TCPConn.
func (f *Front) ServeTCP(l *gate.Listener, r *Room) error {
	return f.serve(l, func(c *conn) bool { return f.findTarget(c) }, r)
}

// ServeLocal is ServeTCP for a listener whose connections all have one target.
func (f *Front) ServeLocal(l *gate.Listener, r *Room, target hostname.Target) error {
	return f.serve(l, func(c *conn) bool {
		c.target, c.local = target, true
		return true
	}, r)
}

// serve serves the connections that l accepts. find sets the target of a connection, or
// returns false if it has ended it.
func (f *Front) serve(l *gate.Listener, find func(*conn) bool, r *Room) error {
	newConn := func(c net.Conn, entry *track.Entry) *conn {
		to := gate.AddrPortOf(c.LocalAddr())
		if r.Target != nil {
			to = r.Target(c)
		}
		return &conn{TCPConn: c.(*net.TCPConn), client: gate.AddrPortOf(c.RemoteAddr()), to: to, entry: entry, room: r}
	}
	l.OverLimit = func(tcp net.Conn) {
		if c := newConn(tcp, nil); find(c) {
			f.refuseOverLimit(c)
		}
	}
	return l.Serve(func(tcp net.Conn, entry *track.Entry) {
		// If Begin fails, the connection was closed to make room for another.
		if c := newConn(tcp, entry); entry.Begin() && find(c) {
			f.serveConn(c)
		}
	})
}

// serveConn serves a captured connection until it ends, or until its tunnel runs.
func (f *Front) serveConn(c *conn) {
	req := c.request()
	if _, permitted := f.gate.Policy().JudgeMode(&req.Query, nil); !permitted {
		// Only requests of plain HTTP are permitted, and those are judged one by one.
		if k, err := sniffFor(c.TCPConn, f.config.FirstBytes); err == nil && k == sniff.HTTPRequest {
			f.serveHTTP(c, nil, nil)
			return
		}
	}
	v := f.decide(c, req)
	if !v.Allowed {
		f.refuse(c, req, &v)
		return
	}
	if !v.Open {
		req.CanOpen = false // from now on, a policy that wants it opened cuts it
	}
	k, err := sniffNow(c.TCPConn)
	switch {
	case err != nil:
		f.gate.Failed(req, err)
	case k == sniff.HTTPRequest:
		f.serveHTTP(c, &v, nil)
	case v.Open:
		f.open(c, req, &v)
	case k == sniff.Silent || k == sniff.Undecided:
		f.awaitFirstBytes(c, req, &v)
	default:
		f.tunnel(c, req, &v)
	}
}

// findTarget sets the target of c. It returns false and resets the connection if the
// fence did not give out its address.
func (f *Front) findTarget(c *conn) bool {
	host, err := c.room.Names.Host(c.to.Addr())
	if err != nil {
		f.gate.Malformed(c.room.Principal, c.client, policy.ProtocolCapturedTCP, err)
		c.reset()
		return false
	}
	c.target = hostname.Target{Host: host, Port: c.to.Port()}
	return true
}

func (c *conn) request() *gate.Request {
	p := c.room.Principal
	return &gate.Request{
		Query:     policy.Query{Protocol: policy.ProtocolCapturedTCP, Target: c.target, Overlay: p.Overlay.Load(), CanOpen: true},
		Client:    c.client,
		Principal: p,
		Listener:  p,
	}
}

// reset ends the connection with a reset, because the client believes that it is
// connected to the target, and an orderly end would mean that the target has closed.
func (c *conn) reset() {
	c.SetLinger(0)
	c.Close()
}

// decide returns the ruling on a connection. A question to the decider ends when the
// client closes the connection.
func (f *Front) decide(c *conn, req *gate.Request) gate.Ruling {
	ctx := c.room.Principal.Context
	if !f.gate.NeedsDecider(req) {
		return f.gate.Decide(ctx, req)
	}
	ctx, stop := c.watch(ctx)
	defer stop()
	return f.gate.Decide(ctx, req)
}

// watch returns a context that ends when the client closes the connection. Nothing may
// read from the connection before stop returns.
func (c *conn) watch(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(parent)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := hangup.Wait(c.TCPConn, bufio.NewReader(c.TCPConn)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
		}
	}()
	return ctx, func() {
		c.SetReadDeadline(time.Unix(1, 0))
		<-watched
		c.SetReadDeadline(time.Time{})
		cancel()
	}
}

// serveHTTP passes the connection to the HTTP front. v is the ruling for the first
// request, or nil. origin is a connection that was opened under it, or nil.
func (f *Front) serveHTTP(c *conn, v *gate.Ruling, origin *gate.PooledConn) {
	if origin != nil && origin.ViaProxy() {
		origin.Close() // an upstream proxy forwards requests, and needs no tunnel for them
		origin = nil
	}
	f.config.HTTP(c.room.Principal, c.entry, gate.Captured{Conn: c.TCPConn, Target: c.target, Local: c.local, Ruling: v, Origin: origin})
}

// refuse records a refusal and tells the client in its own protocol, if it sends its
// first bytes soon: an HTTP response, a TLS alert, or else a reset.
func (f *Front) refuse(c *conn, req *gate.Request, v *gate.Ruling) {
	k, err := sniffFor(c.TCPConn, refusalPatience)
	if err == nil && k == sniff.HTTPRequest {
		f.serveHTTP(c, v, nil) // it records the refusal with the method
		return
	}
	f.gate.Refused(req, v.Verdict)
	if err == nil && k == sniff.TLSHello {
		c.sendAlert()
		return
	}
	c.reset()
}

// sendAlert sends the alert for a refused handshake and closes the connection.
func (c *conn) sendAlert() {
	defer c.Close()
	c.SetDeadline(time.Now().Add(lingerTime))
	if _, err := c.Write(gate.AccessDenied(0)); err != nil {
		return
	}
	c.CloseWrite()
	io.Copy(io.Discard, c.TCPConn) // unread bytes would make the close a reset, which may overtake the alert
}

// refuseOverLimit refuses a connection over the limit.
func (f *Front) refuseOverLimit(c *conn) {
	f.gate.Refused(c.request(), f.gate.OverLimit())
	c.reset()
}

// open serves a connection whose content the policy must see.
func (f *Front) open(c *conn, req *gate.Request, v *gate.Ruling) {
	ruling := *v // it lasts as long as the tunnel
	t, err := f.gate.DialOpened(c.room.Principal.Context, req, &ruling)
	if err != nil {
		f.fail(c, req, v, err)
		return
	}
	f.config.Open(c.entry, c.TCPConn, nil, t)
}

// tunnel connects to the target and relays bytes in both directions.
func (f *Front) tunnel(c *conn, req *gate.Request, v *gate.Ruling) {
	live := new(gate.LiveRequest)
	target, err := f.gate.Dial(c.room.Principal.Context, req, v, live)
	if err != nil {
		f.fail(c, req, v, err)
		return
	}
	f.relay(c, c.TCPConn, target, req, live, nil, target.Close)
}

// relay relays between the client and the target after serveConn has returned, so that
// the tunnel does not keep its memory. early holds bytes that the target has sent.
func (f *Front) relay(c *conn, client, target net.Conn, req *gate.Request, live *gate.LiveRequest, early []byte, closeTarget func() error) {
	g := f.gate
	if !c.entry.SetCloser(tunnel.Pair{A: c.TCPConn, B: gate.UnderlyingConn(target)}) {
		live.End()
		closeTarget() // the proxy is stopping
		g.Failed(req, gate.ErrClosed)
		return
	}
	c.entry.AfterHandler(func() {
		defer closeTarget()
		defer live.End()
		g.Relay(client, target, req, tunnel.Options{EarlyBack: early})
	})
}

// fail records that an allowed connection failed or was refused by its addresses. If
// the client speaks HTTP, the HTTP front tries once more, because it can tell the
// client the reason. After a timeout it does not, because the client has waited long.
func (f *Front) fail(c *conn, req *gate.Request, v *gate.Ruling, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		f.refuse(c, req, &gate.Ruling{Verdict: refused.Verdict})
		return
	}
	if gate.FailureReason(err) != policy.ReasonTimeout {
		if k, err := sniffFor(c.TCPConn, refusalPatience); err == nil && k == sniff.HTTPRequest {
			f.serveHTTP(c, v, nil)
			return
		}
	}
	f.gate.Failed(req, err)
	c.reset()
}

// awaitFirstBytes connects to the target of a client that has sent nothing yet,
// because the server may have to speak first. If the client then sends an HTTP
// request, the HTTP front serves it on the same two connections.
func (f *Front) awaitFirstBytes(c *conn, req *gate.Request, v *gate.Ruling) {
	g := f.gate
	origin, err := g.DialPooled(c.room.Principal.Context, req, v, g.Route(g.Policy(), &req.Query))
	if err != nil {
		f.fail(c, req, v, err)
		return
	}
	if !c.entry.SetCloser(tunnel.Pair{A: c.TCPConn, B: gate.UnderlyingConn(origin.Conn)}) {
		origin.Close()
		g.Failed(req, gate.ErrClosed)
		return
	}
	k, early, err := f.firstSpeaker(c, origin.Conn)
	switch {
	case err != nil:
		origin.Close()
		c.reset()
		g.Allowed(req) // it reached its target, and was cut or idle
		return
	case len(early) == 0 && k == sniff.HTTPRequest:
		c.entry.SetCloser(c.TCPConn)
		f.serveHTTP(c, v, origin)
		return
	}
	live := new(gate.LiveRequest)
	err = g.Begin(live, req, v)
	if err == nil {
		if err = origin.Acquire(live, gate.UnderlyingConn(origin.Conn)); err != nil {
			err = live.Cause(err)
			live.End()
		}
	}
	if err != nil {
		origin.Close()
		f.fail(c, req, v, err)
		return
	}
	if k == sniff.Undecided {
		f.relay(c, &slowClient{Conn: c.TCPConn, front: f, req: req}, origin.Conn, req, live, early, origin.Close)
		return
	}
	f.relay(c, c.TCPConn, origin.Conn, req, live, early, origin.Close)
}

// slowClient is a client that has sent a few bytes and waits, such as a program with
// a protocol of words. Its bytes are relayed, but they must not become an HTTP request:
// the target has them already, so that nobody could judge the request.
type slowClient struct {
	net.Conn // not embedded as *net.TCPConn, because a tunnel would read the socket itself
	front    *Front
	req      *gate.Request
	sent     []byte // until their kind is decided
	decided  bool
}

// Read implements net.Conn. It fails when the bytes are a request.
func (c *slowClient) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.decided {
		return n, err
	}
	c.sent = append(c.sent, b[:n]...)
	switch sniff.Classify(c.sent) {
	case sniff.Silent, sniff.Undecided:
		return n, err
	case sniff.HTTPRequest:
		c.front.gate.Malformed(c.req.Principal, c.req.Client, c.req.Protocol, errSlowRequest)
		return 0, errSlowRequest
	}
	c.sent, c.decided = nil, true
	return n, err
}

// CloseWrite closes the connection for writing.
func (c *slowClient) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// SetLinger sets what Close does with unsent bytes.
func (c *slowClient) SetLinger(sec int) error { return c.Conn.(*net.TCPConn).SetLinger(sec) }

var errSlowRequest = errors.New("an HTTP request must begin with a complete first line within " + slowStart.String())

// firstSpeaker waits until the client has sent enough bytes to classify it, or the
// target has sent something, which it returns as early. The error is that of an idle or
// closed connection.
func (f *Front) firstSpeaker(c *conn, target net.Conn) (k sniff.Kind, early []byte, err error) {
	until := time.Now().Add(f.config.Idle)
	c.SetReadDeadline(until)
	target.SetReadDeadline(until)
	var n int
	var readErr error
	read := make(chan struct{})
	buf := make([]byte, sniff.MaxBytes)
	go func() {
		defer close(read)
		n, readErr = target.Read(buf)
		c.SetReadDeadline(time.Unix(1, 0)) // ends peekKind
	}()
	k, err = sniffFirst(c.TCPConn)
	if err == nil && k == sniff.Undecided {
		k, err = sniffFor(c.TCPConn, slowStart)
	}
	target.SetReadDeadline(time.Unix(1, 0))
	<-read
	target.SetReadDeadline(time.Time{})
	c.SetReadDeadline(time.Time{})
	switch {
	case err != nil:
		return k, nil, err
	case n > 0 || k != sniff.Silent:
		return k, buf[:n], nil
	case readErr == io.EOF:
		return sniff.Opaque, nil, nil // relay the end of the stream
	}
	return k, nil, readErr
}
