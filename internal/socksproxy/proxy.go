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

// Config holds the settings of a Proxy. All limits must be set.
type Config struct {
	// Authenticate finds the principal of a client that offers a user name and
	// a password (RFC 1929). If it is nil, this method is not offered.
	Authenticate authenticateFunc

	// Open serves a tunnel whose content the policy must see, until it ends. It
	// closes the connections. early holds bytes that the client has sent.
	Open func(entry *track.Entry, client net.Conn, early []byte, t *gate.Opened)

	RequireSession bool          // refuse clients of the shared listeners that send no session's token
	UDP            bool          // serve UDP ASSOCIATE
	RefusalTTL     time.Duration // time until a target that was refused or could not be reached is tried again
	ProcNet        string        // the directory in which Linux lists its sockets; empty means /proc/net

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
	procNet string // the directory in which Linux lists its sockets
	budget  flowBudget
	buffers udpbatch.Buffers
	server  *socks5.Server
}

// New returns a proxy that asks g about its requests. A client has the
// principal of its listener, unless its credentials determine another.
func New(g *gate.Gate, c Config) *Proxy {
	s := &Proxy{gate: g, config: c, procNet: procNet, budget: newFlowBudget(c.UDPTotalFlows)}
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

// errUnexpectedCall is the error if go-socks5 dials by itself. The handlers of
// this package replace everything that would make it do so.
var errUnexpectedCall = errors.New("go-socks5 must not dial")

// noLookup keeps go-socks5 from looking names up, which it would do before the
// decision.
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

// serveConn serves one connection and returns when it has ended.
func (s *Proxy) serveConn(c *clientConn) {
	timeout := s.config.HandshakeTimeout
	if c.overLimit {
		timeout = min(timeout, gate.OverLimitTimeout)
	}
	c.SetDeadline(time.Now().Add(timeout))
	err := s.server.ServeConn(c)
	if err == nil || !c.started || !c.entry.Begin() {
		return // it was served, or sent nothing (such as a probe of the port), or was closed to make room for another
	}
	if errors.Is(err, statute.ErrNotSupportVersion) {
		err = errors.New("not SOCKS5; for HTTP, use the address of the HTTP proxy")
	}
	s.gate.Malformed(c.principal, c.client, policy.ProtocolSOCKS5TCP, err)
}

// handler adapts serve to go-socks5. serve replies and records the outcome
// itself, so the handler never returns an error.
func (s *Proxy) handler(serve func(*clientConn, *wireRequest)) func(context.Context, io.Writer, *socks5.Request) error {
	return func(_ context.Context, w io.Writer, r *socks5.Request) error {
		c := w.(*clientConn)
		c.SetDeadline(time.Time{}) // the handshake is over
		dst := r.RawDestAddr
		addr, _ := netip.AddrFromSlice(dst.IP)
		request := &wireRequest{addr: addr, name: dst.FQDN, port: uint16(dst.Port), rest: r.Reader.(*bufio.Reader)}
		if !c.entry.Begin() {
			return nil // it was closed to make room for another
		}
		if c.overLimit || c.authenticated && !c.entry.Move(c.principal.Clients) {
			s.refuseOverLimit(c, request)
			return nil
		}
		serve(c, request)
		return nil
	}
}

// overLimitConn returns a function that serves a connection over the limit. It
// reads the request and refuses it, because SOCKS5 has no earlier reply that means
// a refusal.
func (s *Proxy) overLimitConn(principal *gate.Principal) func(net.Conn) {
	return func(c net.Conn) {
		s.serveConn(&clientConn{Conn: gate.NewOverLimitConn(c), client: gate.AddrPortOf(c.RemoteAddr()), principal: principal, overLimit: true})
	}
}
