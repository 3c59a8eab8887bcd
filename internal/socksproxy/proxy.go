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

// socksLinger is how long a refused client has to close: RFC 1928 section 6
// gives the proxy 10 seconds at most.
const socksLinger = 500 * time.Millisecond

// Config holds the settings of a SOCKS5 front. All limits must be set.
type Config struct {
	// Authenticate finds the principal of a client that offers a user name and
	// a password (RFC 1929). Nil means that no such client is accepted.
	Authenticate authenticateFunc

	RequireSession bool          // refuse clients of the shared listener without a session's token
	UDP            bool          // serve UDP ASSOCIATE
	RefusalStands  time.Duration // time until a target that was refused or could not be reached is tried again
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
		socks5.WithDial(func(context.Context, string, string) (net.Conn, error) { return nil, errNotHere }),
		socks5.WithConnectHandle(s.handler(s.connect)),
		socks5.WithBindHandle(s.handler(s.bind)),
		socks5.WithAssociateHandle(s.handler(s.associate)),
	)
	return s
}

// errNotHere comes from what go-socks5 must never do by itself.
var errNotHere = errors.New("not done by the protocol layer")

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
		s.serveConn(&socksConn{Conn: c, client: gate.AddrPortOf(c.RemoteAddr()), entry: entry, from: l.Principal})
	})
}

// serveConn serves one connection to its end.
func (s *Proxy) serveConn(c *socksConn) {
	patience := s.config.HandshakeTimeout
	if c.over {
		patience = min(patience, gate.OverTime)
	}
	c.SetDeadline(time.Now().Add(patience))
	err := s.server.ServeConn(c)
	if err == nil || !c.began || !c.entry.Begin() {
		return // one that says nothing, such as a probe of the port, asks for nothing; another was closed to make room
	}
	if errors.Is(err, statute.ErrNotSupportVersion) {
		err = errors.New("not SOCKS5; HTTP is spoken at the address of the HTTP proxy")
	}
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
}

// socksConn is a client's connection while SOCKS5 is spoken on it. go-socks5
// hands it to the handlers as what they write to, which is how they come by
// what belongs to the connection.
type socksConn struct {
	net.Conn
	client netip.AddrPort
	entry  *track.Entry
	from   *gate.Principal
	began  bool // the client has sent something
	moves  bool // its credentials said whose it is
	over   bool // one connection too many: its request is refused
	probed bool // the first byte of the reply has been sent: see staysHalfClosed
}

// Read implements net.Conn. It fails on a first byte that is no version of SOCKS5, because go-socks5 would take the
// second one for a number of bytes to wait for: those of a short HTTP request may never come.
func (c *socksConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.began {
		c.began = true
		if b[0] != statute.VersionSocks5 {
			return 0, statute.ErrNotSupportVersion
		}
	}
	return n, err
}

// accept answers the request with success; bound is the near end of what was
// opened for it (RFC 1928 section 6).
func (c *socksConn) accept(bound net.Addr) error {
	return socks5.SendReply(replyWriter{c}, statute.RepSuccess, bound)
}

// refuse answers the request with a failure. What the client has sent beyond
// its request is read away for a moment: a connection that is closed over
// unread bytes is reset, which may cost the client the answer.
func (c *socksConn) refuse(code byte) {
	if err := socks5.SendReply(replyWriter{c}, code, nil); err != nil {
		return // the client has gone
	}
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		c.SetReadDeadline(time.Now().Add(socksLinger))
		io.Copy(io.Discard, c.Conn)
	}
}

// request is a request of this client's.
func (c *socksConn) request(protocol policy.Protocol, target hostname.Target) *gate.Request {
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Overlay: c.from.Overlay}, Client: c.client, Principal: c.from}
}

// watch returns a context that ends when the client goes away while it waits
// for its reply, or with its principal. stop ends the watch; only then may
// anybody read from the connection or write to it. What the client has sent
// beyond its request does not matter.
func (c *socksConn) watch(r *bufio.Reader) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(c.from.Context)
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

// socksProbe is how long after the end of a client's stream it is found out
// whether it still waits for its reply, and how often it is looked at.
const socksProbe = 100 * time.Millisecond

// staysHalfClosed waits at the side of a client that has ended its stream. It
// reports false when the client has gone, and true when stopped is closed. To
// find out it sends the first byte of the reply, which is always the same: a
// client that has closed answers with a reset (see package hangup).
func (c *socksConn) staysHalfClosed(stopped <-chan struct{}) bool {
	tick := time.NewTicker(socksProbe)
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
type replyWriter struct{ c *socksConn }

func (w replyWriter) Write(p []byte) (int, error) {
	if !w.c.probed || len(p) == 0 {
		return w.c.Conn.Write(p)
	}
	w.c.probed = false
	n, err := w.c.Conn.Write(p[1:])
	return n + 1, err
}

// socksRequest is a request as it came (RFC 1928 section 4).
type socksRequest struct {
	addr netip.Addr // zero when name stands for it
	name string
	port uint16
	rest *bufio.Reader // what the client sends after it
}

// handler makes a handler of go-socks5. What the handlers meet, they answer
// and account for themselves.
func (s *Proxy) handler(serve func(*socksConn, *socksRequest)) func(context.Context, io.Writer, *socks5.Request) error {
	return func(_ context.Context, w io.Writer, r *socks5.Request) error {
		c := w.(*socksConn)
		c.SetDeadline(time.Time{}) // the handshake is over
		dst := r.RawDestAddr
		addr, _ := netip.AddrFromSlice(dst.IP)
		request := &socksRequest{addr: addr, name: dst.FQDN, port: uint16(dst.Port), rest: r.Reader.(*bufio.Reader)}
		if !c.entry.Begin() {
			return nil // it was closed to make room
		}
		if c.over || c.moves && !c.entry.Move(c.from.Group) {
			s.refuseOver(c, request)
			return nil
		}
		serve(c, request)
		return nil
	}
}

// refuseOver refuses a request that came by a connection too many.
func (s *Proxy) refuseOver(c *socksConn, r *socksRequest) {
	target, err := socksTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
	} else {
		s.gate.Refused(c.request(policy.ProtocolSOCKS5TCP, target), s.gate.OverLimit())
	}
	c.refuse(socksFailure)
}

