// Sessions: listeners and a token for each command. They tell the proxy which command
// sent a request, so that it need not trust what the command claims.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/trust"
	"example.com/networkproxy/internal/unixsock"
)

// SessionConfig is the configuration of a session. All fields are optional. The
// zero value gives the session the policy of the proxy and listeners of the
// session's own.
type SessionConfig struct {
	// Attribution describes the session to deciders.
	Attribution

	// Group names the group of the session, such as a conversation whose commands
	// run one after another or at the same time. Identical requests of its sessions
	// that wait together are one question to the decider. A [Decision.ForGroup]
	// applies to all of its sessions until [Handle.CloseGroup] or the end of the
	// proxy, even if none of them is open meanwhile. Empty means no group.
	Group string

	// Decider is asked about the requests of this session in place of
	// [Builder.PolicyDecider], even if the proxy has no decider. Its questions are
	// never shared with other sessions. nil means the decider of the proxy.
	Decider PolicyDecider

	// AllowedDomains and DeniedDomains are patterns as in the configuration, and
	// apply to this session in addition to those. Any deny overrides any allow.
	// An allowed pattern that exceeds the managed limits is an error. If a later
	// reload tightens the limits, patterns that exceed them have no effect.
	AllowedDomains []string
	DeniedDomains  []string

	// Mode limits this session if it is [ModeLimited], whatever the mode of the
	// proxy. Empty and [ModeFull] mean the mode of the proxy.
	Mode Mode

	// OnEvent is called for the events of this session, as the function of
	// [Builder.OnEvent] is called for all. Nil means no function.
	OnEvent func(Event)

	// UnixSocket is the path of a Unix socket on which the session serves HTTP in
	// addition to its listeners, for sandboxes without a network. Empty means
	// none. The directory must exist. The socket has mode 0600 and is removed when
	// the session ends. A socket at the path that no process listens on is
	// replaced. Use a different path for each session, or set RequireToken,
	// because processes that outlive their session still know its path.
	UnixSocket string

	// BundleDir is an existing directory, which the command must see at the same path.
	// In a subdirectory, the session makes the file of [Session.CABundle] and the files
	// that variables in Environ name. Every user can read these files. It is for
	// sandboxes whose commands run as another user. Empty means a temporary directory
	// that only this user can read.
	BundleDir string

	// SharedPort means that the session opens no listeners. Its clients use the
	// shared listeners of the proxy, with the session's token. It is for sandboxes
	// that permit a single port.
	SharedPort bool

	// RequireToken makes the session's own listeners, including UnixSocket, refuse
	// requests without [Session.Token]: HTTP with status 407, SOCKS5 with "no
	// acceptable methods" (RFC 1928 section 3). ProxyURL and Environ then contain
	// the token. Set it if other processes on the same loopback network must not
	// use the session. Java and other clients that cannot send credentials to
	// a proxy do not work with it. False accepts all connections to the session's
	// own listeners.
	RequireToken bool
}

// Session is the access of one command to the proxy. A request belongs to the
// session whose listener accepted it or, on the shared listeners, to the session
// whose secret token it carries.
//
// Only the token identifies a client, because any process on the same loopback
// network can find and use the port of a session. The proxy never uses a port for
// two sessions, so that a process that a closed session left behind cannot reach
// a later one. All methods are safe for concurrent use.
type Session struct {
	id        string
	handle    *Handle
	principal *gate.Principal
	rules     *sessionRules
	trusted   *trust.Files // the files that make its clients trust the proxy's certificates
	token     gate.Token
	group     *group       // nil if it has none
	clients   *track.Group // its client connections, including those to the shared listeners

	listeners  []sessionListener
	httpAddr   string
	socksAddr  string
	unixSocket string

	fences sessionFences

	cancel context.CancelCauseFunc // makes the session end
	detach func() bool             // stops waiting for the end of OpenSession's context
	done   chan struct{}
}

// sessionListener is a listener of a session, with the function that serves it.
type sessionListener struct {
	net.Listener
	serve func(*gate.Listener) error
}

// errSessionClosed is the cause for ending the requests of a closed session.
var errSessionClosed = errors.New("the session is closed")

