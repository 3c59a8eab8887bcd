// Access to internals for the tests of package networkproxy_test, which use the
// API as hosts do.

package networkproxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/unixsock"
)

// SetConnect replaces the kernel's connect, so that listeners on loopback can
// stand in for public addresses.
func SetConnect(b *Builder, connect connectFunc) { b.settings.hooks.connect = connect }

// Decide returns a function that makes the decision of every front on a
// request for target, before any look-up, and reports whether it is allowed.
// Only the decision is measured that way.
func (h *Handle) Decide(protocol Protocol, method, target string) (func(context.Context) bool, error) {
	t, err := hostname.ParseTarget(target)
	if err != nil {
		return nil, err
	}
	req := &gate.Request{Query: policy.Query{Protocol: protocol, Target: t, Method: method}, Principal: h.shared}
	return func(ctx context.Context) bool { return h.gate.Decide(ctx, req).Allowed }, nil
}

// ServeHTTPConn serves c as if the HTTP listener had accepted it.
func (h *Handle) ServeHTTPConn(c net.Conn) {
	h.http.ServeConn(h.shared, c)
}

// Groups returns the number of groups that a proxy keeps.
func Groups(h *Handle) int {
	h.groups.mu.Lock()
	defer h.groups.mu.Unlock()
	return len(h.groups.byName) + len(h.groups.closing)
}

// SetConnectUDP is SetConnect for datagrams.
func SetConnectUDP(b *Builder, connect connectUDPFunc) { b.settings.hooks.connectUDP = connect }

// SetRefusalTTL sets for how long datagrams to a refused target are dropped
// without another decision.
func SetRefusalTTL(b *Builder, d time.Duration) { b.settings.hooks.refusalTTL = d }

// SetQuiet sets how long files must be unchanged before Reload reads them. Tests
// of many reloads shorten it.
func SetQuiet(b *Builder, d time.Duration) { b.settings.hooks.quiet = d }

// SetProcNet replaces the directory in which Linux lists its sockets.
func SetProcNet(b *Builder, dir string) { b.settings.hooks.procNet = dir }

// The bounds of one UDP association.
const (
	UDPFlows     = socksproxy.UDPFlows
	UDPQuestions = socksproxy.MaxUndecided
	UDPWaiting   = socksproxy.MaxWaiting
)

// CountsReason reports whether requests refused for a reason are counted under
// it.
func CountsReason(r Reason) bool { return slices.Contains(audit.Reasons[:], r) }

// CountOne returns a function that counts one request of each outcome.
func CountOne() func() {
	c, v := new(audit.Counters), policy.Verdict{Reason: ReasonDenied}
	return func() {
		c.Allow(ProtocolHTTP)
		c.Refuse(ProtocolSOCKS5TCP, &v)
		c.Add(audit.Failed, ProtocolHTTP, policy.ReasonTimeout)
	}
}

// LiveTargets returns the number of open connections to targets, including UDP
// flows.
func (h *Handle) LiveTargets() int {
	return h.gate.Live.Connected()
}

// LiveEntries returns the number of entries in the set of open requests, which has
// idle connections to targets as well.
func (h *Handle) LiveEntries() int { return h.gate.Live.Len() }

// LiveClients returns the number of open connections from clients.
func (h *Handle) LiveClients() int { return h.live.Len() }

// OpenListeners returns the number of a session's own listeners that are open.
func OpenListeners(s *Session) int {
	n := 0
	for _, l := range s.listeners {
		raw, err := l.Listener.(syscall.Conn).SyscallConn()
		if err == nil && raw.Control(func(uintptr) {}) == nil {
			n++
		}
	}
	return n
}

// DenyWithoutCut is DenyDomain that does not cut the open connections which the
// entry denies.
func (h *Handle) DenyWithoutCut(entry string) error {
	p, err := parseDenied(entry)
	if err != nil {
		return err
	}
	h.active.mu.Lock()
	defer h.active.mu.Unlock()
	h.active.rules.deny = h.active.rules.deny.with(entry, p, policy.Position{})
	h.active.install(h.active.loaded)
	return nil
}

// Dropped returns the number of dropped datagrams by cause.
func (h *Handle) Dropped() map[string]uint64 {
	dropped := make(map[string]uint64)
	for why := range audit.DropCauses {
		if n := h.gate.Counters.Dropped[why].Load(); n > 0 {
			dropped[why.String()] = n
		}
	}
	return dropped
}

