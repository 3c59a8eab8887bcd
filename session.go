// Sessions: a way in of its own for each command, so that the proxy knows
// which command asks without believing anything that the command says.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/unixsock"
)

// Attribution says on whose behalf requests are made, in the host's words.
// The zero value says nothing.
type Attribution struct {
	Command        string            // the command line that runs
	ExecPolicyHint string            // what the host's execution policy said of the command
	Labels         map[string]string // anything else that the host wants back; not to be changed afterwards
}

// SessionConfig is what a session is opened with. The zero value is a session
// under the proxy's policy as it is, with listeners of its own.
type SessionConfig struct {
	// Attribution is what a decider is told of the session's requests.
	Attribution

	// AllowedDomains and DeniedDomains are patterns, as in the
	// configuration, that hold for this session beside those of the
	// configuration. Any deny wins over any allow. Allowed patterns stay
	// within the managed limits: one that does not is an error here, and one
	// that a later reload of the limits leaves outside counts for nothing
	// while it is outside.
	AllowedDomains []string
	DeniedDomains  []string

	// Mode, when it is [ModeLimited], makes this session read-only whatever
	// the proxy's mode is. Empty and [ModeFull] leave it at the proxy's.
	Mode Mode

	// UnixSocket is the path of a unix socket on which the session speaks
	// HTTP besides, for a sandbox that has no network. Its directory must
	// exist. The socket is made with mode 0600 and removed with the session;
	// one left behind at the path by a process that has ended is replaced.
	// Give every session a path of its own, or set RequireToken: processes
	// that outlive a session keep the path they were given. Empty means none.
	UnixSocket string

	// SharedPort opens no listeners of the session's own: it is reached on
	// the proxy's shared ones, by its token. For a sandbox that lets a
	// command reach one port only.
	SharedPort bool

	// RequireToken makes the session's own listeners, UnixSocket included,
	// refuse requests without [Session.Token]: HTTP with 407, SOCKS5 with "no
	// acceptable methods" (RFC 1928 section 3). ProxyURL and Environ then
	// carry the token. Set it where commands share a loopback network with
	// processes that must not pass for them. Java and other clients that
	// cannot send credentials to a proxy do not work with it. False accepts
	// whatever connects to the session's own listeners.
	RequireToken bool
}

// Session is one command's own way through the proxy. A request belongs to the
// session whose listener accepted it or, on the shared listeners, to the one
// whose secret token it carries. Only the token identifies a client: any
// process on the same loopback network can find a session's port and connect
// to it. A port is used for one session in the life of the proxy, so that a
// process left behind by a closed session does not reach a later one. Safe for
// concurrent use.
type Session struct {
	id        string
	handle    *Handle
	principal *gate.Principal
	token     gate.Token
	group     *track.Group // its client connections, also those by its token

	listeners  []sessionListener
	httpAddr   string
	socksAddr  string
	unixSocket string

	cancel context.CancelCauseFunc // begins the end
	detach func() bool             // from OpenSession's context
	done   chan struct{}
}

// sessionListener is a listener of a session's own, and who serves it.
type sessionListener struct {
	net.Listener
	serve func(*gate.Listener) error
}

// errSessionClosed is why what is under way for a session ends with it.
var errSessionClosed = errors.New("the session is closed")

// OpenSession opens a session for a command. The session lasts until its
// Close, the end of ctx, or the end of the proxy, whichever comes first. It
// costs little: a listener and a sleeping goroutine.
//
// The error is [ErrClosed] once the proxy stops, and [ErrDisabled] if the
// proxy was started with enabled = false.
func (h *Handle) OpenSession(ctx context.Context, c SessionConfig) (*Session, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	limits, err := h.active.limits()
	if err != nil {
		return nil, err
	}
	rules, err := newOverlay(c.AllowedDomains, c.DeniedDomains, c.Mode, limits)
	if err != nil {
		return nil, err
	}

	ends, cancel := context.WithCancelCause(h.drain)
	from := h.newPrincipal(ends, c.Attribution)
	from.Overlay = rules
	from.RequireToken = c.RequireToken
	from.Blocked = &audit.Record{Limit: h.settings.limits.BlockedKept}
	s := &Session{
		handle:    h,
		principal: from,
		token:     gate.NewToken(),
		group:     h.sessionGroup(),
		cancel:    cancel,
		done:      make(chan struct{}),
	}
	from.Group = s.group
	if err := s.listen(ctx, &c); err != nil {
		s.release()
		cancel(err)
		return nil, err
	}
	if err := h.sessions.add(s); err != nil {
		s.release()
		cancel(err)
		return nil, err
	}
	s.detach = context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	context.AfterFunc(ends, s.end) // last: it needs all of the above
	h.log.Debug("session opened", "session", s.id, "http", s.httpAddr, "socks", s.socksAddr, "unix_socket", s.unixSocket)
	return s, nil
}

// newPrincipal returns a principal that the fronts can serve.
func (h *Handle) newPrincipal(ctx context.Context, a Attribution) *gate.Principal {
	p := gate.NewPrincipal(ctx, audit.Attribution(a))
	h.http.Adopt(p)
	return p
}

// sessionGroup is a group for the connections of one session.
func (h *Handle) sessionGroup() *track.Group {
	g := track.NewGroup(h.live)
	g.SetLimit(h.settings.limits.SessionConnections)
	return g
}

// listen opens the session's listeners. Its caller closes those that were
// opened when one fails.
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