// OpenSession opens a session for a command. The session ends with its Close, the
// end of ctx or the end of the proxy, whichever is first. A session is cheap: each of
// its listeners needs a socket and a sleeping goroutine.
//
// The error is [ErrClosed] after the proxy has begun to stop, and [ErrDisabled]
// if the proxy was started with enabled = false.
func (h *Handle) OpenSession(ctx context.Context, c SessionConfig) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limits, err := h.active.limits()
	if err != nil {
		return nil, err
	}
	rules, err := newSessionRules(c.AllowedDomains, c.DeniedDomains, c.Mode, limits)
	if err != nil {
		return nil, err
	}

	parent, group := h.drain, h.groups.join(c.Group)
	if group != nil {
		parent = group.owner.Context
	}
	sessionCtx, cancel := context.WithCancelCause(parent)
	p := h.newPrincipal(sessionCtx, c.Attribution)
	p.Values = context.WithoutCancel(ctx)
	if group != nil {
		p.Group = &group.owner
	}
	p.Decider = c.Decider.ask()
	rules.attach(&p.Overlay, group.sharedRules())
	p.RequireToken = c.RequireToken
	h.gate.Follow(&p.Owner, eventFunc(c.OnEvent))
	p.Blocked = &audit.Record{Limit: h.settings.limits.BlockedKept}
	p.Account = new(audit.Account)
	s := &Session{
		handle:    h,
		principal: p,
		rules:     rules,
		trusted:   h.trust.Session(c.BundleDir),
		token:     gate.NewToken(),
		group:     group,
		clients:   h.sessionClients(),
		cancel:    cancel,
		done:      make(chan struct{}),
	}
	p.Clients = s.clients
	err = s.listen(ctx, &c)
	if err == nil {
		err = h.sessions.add(s)
	}
	if err != nil {
		cancel(err)
		s.release()
		h.groups.abandon(group, rules)
		return nil, err
	}
	s.detach = context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	context.AfterFunc(sessionCtx, s.end) // last, because end needs all of the above
	h.log.Debug("session opened", "session", s.id, "http", s.httpAddr, "socks", s.socksAddr, "unix_socket", s.unixSocket)
	return s, nil
}

// newPrincipal returns a principal that the fronts can serve.
func (h *Handle) newPrincipal(ctx context.Context, a Attribution) *gate.Principal {
	p := gate.NewPrincipal(ctx, a.internal())
	h.http.Adopt(p)
	p.Credentials = h.gate.Credentials.Open()
	return p
}

// sessionClients returns a group for the connections of one session.
func (h *Handle) sessionClients() *track.Group {
	g := track.NewGroup(h.live)
	g.SetLimit(h.settings.limits.SessionConnections)
	return g
}

// listen opens the session's listeners. After an error, the caller closes those
// that are open.
func (s *Session) listen(ctx context.Context, c *SessionConfig) error {
	h := s.handle
	opened := func(l net.Listener, err error, serve func(*gate.Listener) error) (string, error) {
		if err != nil {
			return "", err
		}
		s.listeners = append(s.listeners, sessionListener{l, serve})
		h.gate.Self.Add(l.Addr())
		return l.Addr().String(), nil
	}
	var err error
	if !c.SharedPort {
		l, lerr := h.listenSession(ctx)
		if s.httpAddr, err = opened(l, lerr, h.http.Serve); err != nil {
			return err
		}
	}
	if !c.SharedPort && h.socksAddr != "" {
		l, lerr := h.listenSession(ctx)
		if s.socksAddr, err = opened(l, lerr, h.socks.Serve); err != nil {
			return err
		}
	}
	if c.UnixSocket != "" {
		l, lerr := unixsock.Listen(ctx, c.UnixSocket)
		if s.unixSocket, err = opened(l, lerr, h.http.Serve); err != nil {
			return err
		}
	}
	return nil
}

// listenSession listens on a port that no session has used before, because
// a process of that session could still connect to it.
func (h *Handle) listenSession(ctx context.Context) (net.Listener, error) {
	l, err := h.sessionPorts.Listen(ctx)
	switch {
	case errors.Is(err, loopback.ErrNoPort):
		return nil, fmt.Errorf("cannot open a session's own listener: %w; a port is not used again, because a process of an earlier session "+
			"could still connect to it; open the session with SharedPort, which needs no port of its own, or restart the proxy", err)
	case err != nil:
		return nil, fmt.Errorf("cannot open a session's own listener: %w", err)
	}
	return l, nil
}

// serve serves a listener of the session until it is closed.
func (s *Session) serve(l sessionListener) {
	h := s.handle
	err := l.serve(&gate.Listener{
		Listener:  &track.Listener{Inner: l.Listener, Group: s.clients, StartIdle: true, Logger: h.gate.ClientLog},
		Principal: s.principal,
	})
	if err == nil {
		return
	}
	h.log.Error("a session's listener failed; the session ends", "session", s.id, "error", err)
	s.cancel(err)
}

