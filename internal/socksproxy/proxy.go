// The SOCKS5 proxy (RFC 1928). go-socks5 reads and writes the wire protocol up
// to the request; everything else is done here and by the enforcer: accepting,
// deadlines, the decision, names, dialing, relaying and the account of it all.

package socksproxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/things-go/go-socks5"
	"github.com/things-go/go-socks5/statute"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/udpbatch"
)

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

// overLimitConn serves a connection that the limit refuses: up to its request,
// for there is no refusal in SOCKS5 before one.
func (s *Proxy) overLimitConn(principal *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		s.serveConn(&clientConn{Conn: gate.NewOverLimitConn(c), client: gate.AddrPortOf(c.RemoteAddr()), principal: principal, overLimit: true})
	}
}
