// Handle: the running proxy, and how it ends.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/track"
)

// Handle is a running proxy. Safe for concurrent use.
type Handle struct {
	settings *settings
	log      *slog.Logger
	logQueue *hostcall.LogQueue // behind log; nil where nothing is logged
	calls    *hostcall.Calls    // of the host's functions
	enforcer *enforcer
	shared   *principal // of the listeners that belong to no session
	sessions *sessions
	http     *httpProxy
	socks    *socksProxy
	admin    *adminhttp.Server
	warnings []string // of Run, about addresses that were clamped

	live      *track.Group // every client connection, in a group for each session and one for the shared listeners
	listeners sharedListeners
	httpAddr  string
	adminAddr string
	socksAddr string
	serving   sync.WaitGroup

	sessionPorts loopback.Ports // of the sessions' own listeners

	active   *activeConfig
	reloader *reloader

	stopOnce sync.Once
	stopping chan struct{} // closed when the end begins
	drain    context.Context
	cut      context.CancelCauseFunc // ends the drain: what is open is cut
	done     chan struct{}
	endMu    sync.Mutex
	detach   func() bool // from Run's context
	end      error       // why the proxy ended, where nobody had asked it to
	left     error       // names the host's functions that had not returned at the end
}

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
	h.enforcer = newEnforcer(s.gateConfig(h.log, h.calls))
	h.active = newActiveConfig(first, h.enforcer, h.log, h.alive, h.listeners.exposed)
	h.reloader = newReloader(s, h.active, files, h.calls, h.stopping)
	h.sessions = newSessions(s.requireSession)
	h.http = newHTTPProxy(h.enforcer, s.httpConfig(&h.sessions.tokens))
	h.socks = newSOCKSProxy(h.enforcer, s.socksConfig(&h.sessions.tokens, first.Config.EnableSOCKS5UDP))
	h.shared = h.newPrincipal(h.drain, Attribution{})
	h.shared.group = track.NewGroup(h.live)
	h.admin = adminhttp.New(adminhttp.Config{
		Routes:         adminRoutes(h),
		Token:          s.adminToken,
		ReadOnly:       h.adminReadOnly,
		Context:        h.drain,
		HeaderTimeout:  s.limits.HeaderTimeout,
		IdleTimeout:    s.limits.IdleTimeout,
		MaxHeaderBytes: s.limits.HeaderBytes,
		Logger:         h.enforcer.bounded,
	})
	return h
}

// listen opens every listener, or returns an error; the caller then closes
// those that were opened.
func (h *Handle) listen(ctx context.Context) error {
	open := func(ep *endpoint, listener *net.Listener, addr *string) error {
		l, err := h.listenOn(ctx, ep)
		if err != nil {
			return err
		}
		h.enforcer.self.Add(l.Addr())
		*listener, *addr = l, l.Addr().String()
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
			h.log.Warn("the SOCKS5 listener that the host handed in is not served", "key", keyEnableSOCKS5)
		}
		return nil
	}
	return open(&s.socks, &h.listeners.socks, &h.socksAddr)
}

func (h *Handle) closeListeners() {
	for _, l := range h.listeners.open() {
		l.Close()
	}
	h.settings.closeProvided()
}

// serve starts a goroutine for every listener.
func (h *Handle) serve() {
	h.serving.Go(func() {
		h.ended(h.http.serve(h.track(h.listeners.http, h.shared)))
	})
	h.serving.Go(func() {
		h.ended(h.admin.Serve(h.listeners.admin))
	})
	if h.listeners.socks != nil {
		h.serving.Go(func() {
			h.ended(h.socks.serve(h.track(h.listeners.socks, h.shared)))
		})
	}
	if w := filewatch.NewWatcher(h.reloader.files.readings); !w.Empty() {
		h.reloader.goroutines.Go(func() { w.Run(h.drain, h.reloader.reloadChanged) })
	}
	if h.enforcer.observed != nil {
		h.log.Warn(observingWarning)
	}
	if h.active.current().Config.AllowUpstreamProxy {
		h.reloader.logRoute()
	}
	h.log.Info("networkproxy is up", "http", h.httpAddr, "admin", h.adminAddr, "socks", h.socksAddr, "mode", string(h.enforcer.installed().Mode))
}