// end releases everything that the session holds. It runs once, after the end of the
// session's context, which cancels questions, dials and requests.
func (s *Session) end() {
	if s.group != nil {
		defer s.group.open.Done() // after s.done is closed
	}
	defer s.handle.sessions.running.Done()
	defer close(s.done)
	s.detach()
	s.handle.sessions.remove(s)
	s.release()
	s.fences.close()
	s.handle.closeTrusted(s.id, s.trusted.Close)
	s.principal.Credentials.Close()
	s.handle.gate.Drop(&s.principal.Owner)
	s.handle.gate.Live.ClosePrincipal(s.principal)
	s.handle.http.CloseIdle(s.principal)
	s.handle.gate.SessionClosed(s.principal)
	s.handle.groups.leave(s.group, s.rules)
	s.handle.log.Debug("session closed", "session", s.id)
}

// release closes the listeners and the connections of clients.
func (s *Session) release() {
	for _, l := range s.listeners {
		l.Close()
		s.handle.gate.Self.Remove(l.Addr())
	}
	s.clients.CloseAll()
}

// ID returns the name of the session in logs and messages, which is unique in this
// proxy. It is not secret.
func (s *Session) ID() string { return s.id }

// SetAttribution sets the attribution of later requests of the session, for a host
// whose session is one long shell that runs many commands. Requests that are open or
// wait for the decider keep theirs. Grants and denials for the session remain. The
// labels are copied. [Session.Report] and [Session.Outcome] begin anew.
func (s *Session) SetAttribution(a Attribution) {
	next := a.internal()
	s.principal.Account.Begin(next) // first, so that the report misses no refusal
	s.principal.SetAttribution(next)
}

// HTTPAddr returns the host:port of the session's own HTTP proxy. It is empty with
// [SessionConfig.SharedPort].
func (s *Session) HTTPAddr() string { return s.httpAddr }

// SOCKSAddr returns the host:port of the session's own SOCKS5 proxy. It is empty
// with [SessionConfig.SharedPort], or if the proxy was started with enable_socks5
// = false.
func (s *Session) SOCKSAddr() string { return s.socksAddr }

// UnixSocket returns the path of the session's Unix socket. It is empty if the
// session has none.
func (s *Session) UnixSocket() string { return s.unixSocket }

// Token returns the secret that identifies the session's clients on the shared
// listeners and, with [SessionConfig.RequireToken], on its own listeners. Clients
// send it as the password of Basic credentials in Proxy-Authorization (RFC 7617),
// or of SOCKS5 (RFC 1929). The user name does not matter.
//
// The token has 256 random bits and is valid until the session ends. The proxy
// does not log it or send it to origin servers. On the listener of another
// session, a request with it is refused, because token and listener contradict
// each other. Credentials that do not have the form of a token, which many
// clients send to every proxy, are ignored and not forwarded. Listeners that
// require a token refuse them.
func (s *Session) Token() string { return string(s.token) }

// ProxyURL returns the URL of the HTTP proxy for the session's clients, such as
// "http://127.0.0.1:40123". With [SessionConfig.SharedPort], it is that of
// SharedProxyURL. With SharedPort or [SessionConfig.RequireToken], it contains the
// token and is a secret.
func (s *Session) ProxyURL() string {
	if s.httpAddr == "" {
		return s.SharedProxyURL()
	}
	u := url.URL{Scheme: "http", Host: s.httpAddr}
	if s.principal.RequireToken {
		u.User = s.token.Userinfo()
	}
	return u.String()
}

// SharedProxyURL returns the URL of the shared HTTP proxy with the session's
// token. It is a secret.
func (s *Session) SharedProxyURL() string {
	return (&url.URL{Scheme: "http", User: s.token.Userinfo(), Host: s.handle.httpAddr}).String()
}

// Blocked returns the newest refusals of this session, at most
// [Limits.BlockedKept], in the order in which they happened. It may be called
// after the end of the session.
func (s *Session) Blocked() []BlockedRequest {
	list, _ := s.principal.Blocked.List()
	return publicRefusals(list)
}

// Done returns a channel that is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session. It closes the listeners, cuts connections and tunnels,
// cancels questions to the decider, and makes the token and the grants invalid.
// When Close returns, no client can use the session any more. Close always
// returns nil. It may be called more than once, and from a decider or OnBlocked.
func (s *Session) Close() error {
	s.cancel(errSessionClosed)
	<-s.done
	return nil
}
