// The SOCKS5 proxy (RFC 1928). go-socks5 reads and writes the wire protocol up
// to the request; everything else is done here and by the enforcer: accepting,
// deadlines, the decision, names, dialing, relaying and the account of it all.

package socksproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hangup"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/tunnel"
	"example.com/networkproxy/internal/udpbatch"
	"example.com/networkproxy/internal/upstream"
)

// lingerTime is how long a refused client has to close: RFC 1928 section 6
// gives the proxy 10 seconds at most.
const lingerTime = 500 * time.Millisecond

// Config holds the settings of a SOCKS5 front. All limits must be set.
type Config struct {
	// Authenticate finds the principal of a client that offers a user name and
	// a password (RFC 1929). Nil means that no such client is accepted.
	Authenticate authenticateFunc

	RequireSession bool          // refuse clients of the shared listener without a session's token
	UDP            bool          // serve UDP ASSOCIATE
	RefusalTTL     time.Duration // time until a target that was refused or could not be reached is tried again
	ProcNet        string        // the directory where Linux lists its sockets; empty for the system's

	HandshakeTimeout time.Duration
	UDPFlows         int // of one association
	UDPTotalFlows    int // of all associations
	UDPIdle          time.Duration
	TunnelIdle       time.Duration
	TunnelLifetime   time.Duration
}

// Proxy serves SOCKS5 on every listener of one proxy.
type Proxy struct {
	gate    *gate.Gate
	config  Config
	procNet string // where the system lists its sockets
	budget  flowBudget
	buffers udpbatch.Buffers
	server  *socks5.Server
}

// New returns a proxy that serves clients for the principal of their
// listener. If authenticate is not nil, it is asked about the clients that
// offer a user name and a password (RFC 1929).
func New(e *gate.Gate, c Config) *Proxy {
	s := &Proxy{gate: e, config: c, procNet: procNet, budget: newFlowBudget(c.UDPTotalFlows)}
	if c.ProcNet != "" {
		s.procNet = c.ProcNet
	}
	var methods []socks5.Authenticator
	if c.Authenticate != nil {
		methods = append(methods, passwordMethod(c.Authenticate))
	}
	s.server = socks5.NewServer(
		socks5.WithAuthMethods(append(methods, anonymousMethod{s})),
		socks5.WithResolver(noLookup{}),
		socks5.WithDial(func(context.Context, string, string) (net.Conn, error) { return nil, errUnexpectedCall }),
		socks5.WithConnectHandle(s.handler(s.connect)),
		socks5.WithBindHandle(s.handler(s.bind)),
		socks5.WithAssociateHandle(s.handler(s.associate)),
	)
	return s
}

// errUnexpectedCall comes from what go-socks5 must never do by itself.
var errUnexpectedCall = errors.New("not done by the protocol layer")

// noLookup keeps go-socks5 from looking names up, which it would do before
// anything is decided.
type noLookup struct{}

func (noLookup) Resolve(ctx context.Context, _ string) (context.Context, net.IP, error) {
	return ctx, nil, nil
}

// Serve accepts connections until l is closed.
func (s *Proxy) Serve(l *gate.Listener) error {
	l.OverLimit = s.overLimitConn(l.Principal)
	return l.Serve(func(c net.Conn, entry *track.Entry) {
		s.serveConn(&clientConn{Conn: c, client: gate.AddrPortOf(c.RemoteAddr()), entry: entry, principal: l.Principal})
	})
}

// serveConn serves one connection to its end.
func (s *Proxy) serveConn(c *clientConn) {
	timeout := s.config.HandshakeTimeout
	if c.overLimit {
		timeout = min(timeout, gate.OverLimitTimeout)
	}
	c.SetDeadline(time.Now().Add(timeout))
	err := s.server.ServeConn(c)
	if err == nil || !c.started || !c.entry.Begin() {
		return // one that says nothing, such as a probe of the port, asks for nothing; another was closed to make room
	}
	if errors.Is(err, statute.ErrNotSupportVersion) {
		err = errors.New("not SOCKS5; HTTP is spoken at the address of the HTTP proxy")
	}
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
}

// clientConn is a client's connection while SOCKS5 is spoken on it. go-socks5
// hands it to the handlers as what they write to, which is how they come by
// what belongs to the connection.
type clientConn struct {
	net.Conn
	client        netip.AddrPort
	entry         *track.Entry
	principal     *gate.Principal
	started       bool // the client has sent something
	authenticated bool // its credentials said whose it is
	overLimit     bool // one connection too many: its request is refused
	probed        bool // the first byte of the reply has been sent: see staysHalfClosed
}

// Read implements net.Conn. It fails on a first byte that is no version of SOCKS5, because go-socks5 would take the
// second one for a number of bytes to wait for: those of a short HTTP request may never come.
func (c *clientConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.started {
		c.started = true
		if b[0] != statute.VersionSocks5 {
			return 0, statute.ErrNotSupportVersion
		}
	}
	return n, err
}