// track makes a listener one of a principal.
func (h *Handle) track(l net.Listener, from *principal) *principalListener {
	return &principalListener{
		Listener:  &track.Listener{Inner: l, Group: h.shared.group, StartIdle: true, Logger: h.enforcer.bounded},
		principal: from,
	}
}

// ended takes note of a server that stopped serving. If nobody asked it to,
// the whole proxy ends: half a proxy is worse than none.
func (h *Handle) ended(err error) {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) || err == nil {
		return
	}
	h.log.Error("a listener failed; the proxy stops", "error", err)
	h.endMu.Lock()
	h.end = errors.Join(h.end, err)
	h.endMu.Unlock()
	h.cut(err)
	h.begin()
}

// HTTPAddr is the host:port of the HTTP proxy; empty when nothing is bound.
func (h *Handle) HTTPAddr() string { return h.httpAddr }

// AdminAddr is the host:port of the admin API, or the path of its unix socket;
// empty when nothing is bound.
func (h *Handle) AdminAddr() string { return h.adminAddr }

// SOCKSAddr is the host:port of the SOCKS5 proxy; empty when none is bound,
// which is so while enable_socks5 is false.
func (h *Handle) SOCKSAddr() string { return h.socksAddr }

// Warnings tells the user, in sentences, what in the configuration is odd or
// risky, and which listeners are not where it asks for and why.
func (h *Handle) Warnings() []string {
	loaded := h.active.current()
	warnings := slices.Concat(loaded.notices(), h.warnings, loaded.cutBack)
	if h.listeners.http == nil {
		warnings = append(warnings, h.offWarning())
	}
	if h.enforcer.observed != nil {
		warnings = append(warnings, observingWarning)
	}
	if w := h.active.socketsWithheld(loaded); w != "" {
		warnings = append(warnings, w)
	}
	return warnings
}

// Blocked returns the newest refusals, oldest first, as many as
// [Limits.BlockedKept] says.
func (h *Handle) Blocked() []BlockedRequest {
	list, _ := h.enforcer.blocked.list()
	return publicRefusals(list)
}

// Done is closed once the proxy has ended and everything is released.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Wait waits for the end of the proxy. It returns nil after Shutdown, Close
// or the end of Run's context, and otherwise what made the proxy end.
func (h *Handle) Wait() error {
	<-h.done
	h.endMu.Lock()
	defer h.endMu.Unlock()
	return h.end
}

// Shutdown stops accepting, lets requests and tunnels finish until ctx ends,
// and cuts those that are left then, in which case it returns ctx's error. An
// idle tunnel does not finish by itself: give ctx a deadline. When Shutdown
// returns, every listener and connection is closed. It may be called more
// than once, and from several goroutines.
//
// Once everything is cut, Shutdown waits for functions of the host that are
// under way (OnBlocked, the log handler, ...), and for the refusals and log
// lines that wait for them: until none of them has returned for a second, and
// no longer than five. An error that wraps [ErrCallbackRunning] names those
// that are still running. A function that calls Shutdown or Close itself is one
// of them.
func (h *Handle) Shutdown(ctx context.Context) error {
	h.begin()
	select {
	case <-h.done:
		return h.leftBehind()
	case <-ctx.Done():
		h.cut(ErrClosed)
		<-h.done
		if left := h.leftBehind(); left != nil {
			return errors.Join(ctx.Err(), left)
		}
		return ctx.Err()
	}
}

// Close is Shutdown without waiting for requests and tunnels to finish.
func (h *Handle) Close() error {
	h.cut(ErrClosed)
	h.begin()
	<-h.done
	return h.leftBehind()
}

