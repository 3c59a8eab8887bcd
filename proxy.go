// Package networkproxy decides, on the user's own machine, which network
// hosts an AI agent's commands may reach, and relays the traffic it allows.
// A Go program imports it, runs it in-process and stops it through a handle:
//
//	proxy, err := networkproxy.NewBuilder().
//		ConfigFile("config.toml").
//		PolicyDecider(func(ctx context.Context, req networkproxy.PolicyRequest) (networkproxy.Decision, error) {
//			if req.Host == "docs.example.com" && req.Port == 443 {
//				return networkproxy.Allow(), nil
//			}
//			return networkproxy.Deny("not needed for this task"), nil
//		}).
//		Build()
//	if err != nil {
//		return err // names the file, line and key, and what to write instead
//	}
//	handle, err := proxy.Run(ctx)
//	if err != nil {
//		return err // for example a port in use; no listener stays open
//	}
//	defer handle.Close()
//
//	session, err := handle.OpenSession(ctx, networkproxy.SessionConfig{
//		Attribution: networkproxy.Attribution{Command: "curl https://docs.example.com/"},
//	})
//	if err != nil {
//		return err
//	}
//	defer session.Close() // cuts the command's open connections
//
//	cmd := exec.CommandContext(ctx, "curl", "https://docs.example.com/")
//	cmd.Env = session.Environ(os.Environ())
//
// # What it decides
//
// Every request passes the same checks, whatever its protocol:
//
//  1. The proxy's own listeners are never a target.
//  2. The denylist wins over every allow.
//  3. A local or private address needs an entry without a wildcard, unless
//     allow_local_binding is on. With ask_local, the decider may allow a
//     loopback target instead.
//  4. The allowlist must have an entry for the host. If it has none, a grant
//     or the decider may allow the host instead. They override no other check.
//  5. The mode must permit the request, and so must the request rules of the
//     host, if it has any.
//  6. Every address that the name resolves to is judged.
//  7. In a tunnel, TLS must ask for the name that was allowed.
//
// The result is one [Verdict]. The response to the client, the log line and
// the record of refusals are all made from it.
//
// # Sessions
//
// A [Session] is the access of one command to the proxy. A request belongs to
// the session whose port accepted it, or whose secret token it carries as the
// password for the proxy. No other header field matters. On a loopback network
// that commands share, any process can find a session's port. Only the token
// identifies a client there, and [SessionConfig] RequireToken demands it.
//
// The decider gets the session's command, and its grants hold for that
// session. The sessions of one conversation can form a group, for which the
// decider can answer once: see [SessionConfig] Group, [Decision.ForGroup] and
// [Handle.CloseGroup]. Closing the session cuts all of the command's connections.
// [Session.Environ] makes the usual clients use the session.
// [Handle.Transport] and [Handle.DialContext] put the host's own requests under
// the same policy.
//
// # Security model
//
// The proxy does not trust the client: not its target, its header fields, its
// framing or its timing. It trusts the configuration, the decider and the
// programs that can reach the admin API.
//
// By itself, the proxy is a gate and not a fence. A command that ignores
// HTTP_PROXY bypasses it, unless something makes it the only way out: on Linux
// [Session.Fence], elsewhere a sandbox or a firewall rule. By default the proxy
// does not open TLS, so for HTTPS it allows a host and a port, never a path. With
// [Config] MITM it judges the requests inside. SECURITY.md lists the promises,
// each with the tests that check it.
//
// # Compatibility
//
// The package has no global state, installs no signal handler and never
// exits the process. Several proxies can run in one process. Reasons,
// sources, protocols, header values and JSON keys are stable.
package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/capture"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/trust"
	"example.com/networkproxy/internal/unixsock"
	"example.com/networkproxy/internal/upstream"
)

// NetworkProxy is a proxy that is built and checked, but not running. All
// methods are safe for concurrent use.
type NetworkProxy struct {
	settings settings
	first    *loadedConfig // the configuration that Build loaded
	files    *filesRead    // the files that Build read
	ran      atomic.Bool   // Run was called
}

// Build loads and checks the configuration and returns a proxy that is ready to
// run. It opens no listeners. The error joins all errors that were found. Those
// in the configuration are *[ConfigError] with file, line and column.
func (b *Builder) Build() (*NetworkProxy, error) {
	errs := append(slices.Clone(b.errs), b.settings.conflicts(len(b.errs) > 0)...)
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	p := &NetworkProxy{settings: b.settings}
	p.settings.limits = p.settings.limits.withDefaults()
	p.settings.upstreams, p.settings.upstreamFault = upstream.FromEnviron(p.settings.environ(), p.settings.hooks.upstreamRoots)
	first, files, err := p.settings.loadFirst(context.Background())
	if err != nil {
		return nil, err
	}
	p.first, p.files = first, files
	return p, nil
}