// accept answers the request with success; bound is the near end of what was
// opened for it (RFC 1928 section 6).
func (c *clientConn) accept(bound net.Addr) error {
	return socks5.SendReply(replyWriter{c}, statute.RepSuccess, bound)
}

// refuse answers the request with a failure. What the client has sent beyond
// its request is read away for a moment: a connection that is closed over
// unread bytes is reset, which may cost the client the answer.
func (c *clientConn) refuse(code byte) {
	if err := socks5.SendReply(replyWriter{c}, code, nil); err != nil {
		return // the client has gone
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.SetReadDeadline(time.Now().Add(lingerTime))
		io.Copy(io.Discard, c.Conn)
	}
}

// request is a request of this client's.
func (c *clientConn) request(protocol policy.Protocol, target hostname.Target) *gate.Request {
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Overlay: c.principal.Overlay}, Client: c.client, Principal: c.principal}
}

// watch returns a context that ends when the client goes away while it waits
// for its reply, or with its principal. stop ends the watch; only then may
// anybody read from the connection or write to it. What the client has sent
// beyond its request does not matter.
func (c *clientConn) watch(r *bufio.Reader) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(c.principal.Context)
	stopped, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		err := hangup.Wait(c.Conn, r)
		switch {
		case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
			return
		case err == io.EOF && c.staysHalfClosed(stopped):
			return
		}
		cancel()
	}()
	return ctx, func() {
		close(stopped)
		c.SetReadDeadline(time.Unix(1, 0))
		<-watched
		c.SetReadDeadline(time.Time{})
		cancel()
	}
}

// probeInterval is how long after the end of a client's stream it is found out
// whether it still waits for its reply, and how often it is looked at.
const probeInterval = 100 * time.Millisecond

// staysHalfClosed waits at the side of a client that has ended its stream. It
// reports false when the client has gone, and true when stopped is closed. To
// find out it sends the first byte of the reply, which is always the same: a
// client that has closed answers with a reset (see package hangup).
func (c *clientConn) staysHalfClosed(stopped <-chan struct{}) bool {
	tick := time.NewTicker(probeInterval)
	defer tick.Stop()
	for {
		select {
		case <-stopped:
			return true
		case <-tick.C:
		}
		if hangup.Gone(c.Conn) {
			return false
		}
		if !c.probed {
			if _, err := c.Conn.Write([]byte{statute.VersionSocks5}); err != nil {
				return false
			}
			c.probed = true
		}
	}
}

// replyWriter writes a reply, without the byte that was sent ahead.
type replyWriter struct{ c *clientConn }

func (w replyWriter) Write(p []byte) (int, error) {
	if !w.c.probed || len(p) == 0 {
		return w.c.Conn.Write(p)
	}
	w.c.probed = false
	n, err := w.c.Conn.Write(p[1:])
	return n + 1, err
}

// wireRequest is a request as it came (RFC 1928 section 4).
type wireRequest struct {
	addr netip.Addr // zero when name stands for it
	name string
	port uint16
	rest *bufio.Reader // what the client sends after it
}

// handler makes a handler of go-socks5. What the handlers meet, they answer
// and account for themselves.
func (s *Proxy) handler(serve func(*clientConn, *wireRequest)) func(context.Context, io.Writer, *socks5.Request) error {
	return func(_ context.Context, w io.Writer, r *socks5.Request) error {
		c := w.(*clientConn)
		c.SetDeadline(time.Time{}) // the handshake is over
		dst := r.RawDestAddr
		addr, _ := netip.AddrFromSlice(dst.IP)
		request := &wireRequest{addr: addr, name: dst.FQDN, port: uint16(dst.Port), rest: r.Reader.(*bufio.Reader)}
		if !c.entry.Begin() {
			return nil // it was closed to make room
		}
		if c.overLimit || c.authenticated && !c.entry.Move(c.principal.Group) {
			s.refuseOverLimit(c, request)
			return nil
		}
		serve(c, request)
		return nil
	}
}

// refuseOverLimit refuses a request that came by a connection too many.
func (s *Proxy) refuseOverLimit(c *clientConn, r *wireRequest) {
	target, err := parseTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
	} else {
		s.gate.Refused(c.request(policy.ProtocolSOCKS5TCP, target), s.gate.OverLimit())
	}
	c.refuse(replyFailure)
}

// connect dials, and only then answers: a client must be able to tell a
// target that is out of reach from one that closes.
func (s *Proxy) connect(c *clientConn, r *wireRequest) {
	target, err := parseTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
		c.refuse(replyNotAllowed)
		return
	}
	req := c.request(policy.ProtocolSOCKS5TCP, target)
	ctx, stop := c.watch(r.rest)
	live := new(gate.LiveRequest)
	conn, err := s.admit(ctx, req, live)
	stop()
	if err != nil {
		s.recordError(req, err)
		c.refuse(replyCode(err))
		return
	}
	defer live.End()
	if err := c.accept(conn.LocalAddr()); err != nil {
		conn.Close()
		s.gate.Failed(req, err)
		return
	}
	if !c.entry.SetCloser(tunnel.Pair{A: c.Conn, B: gate.UnderlyingConn(conn)}) {
		conn.Close() // the proxy is stopping
		s.gate.Failed(req, gate.ErrClosed)
		return
	}
	early, _ := r.rest.Peek(r.rest.Buffered()) // what is buffered can be peeked at
	s.gate.Relay(c.Conn, conn, req, tunnel.Options{Early: early})
}