// connect dials, and only then answers: a client must be able to tell a
// target that is out of reach from one that closes.
func (s *Proxy) connect(c *socksConn, r *socksRequest) {
	target, err := socksTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
		c.refuse(socksNotAllowed)
		return
	}
	req := c.request(policy.ProtocolSOCKS5TCP, target)
	ctx, stop := c.watch(r.rest)
	live := new(gate.LiveRequest)
	conn, err := s.admit(ctx, req, live)
	stop()
	if err != nil {
		s.notAdmitted(req, err)
		c.refuse(replyCode(err))
		return
	}
	defer live.End()
	if err := c.accept(conn.LocalAddr()); err != nil {
		conn.Close()
		s.gate.Failed(req, err)
		return
	}
	if !c.entry.SetCloser(tunnel.Pair{A: c.Conn, B: gate.BelowTLS(conn)}) {
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

// notAdmitted keeps account of a request that was refused, or whose target
// could not be reached.
func (s *Proxy) notAdmitted(req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		s.gate.Refused(req, refused.Verdict)
		return
	}
	s.gate.Failed(req, err)
}

// bind refuses BIND (RFC 1928 section 4), by which a client would have a
// third party connect to this machine.
func (s *Proxy) bind(c *socksConn, _ *socksRequest) {
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, errors.New("BIND is not supported"))
	c.refuse(socksCommandUnsupported)
}

// socksTarget is a destination as SOCKS5 spells it (RFC 1928 section 5): an
// address, or else a name, in whose place an address in text may stand.
func socksTarget(addr netip.Addr, name string, port uint16) (hostname.Target, error) {
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
	socksFailure            = statute.RepServerFailure
	socksNotAllowed         = statute.RepRuleFailure
	socksNetworkUnreachable = statute.RepNetworkUnreachable
	socksHostUnreachable    = statute.RepHostUnreachable
	socksRefused            = statute.RepConnectionRefused
	socksCommandUnsupported = statute.RepCommandNotSupported
)

// replyCode is how an error is told to the client.
func replyCode(err error) byte {
	var refused *gate.RefusedError
	var resolve *pindial.ResolveError
	switch {
	case errors.As(err, &refused) && refused.Verdict.Check == policy.CheckLimit:
		return socksFailure
	case errors.As(err, &refused):
		return socksNotAllowed
	case errors.As(err, new(*upstream.Error)):
		return socksFailure // of the proxy: what it was says nothing about the target
	case errors.Is(err, syscall.ECONNREFUSED):
		return socksRefused
	case errors.Is(err, syscall.ENETUNREACH):
		return socksNetworkUnreachable
	case errors.As(err, &resolve), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, os.ErrDeadlineExceeded), gate.IsTimeout(err):
		return socksHostUnreachable
	}
	return socksFailure
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
	return socks5.UserPassAuthenticator{Credentials: credentialStore{find, w.(*socksConn)}}.Authenticate(r, w, client)
}

// credentialStore checks the credentials of one connection, and moves it to
// its principal.
type credentialStore struct {
	find passwordMethod
	conn *socksConn
}

func (s credentialStore) Valid(user, password, _ string) bool {
	from, err := s.find(s.conn.from, gate.Credentials{User: user, Password: password})
	if err != nil {
		return false
	}
	s.conn.from = from
	s.conn.moves = true
	return true
}

// anonymousMethod takes clients without credentials (RFC 1928 section 3), but
// for those that must name a session.
type anonymousMethod struct{ of *Proxy }

func (anonymousMethod) GetCode() uint8 { return statute.MethodNoAuth }

func (m anonymousMethod) Authenticate(r io.Reader, w io.Writer, client string) (*socks5.AuthContext, error) {
	if from := w.(*socksConn).from; m.of.config.RequireSession && from.ID == "" || from.RequireToken {
		w.Write([]byte{statute.VersionSocks5, statute.MethodNoAcceptable})
		return nil, gate.ErrTokenRequired
	}
	return socks5.NoAuthAuthenticator{}.Authenticate(r, w, client)
}

// overLimitConn serves a connection that the limit refuses: up to its request,
// for there is no refusal in SOCKS5 before one.
func (s *Proxy) overLimitConn(from *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		s.serveConn(&socksConn{Conn: gate.NewOverConn(c), client: gate.AddrPortOf(c.RemoteAddr()), from: from, over: true})
	}
}