// Run opens the listeners and serves them on background goroutines. After
// a nil error, every listener accepts connections. After any other error, such
// as that of a port in use, no listener is open.
//
// The proxy runs until [Handle.Shutdown], [Handle.Close], or the end of ctx,
// which closes it. Run can be called once; later calls return [ErrAlreadyRun].
//
// If the configuration has enabled = false, Run opens no listeners. It returns
// a Handle without addresses, which must be shut down like any other.
func (p *NetworkProxy) Run(ctx context.Context) (*Handle, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if !p.ran.CompareAndSwap(false, true) {
		return nil, ErrAlreadyRun
	}
	h := newHandle(&p.settings, p.first, p.files)
	if p.first.Config.Enabled {
		if err := h.listen(ctx); err != nil {
			h.closeListeners()
			h.logQueue.Flush()
			return nil, err
		}
		h.serve()
	} else {
		p.settings.closeProvided()
		h.log.Warn(h.offWarning())
	}
	h.attach(ctx)
	return h, nil
}

// Explain is [Handle.Explain] for a proxy that is not running. It assumes that
// the proxy's own listeners have the configured addresses.
func (p *NetworkProxy) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(ctx, p.planned(), new(gate.Principal), req)
}

// ExplainURL is [Handle.ExplainURL] for a proxy that is not running.
func (p *NetworkProxy) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(ctx, p.planned(), new(gate.Principal), url, method, resolve)
}

// planned returns a gate with the policy that Run would put in force.
func (p *NetworkProxy) planned() *gate.Gate {
	g := gate.New(p.settings.gateConfig(p.settings.log, hostcall.New(p.settings.hooks.callbackGrace), new(approval.Inbox)))
	for _, addr := range p.settings.plannedAddrs(p.first) {
		g.Self.Add(net.TCPAddrFromAddrPort(addr))
	}
	g.Install(p.first.compile(1, p.first.Config.Mode, &g.Self))
	return g
}