// admit decides about a request, and dials if the answer is yes.
func (s *Proxy) admit(ctx context.Context, req *gate.Request, lr *gate.LiveRequest) (net.Conn, error) {
	v := s.gate.Decide(ctx, req)
	if !v.Allowed {
		return nil, gate.NewRefusedError(req, v.Verdict)
	}
	return s.gate.Dial(ctx, req, &v, lr)
}

// recordError keeps account of a request that was refused, or whose target
// could not be reached.
func (s *Proxy) recordError(req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		s.gate.Refused(req, refused.Verdict)
		return
	}
	s.gate.Failed(req, err)
}

// bind refuses BIND (RFC 1928 section 4), by which a client would have a
// third party connect to this machine.
func (s *Proxy) bind(c *clientConn, _ *wireRequest) {
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, errors.New("BIND is not supported"))
	c.refuse(replyCommandUnsupported)
}

// parseTarget is a destination as SOCKS5 spells it (RFC 1928 section 5): an
// address, or else a name, in whose place an address in text may stand.
func parseTarget(addr netip.Addr, name string, port uint16) (hostname.Target, error) {
	host := hostname.FromAddr(addr)
	if host.IsZero() {
		var err error
		if host, err = hostname.Parse(name); err != nil {
			return hostname.Target{}, err
		}
	}
	if port == 0 {
		return hostname.Target{}, fmt.Errorf("invalid target %s: port 0 cannot be reached", host)
	}
	return hostname.Target{Host: host, Port: port}, nil
}

// The replies that the handlers give (RFC 1928 section 6).
const (
	replyFailure            = statute.RepServerFailure
	replyNotAllowed         = statute.RepRuleFailure
	replyNetworkUnreachable = statute.RepNetworkUnreachable
	replyHostUnreachable    = statute.RepHostUnreachable
	replyConnectionRefused  = statute.RepConnectionRefused
	replyCommandUnsupported = statute.RepCommandNotSupported
)

// replyCode is how an error is told to the client.
func replyCode(err error) byte {
	var refused *gate.RefusedError
	var resolve *pindial.ResolveError
	switch {
	case errors.As(err, &refused) && refused.Verdict.Check == policy.CheckLimit:
		return replyFailure
	case errors.As(err, &refused):
		return replyNotAllowed
	case errors.As(err, new(*upstream.Error)):
		return replyFailure // of the proxy: what it was says nothing about the target
	case errors.Is(err, syscall.ECONNREFUSED):
		return replyConnectionRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return replyNetworkUnreachable
	case errors.As(err, &resolve), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, os.ErrDeadlineExceeded), gate.IsTimeout(err):
		return replyHostUnreachable
	}
	return replyFailure
}

// authenticateFunc returns the principal of a client that has sent credentials
// to a listener whose principal is at, or an error if it is to be turned away.
type authenticateFunc func(at *gate.Principal, c gate.Credentials) (*gate.Principal, error)

// passwordMethod is user name and password (RFC 1929). It is chosen whenever a
// client offers it, because that is the only way to learn of a session's
// token. Clients without one offer it, too, and send whatever they have: Java
// sends the name of the user, with an empty password.
type passwordMethod authenticateFunc

func (passwordMethod) GetCode() uint8 { return statute.MethodUserPassAuth }

func (find passwordMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	return socks5.UserPassAuthenticator{Credentials: credentialStore{find, w.(*clientConn)}}.Authenticate(r, w, client)
}

// credentialStore checks the credentials of one connection, and moves it to
// its principal.
type credentialStore struct {
	find passwordMethod
	conn *clientConn
}

func (s credentialStore) Valid(user, password, _ string) bool {
	from, err := s.find(s.conn.principal, gate.Credentials{User: user, Password: password})
	if err != nil {
		return false
	}
	s.conn.principal = from
	s.conn.authenticated = true
	return true
}

// anonymousMethod takes clients without credentials (RFC 1928 section 3), but
// for those that must name a session.
type anonymousMethod struct{ proxy *Proxy }

func (anonymousMethod) GetCode() uint8 { return statute.MethodNoAuth }

func (m anonymousMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	if principal := w.(*clientConn).principal; m.proxy.config.RequireSession && principal.ID == "" || principal.RequireToken {
		w.Write([]byte{statute.VersionSocks5, statute.MethodNoAcceptable})
		return nil, gate.ErrTokenRequired
	}
	return socks5.NoAuthAuthenticator{}.Authenticate(r, w, client)
}

// overLimitConn serves a connection that the limit refuses: up to its request,
// for there is no refusal in SOCKS5 before one.
func (s *Proxy) overLimitConn(principal *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		s.serveConn(&clientConn{Conn: gate.NewOverLimitConn(c), client: gate.AddrPortOf(c.RemoteAddr()), principal: principal, overLimit: true})
	}
}
