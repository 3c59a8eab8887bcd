// NetworkProxy: a proxy that is built and checked, and how it starts.

package networkproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/unixsock"
)

// NetworkProxy is a proxy that is built and checked, but not running. All
// methods are safe for concurrent use.
type NetworkProxy struct {
	settings settings
	first    *loadedConfig // the configuration that Build loaded
	files    *filesRead    // the files that Build read
	ran      atomic.Bool   // Run was called
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
		h.log.Warn("the proxy is disabled and opens no listeners", "key", "network_proxy.enabled",
			"origin", p.first.position("network_proxy.enabled").String())
	}
	h.attach(ctx)
	return h, nil
}

// Explain is [Handle.Explain] for a proxy that is not running. It assumes that
// the proxy's own listeners have the configured addresses.
func (p *NetworkProxy) Explain(ctx context.Context, req PolicyRequest) (Explanation, error) {
	return explainRequest(ctx, p.planned(), req)
}

// ExplainURL is [Handle.ExplainURL] for a proxy that is not running.
func (p *NetworkProxy) ExplainURL(ctx context.Context, url, method string, resolve bool) (Explanation, error) {
	return explainURL(ctx, p.planned(), url, method, resolve)
}

// planned returns a gate with the policy that Run would put in force.
func (p *NetworkProxy) planned() *gate.Gate {
	g := gate.New(p.settings.gateConfig(p.settings.log, hostcall.New(p.settings.hooks.callbackPatience)))
	for _, addr := range p.settings.plannedAddrs(p.first) {
		g.Self.Add(net.TCPAddrFromAddrPort(addr))
	}
	g.Install(p.first.compile(1, p.first.Config.Mode, runtimeRules{}, &g.Self))
	return g
}

// plannedAddrs returns the addresses that Run would listen on, except those of
// port 0, which the system chooses.
func (s *settings) plannedAddrs(l *loadedConfig) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ep := range s.endpoints() {
		if ep.key == keySOCKSURL && !l.Config.EnableSOCKS5 {
			continue
		}
		raw := cmp.Or(ep.override, l.addr(ep.key))
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
		calls:    hostcall.New(s.hooks.callbackPatience),
		stopping: make(chan struct{}),
		live:     track.NewGroup(nil),
		done:     make(chan struct{}),
	}
	h.log, h.logQueue = hostcall.NewLogQueue(s.log, h.calls)
	for _, ep := range s.endpoints() {
		ep.provided = hostcall.SafeListener(ep.provided, h.calls)
	}
	h.drain, h.cut = context.WithCancelCause(context.Background())
	h.live.SetLimit(s.limits.Connections)
	h.gate = gate.New(s.gateConfig(h.log, h.calls))
	h.active = newActiveConfig(first, h.gate, h.log, h.alive, func() string { return h.listeners.exposed })
	h.reloader = newReloader(s, h.active, files, h.calls, h.stopping)
	h.sessions = newSessions(s.requireSession)
	h.http = httpproxy.New(h.gate, s.httpConfig(&h.sessions.tokens))
	h.socks = socksproxy.New(h.gate, s.socksConfig(&h.sessions.tokens, first.Config.EnableSOCKS5UDP))
	h.shared = h.newPrincipal(h.drain, Attribution{})
	h.shared.Group = track.NewGroup(h.live)
	h.admin = adminhttp.New(adminhttp.Config{
		Routes:         adminRoutes(h),
		Token:          s.adminToken,
		ReadOnly:       h.adminReadOnly,
		Context:        h.drain,
		HeaderTimeout:  s.limits.HeaderTimeout,
		IdleTimeout:    s.limits.IdleTimeout,
		MaxHeaderBytes: s.limits.HeaderBytes,
		Logger:         h.gate.ClientLog,
	})
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
	if err := open(&s.admin, &h.listeners.admin, &h.adminAddr); err != nil {
		return err
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
	h.serving.Go(func() {
		h.ended(h.http.Serve(h.track(h.listeners.http, h.shared)))
	})
	h.serving.Go(func() {
		h.ended(h.admin.Serve(h.listeners.admin))
	})
	if h.listeners.socks != nil {
		h.serving.Go(func() {
			h.ended(h.socks.Serve(h.track(h.listeners.socks, h.shared)))
		})
	}
	if h.gate.Observations != nil {
		h.log.Warn(observingWarning)
	}
	if h.active.current().Config.AllowUpstreamProxy {
		h.settings.logRoute(h.log, true)
	}
	h.log.Info("networkproxy is up", "http", h.httpAddr, "admin", h.adminAddr, "socks", h.socksAddr, "mode", string(h.gate.Policy().Mode))
}

// track returns l as a listener of p whose connections count as shared ones.
func (h *Handle) track(l net.Listener, p *gate.Principal) *gate.Listener {
	return &gate.Listener{
		Listener:  &track.Listener{Inner: l, Group: h.shared.Group, StartIdle: true, Logger: h.gate.ClientLog},
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
	addr, pos := ep.override, Position{}
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

// bind listens on addr, which is that of key or overrides it.
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