// leftBehind is the error of Shutdown and Close after the end.
func (h *Handle) leftBehind() error {
	h.endMu.Lock()
	defer h.endMu.Unlock()
	return h.left
}

// attach has the proxy close when ctx ends, which may be now.
func (h *Handle) attach(ctx context.Context) {
	h.endMu.Lock()
	defer h.endMu.Unlock()
	h.detach = context.AfterFunc(ctx, func() { h.Close() })
}

// begin starts the end, once.
func (h *Handle) begin() {
	h.stopOnce.Do(func() {
		close(h.stopping)
		go h.stop()
	})
}

// stop ends the proxy. What waits for functions of the host has an end: see
// Shutdown.
func (h *Handle) stop() {
	defer close(h.done)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.windDown()
	}()
	select {
	case <-ended:
	case <-h.drain.Done():
	}
	h.calls.WaitFor(ended)
	h.calls.Wait(h.calls.Busy)
	h.tellEnd()
}

// windDown stops accepting, drains, cuts, and waits for every goroutine of the
// proxy.
func (h *Handle) windDown() {
	h.endMu.Lock()
	if h.detach != nil {
		h.detach()
	}
	h.endMu.Unlock()
	h.listeners.closeProxies() // the admin API stays until the end
	h.sessions.refuse()
	h.http.server.Shutdown()
	h.live.Wait(h.drain)
	h.admin.Shutdown(h.drain)

	h.cut(ErrClosed)
	h.sessions.wait()
	h.closeListeners()
	h.live.CloseAll()
	h.admin.Close()
	h.http.closeIdle(h.shared)
	h.enforcer.live.closeAll()
	h.enforcer.drop(&h.shared.owner)

	h.serving.Wait()
	h.live.Wait(context.Background())
	h.admin.Wait()
}

// tellEnd writes the last log lines, has them written out, and notes which
// functions of the host have not returned.
func (h *Handle) tellEnd() {
	if observer := h.enforcer.observer; observer != nil {
		if n := observer.Close(); n > 0 {
			h.log.Warn("OnBlocked has not been told of the last refusals", "refusals", n)
		}
	}
	if n := h.calls.Running(hostcall.Decider); n > 0 {
		h.log.Warn("the decider has not returned although its context ended; its goroutines are left behind", "calls", n)
	}
	if n := h.calls.Running(hostcall.Resolver); n > 0 {
		h.log.Warn("the resolver has not returned although its context ended; its goroutines are left behind", "calls", n)
	} else {
		h.enforcer.awaitLookups(resolverPatience) // the last steps of their goroutines
	}
	patience := reloadPatience
	if h.calls.Running(hostcall.ConfigSource) > 0 {
		patience = 0 // it has been waited for
	}
	if n := h.reloader.goroutines.Wait(patience); n > 0 {
		h.log.Warn("a reload has not ended although its context has: the configuration source or the file system does not return; its goroutines are left behind", "calls", n)
	}
	h.enforcer.lines.close()
	h.enforcer.debug.close()
	h.log.Info("networkproxy has ended")
	h.logQueue.Flush()
	if names := h.calls.Unreturned(); names != nil {
		h.endMu.Lock()
		h.left = fmt.Errorf("%w: %s", ErrCallbackRunning, strings.Join(names, ", "))
		h.endMu.Unlock()
	}
}

// alive returns an error if the proxy has no policy to change, because it is off
// or has ended.
func (h *Handle) alive() error {
	select {
	case <-h.stopping:
		return ErrClosed
	default:
	}
	if h.drain.Err() != nil {
		return ErrClosed
	}
	if h.listeners.http == nil {
		return ErrDisabled
	}
	return nil
}

// offWarning says that the proxy is off, and what follows from that.
func (h *Handle) offWarning() string {
	return fmt.Sprintf("the proxy is off: %s is false (%s); nothing listens, and the environment that Environ makes lets no client connect",
		keyEnabled, h.active.current().describe(keyEnabled))
}