// ServeSOCKSPasswords serves SOCKS5 on l until l is closed, and authenticates
// users by their passwords. Each connection has its own principal, whose command
// is the user's name.
func (h *Handle) ServeSOCKSPasswords(l net.Listener, passwords map[string]string) {
	c := h.settings.socksConfig(&h.sessions.tokens, true, h.http)
	c.RequireSession = false
	c.Authenticate = func(_ *gate.Principal, c gate.Credentials) (*gate.Principal, error) {
		if want, ok := passwords[c.User]; !ok || want != c.Password {
			return nil, gate.ErrTokenUnknown
		}
		return h.newPrincipal(h.drain, Attribution{Command: c.User}), nil
	}
	proxy := socksproxy.New(h.gate, c)
	h.serving.Go(func() error { return h.listenerEnded(proxy.Serve(h.track(l, h.shared))) })
}

// SetRootCAs makes a transport of Handle.Transport trust roots.
func SetRootCAs(rt http.RoundTripper, roots *x509.CertPool) {
	t := rt.(*transport)
	t.direct.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.proxied.TLSClientConfig = &tls.Config{RootCAs: roots}
}

// SetUpstreamRoots replaces the system's roots for TLS to upstream proxies.
func SetUpstreamRoots(b *Builder, roots *x509.CertPool) { b.settings.hooks.upstreamRoots = roots }

// SetUnixSockets sets whether the platform supports x-unix-socket.
func SetUnixSockets(b *Builder, supported bool) { b.settings.hooks.unixSockets = supported }

// SetConnectUnix replaces the kernel's connect to unix sockets.
func SetConnectUnix(b *Builder, connect unixsock.ConnectFunc) { b.settings.hooks.connectUnix = connect }

// UnixSocketsSupported reports whether this platform supports x-unix-socket.
const UnixSocketsSupported = httpproxy.UnixSocketsSupported

// ListenersOf returns the listeners of a proxy that belong to no session.
func ListenersOf(h *Handle) []net.Listener { return h.listeners.open() }

// ListenersOfSession returns a session's own listeners.
func ListenersOfSession(s *Session) (list []net.Listener) {
	for _, l := range s.listeners {
		list = append(list, l.Listener)
	}
	return list
}

// AwaitLookups waits up to a minute for the calls of the host's resolver, and
// returns the number of calls that have not returned.
func AwaitLookups(h *Handle) int { return h.gate.AwaitLookups(time.Minute) }

// FlushLog waits until the log handler has handled every line so far. The
// handler itself must not call it.
func FlushLog(h *Handle) {
	if h.logQueue != nil {
		flush(h.calls, hostcall.LogHandler)
	}
}

// FlushOnBlocked waits until OnBlocked has returned for every refusal so far.
func FlushOnBlocked(h *Handle) { flush(h.calls, hostcall.OnBlocked) }

func flush(calls *hostcall.Calls, kind hostcall.Kind) {
	for {
		changed := calls.Changed()
		if calls.Running(kind) == 0 {
			return
		}
		<-changed
	}
}

// Drained returns a channel that is closed at the end of the drain, when open
// connections are cut.
func Drained(h *Handle) <-chan struct{} { return h.drain.Done() }

// MailboxLimit is the number of refusals, and of log lines, that can wait for the
// host's functions.
const MailboxLimit = hostcall.MailboxLimit

// SetCallbackGrace sets how long Shutdown waits for functions of the host.
func SetCallbackGrace(b *Builder, d time.Duration) { b.settings.hooks.callbackGrace = d }

// Traffic returns the bytes of the ended requests of the shared listeners.
func Traffic(h *Handle) (sent, received uint64) {
	return h.shared.Traffic.Sent.Load(), h.shared.Traffic.Received.Load()
}

// Followers returns the number of consumers of all events.
func Followers(h *Handle) int { return h.gate.Events.Followers() }

// Account returns a function that accounts for one forwarded request, as the HTTP
// front does.
func Account(h *Handle) func() {
	t, _ := hostname.ParseTarget("allowed.example:80")
	client := netip.MustParseAddrPort("127.0.0.1:40000")
	return func() {
		req := &gate.Request{Query: policy.Query{Protocol: ProtocolHTTP, Target: t, Method: "GET"}, Principal: h.shared, Client: client}
		v := h.gate.Decide(context.Background(), req)
		h.gate.Trace(req, &v)
		h.gate.Connected(req)
		h.gate.AllowedAtEnd(req)
		h.gate.Ended(req, 0, 100)
	}
}

// EventKinds returns all kinds of events.
func EventKinds() []string {
	var names []string
	for _, k := range audit.Kinds {
		names = append(names, string(k))
	}
	return names
}