// listenSession listens on a port that belongs to one session only. A port is
// not used again in the life of the proxy, because a process of the earlier
// session could still connect to it.
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

// serve serves one of the session's listeners until it is closed.
func (s *Session) serve(l sessionListener) {
	h := s.handle
	err := l.serve(&gate.Listener{
		Listener:  &track.Listener{Inner: l.Listener, Group: s.group, StartIdle: true, Logger: h.gate.ClientLog},
		Principal: s.principal,
	})
	if err == nil {
		return
	}
	h.log.Error("a session's listener failed; the session ends", "session", s.id, "error", err)
	s.cancel(err)
}

// end releases everything that the session holds. It runs once, when the
// session's context has ended, and with it what waits: questions, dials,
// requests.
func (s *Session) end() {
	defer close(s.done)
	s.detach()
	s.handle.sessions.remove(s)
	s.release()
	s.handle.gate.Drop(&s.principal.Owner)
	s.handle.gate.Live.CloseFrom(s.principal)
	s.handle.http.CloseIdle(s.principal)
	s.handle.log.Debug("session closed", "session", s.id)
}

// release closes the listeners and cuts the clients.
func (s *Session) release() {
	for _, l := range s.listeners {
		l.Close()
		s.handle.gate.Self.Remove(l.Addr())
	}
	s.group.CloseAll()
}

// ID tells the session apart from the others of this proxy, in the log and to
// people. It is no secret.
func (s *Session) ID() string { return s.id }

// HTTPAddr is the host:port of the session's own HTTP proxy; empty with
// [SessionConfig.SharedPort].
func (s *Session) HTTPAddr() string { return s.httpAddr }

// SOCKSAddr is the host:port of the session's own SOCKS5 proxy; empty with
// [SessionConfig.SharedPort], and where enable_socks5 was false at the start.
func (s *Session) SOCKSAddr() string { return s.socksAddr }

// UnixSocket is the path of the session's unix socket; empty if it has none.
func (s *Session) UnixSocket() string { return s.unixSocket }

// Token is the secret that names this session on the shared listeners, and on
// its own with [SessionConfig.RequireToken]: as the
// password of Basic credentials in Proxy-Authorization (RFC 7617), or of
// SOCKS5 (RFC 1929), with any user name. It has 256 random bits, is valid
// until the session ends, and is written nowhere: not to a log, not to an
// origin. A request that carries it on another session's own listener is
// refused, for one of the two is not what it claims to be. Credentials without
// the form of a token, which many clients send to every proxy, are ignored and
// go no further; listeners that require a token refuse them.
func (s *Session) Token() string { return string(s.token) }

// ProxyURL returns the URL of the HTTP proxy for the session's clients:
// "http://127.0.0.1:40123", or the shared listener's with
// [SessionConfig.SharedPort]. With SharedPort or [SessionConfig.RequireToken]
// the URL contains the token and is a secret.
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

// SharedProxyURL is the shared HTTP listener with the session's token in it:
// a secret, as the token is.
func (s *Session) SharedProxyURL() string {
	return (&url.URL{Scheme: "http", User: s.token.Userinfo(), Host: s.handle.httpAddr}).String()
}

// Blocked returns the newest refusals of this session, oldest first, as
// many as [Limits.BlockedKept] says. It works after the end, too.
func (s *Session) Blocked() []BlockedRequest {
	list, _ := s.principal.Blocked.List()
	return publicRefusals(list)
}

// Done is closed once the session has ended, whatever ended it.
func (s *Session) Done() <-chan struct{} { return s.done }

// Close ends the session: its listeners are closed, its connections and
// tunnels cut, questions about it withdrawn, its token and its grants void.
// When Close returns nothing of it can be reached. It always returns nil, and
// may be called more than once. A decider and OnBlocked may call it.
func (s *Session) Close() error {
	s.cancel(errSessionClosed)
	<-s.done
	return nil
}

func newSessions(requireToken bool) *sessions {
	return &sessions{tokens: gate.Tokens{Required: requireToken}, open: make(map[*Session]struct{})}
}

// sessions are the open ones of one proxy. Safe for concurrent use.
type sessions struct {
	tokens gate.Tokens

	mu     sync.Mutex
	open   map[*Session]struct{}
	last   int  // the number that was given to the last one
	closed bool // no more are let in
}

// add lets a session in and starts to serve it, or returns ErrClosed.
func (t *sessions) add(s *Session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrClosed
	}
	t.last++
	s.id = "s" + strconv.Itoa(t.last)
	s.principal.ID = s.id
	t.open[s] = struct{}{}
	t.tokens.Add(s.token, s.principal)
	for _, l := range s.listeners {
		s.handle.serving.Go(func() { s.serve(l) })
	}
	return nil
}

func (t *sessions) remove(s *Session) {
	t.tokens.Remove(s.token)
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, s)
}

func (t *sessions) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.open)
}

// refuse lets no more sessions in, and no more clients of those there are.
func (t *sessions) refuse() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	for s := range t.open {
		for _, l := range s.listeners {
			l.Close()
		}
	}
}

// wait waits for the sessions, whose contexts have ended, to be gone.
func (t *sessions) wait() {
	t.mu.Lock()
	var ending []*Session
	for s := range t.open {
		ending = append(ending, s)
	}
	t.mu.Unlock()
	for _, s := range ending {
		<-s.done
	}
}