// plannedAddrs returns the addresses that Run would listen on, except those of
// port 0, which the system chooses.
func (s *settings) plannedAddrs(l *loadedConfig) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ep := range s.endpoints() {
		if ep.off || ep.key == keySOCKSURL && !l.Config.EnableSOCKS5 {
			continue
		}
		raw := cmp.Or(ep.addr(), l.addr(ep.key))
		if asked, err := parseListener(ep.key, raw, Position{}); err == nil && asked.addr.Port() != 0 {
			addr, _ := clampAddr(asked.addr, kindOf(ep.key), &l.Config)
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// newHandle returns a proxy that has no listeners yet. first is the
// configuration, and files are those that it was loaded from.
func newHandle(s *settings, first *loadedConfig, files *filesRead) *Handle {
	h := &Handle{
		settings: s,
		calls:    hostcall.New(s.hooks.callbackGrace),
		stopping: make(chan struct{}),
		live:     track.NewGroup(nil),
		done:     make(chan struct{}),
	}
	h.log, h.logQueue = hostcall.NewLogQueue(s.log, h.calls)
	for _, ep := range s.endpoints() {
		ep.provided = hostcall.SafeListener(ep.provided, h.calls)
	}
	h.serving, h.drain = errgroup.WithContext(context.Background())
	h.drain, h.cut = context.WithCancelCause(h.drain)
	context.AfterFunc(h.drain, h.begin)
	h.live.SetLimit(s.limits.Connections)
	h.gate = gate.New(s.gateConfig(h.log, h.calls, &h.inbox))
	h.feed = newFeed(h.gate)
	h.authority = (&ca.Once{Make: func() (*ca.Authority, error) { return s.newAuthority(first) }}).Get
	h.trust = trust.NewStore(trust.Config{CA: h.certificates, Log: h.log})
	h.trusted = h.trust.Session("")
	h.active = newActiveConfig(first, h.gate, h.log, h.alive, func() string { return h.listeners.exposed })
	h.active.authority = h.authority
	h.reloader = newReloader(s, h.active, files, h.calls, h.stopping)
	h.groups = newGroups(h.drain, h.gate)
	h.sessions = newSessions(s.requireSession)
	h.http = httpproxy.New(h.gate, s.httpConfig(&h.sessions.tokens, h.authority))
	h.socks = socksproxy.New(h.gate, s.socksConfig(&h.sessions.tokens, first.Config.EnableSOCKS5UDP, h.http))
	h.capture = capture.New(h.gate, capture.Config{HTTP: h.http.ServeCaptured, Open: h.http.ServeOpened, FirstBytes: s.limits.HeaderTimeout, Idle: s.limits.TunnelIdle})
	h.shared = h.newPrincipal(h.drain, Attribution{})
	h.shared.Clients = track.NewGroup(h.live)
	h.admin = adminhttp.New(h.adminConfig())
	return h
}

// listen opens the listeners. After an error, the caller closes those that are
// open.
func (h *Handle) listen(ctx context.Context) error {
	open := func(ep *endpoint, listener *net.Listener, addr *string) error {
		l, err := h.listenOn(ctx, ep)
		if err != nil {
			return err
		}
		h.gate.Self.Add(l.Addr())
		*listener, *addr = l, l.Addr().String()
		h.listeners.note(l.Addr())
		return nil
	}
	s := h.settings
	if err := open(&s.http, &h.listeners.http, &h.httpAddr); err != nil {
		return err
	}
	if !s.admin.off {
		if err := open(&s.admin, &h.listeners.admin, &h.adminAddr); err != nil {
			return err
		}
	}
	if !h.active.current().Config.EnableSOCKS5 {
		if s.socks.provided != nil {
			s.socks.provided.Close()
			h.log.Warn("the listener from SOCKSListener is closed, because SOCKS5 is disabled", "key", keyEnableSOCKS5)
		}
		return nil
	}
	return open(&s.socks, &h.listeners.socks, &h.socksAddr)
}

// serve starts a goroutine for each listener, and the watcher of the files.
func (h *Handle) serve() {
	h.reloader.watch(h.drain)
	h.serving.Go(func() error {
		return h.listenerEnded(h.http.Serve(h.track(h.listeners.http, h.shared)))
	})
	if h.listeners.admin != nil {
		h.serving.Go(func() error {
			return h.listenerEnded(h.admin.Serve(h.listeners.admin))
		})
	}
	if h.listeners.socks != nil {
		h.serving.Go(func() error {
			return h.listenerEnded(h.socks.Serve(h.track(h.listeners.socks, h.shared)))
		})
	}
	if h.gate.Observations != nil {
		h.log.Warn(observingWarning)
	}
	h.warnOfExpiry(time.Now())
	if h.active.current().Config.AllowUpstreamProxy {
		h.settings.logRoute(h.log, true)
	}
	h.log.Info("networkproxy is up", "http", h.httpAddr, "admin", h.adminAddr, "socks", h.socksAddr, "mode", string(h.gate.Policy().Mode))
}

// expiryNotice is how long before its end an authority is warned of.
const expiryNotice = 30 * 24 * time.Hour

// warnOfExpiry logs and keeps a warning if the authority that the host or the
// configuration gave ends soon. When it has ended, no client accepts its certificates.
func (h *Handle) warnOfExpiry(now time.Time) {
	a := h.active.current().authority
	if a == nil || a.NotAfter().Sub(now) > expiryNotice {
		return
	}
	warning := fmt.Sprintf("the certificate authority of TLS inspection expires at %s: replace it and restart before that", a.NotAfter().UTC().Format(time.RFC3339))
	h.log.Warn(warning)
	h.warnings = append(h.warnings, warning)
}

// track returns l as a listener of p whose connections count as shared ones.
func (h *Handle) track(l net.Listener, p *gate.Principal) *gate.Listener {
	return &gate.Listener{
		Listener:  &track.Listener{Inner: l, Group: h.shared.Clients, StartIdle: true, Logger: h.gate.ClientLog},
		Principal: p,
	}
}

// listenOn opens the listener of ep, clamped to loopback.
func (h *Handle) listenOn(ctx context.Context, ep *endpoint) (net.Listener, error) {
	if ep.provided != nil {
		asked := gate.AddrPortOf(ep.provided.Addr())
		if !asked.IsValid() {
			return ep.provided, nil // not an IP address, so there is nothing to clamp
		}
		clamped := h.clamp(ep.key, asked)
		if clamped == asked {
			return ep.provided, nil
		}
		ep.provided.Close()
		return bind(ctx, ep.key, clamped)
	}
	addr, pos := ep.addr(), Position{}
	if addr == "" {
		loaded := h.active.current()
		addr, pos = loaded.addr(ep.key), loaded.position(ep.key)
	}
	asked, err := parseListener(ep.key, addr, pos)
	if err != nil {
		return nil, err
	}
	if asked.path != "" {
		return unixsock.Listen(ctx, asked.path)
	}
	return bind(ctx, ep.key, h.clamp(ep.key, asked.addr))
}

// clamp is clampAddr that logs and keeps the warning.
func (h *Handle) clamp(key string, asked netip.AddrPort) netip.AddrPort {
	clamped, warning := clampAddr(asked, kindOf(key), &h.active.current().Config)
	if warning != "" {
		h.log.Warn(warning)
		h.warnings = append(h.warnings, warning)
	}
	return clamped
}

// bind listens on addr. The error names key, the configuration key of the address.
func bind(ctx context.Context, key string, addr netip.AddrPort) (net.Listener, error) {
	l, err := loopback.ListenConfig(addr.Addr()).Listen(ctx, "tcp", addr.String())
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; free the port or change %s", addr, unwrapOp(err), key)
	}
	return l, nil
}

// unwrapOp returns err without the address that net.OpError adds, for messages
// that contain the address already.
func unwrapOp(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
