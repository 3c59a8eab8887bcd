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
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/networkproxy/internal/adminhttp"
	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/capture"
	"example.com/networkproxy/internal/feed"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/httpproxy"
	"example.com/networkproxy/internal/loopback"
	"example.com/networkproxy/internal/socksproxy"
	"example.com/networkproxy/internal/track"
	"example.com/networkproxy/internal/trust"
)

// Handle is a running proxy. Get one from [NetworkProxy.Run], and end it with
// Shutdown or Close. All methods are safe for concurrent use.
type Handle struct {
	settings *settings
	log      *slog.Logger
	logQueue *hostcall.LogQueue // behind log; nil if the log is discarded
	calls    *hostcall.Calls    // of the host's functions
	gate     *gate.Gate
	shared   *gate.Principal // of the shared listeners
	sessions *sessions
	groups   *groups
	http     *httpproxy.Proxy
	socks    *socksproxy.Proxy
	capture  *capture.Front
	admin    *adminhttp.Server
	inbox    approval.Inbox // questions of AskOnPage
	feed     *feed.Feed     // events for viewers of the admin API

	authority func() (*ca.Authority, error) // of TLS inspection; made on first use
	trust     *trust.Store                  // the files that make the clients of commands trust authority
	trusted   *trust.Files                  // the files in trust for commands without a session
	warnings  []string                      // of Run, about clamped addresses

	live      *track.Group // all client connections; has a group for each session and one for the shared listeners
	listeners sharedListeners
	httpAddr  string
	adminAddr string
	socksAddr string
	serving   *errgroup.Group // of all listeners; the first error of a shared one ends drain

	sessionPorts loopback.Ports // of the sessions' own listeners

	active   *activeConfig
	reloader *reloader

	stopOnce sync.Once
	stopping chan struct{}           // closed when the proxy begins to stop
	drain    context.Context         // ends when open connections are to be cut; the cause is ErrClosed, or the error of a listener
	cut      context.CancelCauseFunc // ends drain
	done     chan struct{}           // closed when everything is released

	endMu  sync.Mutex
	detach func() bool // stops waiting for the end of Run's context
	left   error       // names the host's functions that had not returned at the end
}

// HTTPAddr returns the host:port of the HTTP proxy. It is empty if the proxy was
// started with enabled = false.
func (h *Handle) HTTPAddr() string { return h.httpAddr }

// AdminAddr returns the host:port of the admin API, or the path of its Unix
// socket. It is empty with [Builder.NoAdmin], or if the proxy was started with
// enabled = false.
func (h *Handle) AdminAddr() string { return h.adminAddr }

// SOCKSAddr returns the host:port of the SOCKS5 proxy. It is empty if the proxy
// was started with enabled or enable_socks5 = false.
func (h *Handle) SOCKSAddr() string { return h.socksAddr }

// Warnings returns sentences for the user about unusual or risky settings of the
// configuration in force, about settings that have no effect, and about
// listeners whose addresses differ from the configured ones.
func (h *Handle) Warnings() []string {
	loaded := h.active.current()
	warnings := slices.Concat(loaded.notices(), h.warnings, loaded.cutBack, loaded.withoutEffect)
	if h.listeners.http == nil {
		warnings = append(warnings, h.offWarning())
	}
	if h.gate.Observations != nil {
		warnings = append(warnings, observingWarning)
	}
	if w := h.active.socketsWithheld(loaded); w != "" {
		warnings = append(warnings, w)
	}
	return warnings
}

// Blocked returns the newest refusals, at most [Limits.BlockedKept], in the order
// in which they happened.
func (h *Handle) Blocked() []BlockedRequest {
	list, _ := h.gate.Blocked.List()
	return publicRefusals(list)
}

// Done returns a channel that is closed when the proxy has ended and all its
// listeners and connections are closed.
func (h *Handle) Done() <-chan struct{} { return h.done }

// Wait waits until the proxy has ended. It returns nil after Shutdown, Close or
// the end of Run's context. If a listener failed, it returns the error of that
// listener.
func (h *Handle) Wait() error {
	<-h.done
	if cause := context.Cause(h.drain); cause != ErrClosed {
		return cause
	}
	return nil
}

// Shutdown stops accepting connections and waits for open requests and tunnels
// to finish. When ctx ends, it cuts those that are left and returns the error of
// ctx. Idle tunnels do not finish by themselves, so ctx should have a deadline.
// When Shutdown returns, all listeners and connections are closed. It may be
// called more than once, and by several goroutines at once.
//
// Afterwards Shutdown waits for running functions of the host, such as OnBlocked
// and the log handler, and for the refusals and log lines that wait for them. It
// stops waiting when none of them has returned for a second, and after five
// seconds at the latest. It then returns an error that wraps
// [ErrCallbackRunning] and names the functions that are still running. These
// include a function that calls Shutdown or Close itself.
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

// Close is like Shutdown, but cuts requests and tunnels at once.
func (h *Handle) Close() error {
	h.cut(ErrClosed)
	h.begin()
	<-h.done
	return h.leftBehind()
}

// listenerEnded returns the error of a server that has stopped, or nil if its
// listener was closed. The first error ends drain, and so stops the proxy:
// clients of a listener that no longer serves would fail or go around the proxy.
func (h *Handle) listenerEnded(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) || err == nil {
		return nil
	}
	h.log.Error("a listener failed; the proxy stops", "error", err)
	return err
}

// leftBehind returns the error about functions of the host that have not
// returned. Call it after the end.
func (h *Handle) leftBehind() error {
	h.endMu.Lock()
	defer h.endMu.Unlock()
	return h.left
}

// attach closes the proxy when ctx ends.
func (h *Handle) attach(ctx context.Context) {
	h.endMu.Lock()
	defer h.endMu.Unlock()
	h.detach = context.AfterFunc(ctx, func() { h.Close() })
}

// begin makes the proxy stop. Only the first call has an effect.
func (h *Handle) begin() {
	h.stopOnce.Do(func() {
		close(h.stopping)
		go h.stop()
	})
}

// stop stops the proxy. It waits for functions of the host as long as Shutdown
// documents.
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
	if !h.calls.Busy() { // the call for which the first wait may have given up has returned
		h.calls.WaitFor(ended)
	}
	h.reportEnd()
	if h.leftBehind() == nil { // it has returned during the report
		h.calls.WaitFor(ended)
	}
}

// windDown stops accepting connections, waits for requests until drain ends,
// cuts those that are left, and waits for every goroutine of the proxy.
func (h *Handle) windDown() {
	h.endMu.Lock()
	if h.detach != nil {
		h.detach()
	}
	h.endMu.Unlock()
	h.listeners.closeProxies() // the admin API serves until the end
	h.sessions.refuse()
	h.http.Shutdown()
	h.live.Wait(h.drain)
	h.feed.Close() // ends the streams of the admin API
	h.admin.Shutdown(h.drain)

	h.cut(ErrClosed)
	h.sessions.wait()
	h.closeListeners()
	h.live.CloseAll()
	h.admin.Close()
	h.http.CloseIdle(h.shared)
	h.gate.Live.CloseAll()
	h.gate.Drop(&h.shared.Owner)
	h.groups.drop()

	h.serving.Wait()
	h.live.Wait(context.Background())
	h.admin.Wait()
	h.closeTrusted("", h.trust.Close)
}

// closeTrusted removes the files of a session, or of the proxy if session is empty.
func (h *Handle) closeTrusted(session string, remove func() error) {
	if err := remove(); err != nil {
		h.log.Warn("cannot remove the files with certificates", "session", session, "error", err)
	}
}

// closeListeners closes all shared listeners, also those that the host provided
// and that were not opened.
func (h *Handle) closeListeners() {
	for _, l := range h.listeners.open() {
		l.Close()
	}
	h.settings.closeProvided()
}

// reportEnd logs the last lines, waits until they are written, and records which
// functions of the host have not returned.
func (h *Handle) reportEnd() {
	h.gate.Events.Close()
	if n := h.gate.CloseObserver(); n > 0 {
		h.log.Warn("dropped the last refusals, because OnBlocked does not return", "refusals", n)
	}
	if n := h.calls.Running(hostcall.Decider); n > 0 {
		h.log.Warn("the decider has not returned although its context ended; its goroutines are left behind", "calls", n)
	}
	if n := h.calls.Running(hostcall.Resolver); n > 0 {
		h.log.Warn("the resolver has not returned although its context ended; its goroutines are left behind", "calls", n)
	} else {
		h.gate.AwaitLookups(gate.LookupGracePeriod) // the last steps of their goroutines
	}
	grace := reloadGracePeriod
	if h.calls.Running(hostcall.ConfigSource)+h.calls.Running(hostcall.AmendmentWriter) > 0 {
		grace = 0 // calls.Wait has waited for them already
	}
	if n := h.reloader.goroutines.Wait(grace); n > 0 {
		h.log.Warn("a reload or an amendment has not ended although its context ended: a function of the host or the file system does not return; its goroutines are left behind", "calls", n)
	}
	h.gate.CloseLogs()
	h.log.Info("networkproxy has ended")
	h.logQueue.Flush()
	if names := h.calls.Unreturned(); names != nil {
		h.endMu.Lock()
		h.left = fmt.Errorf("%w: %s", ErrCallbackRunning, strings.Join(names, ", "))
		h.endMu.Unlock()
	}
}

// reloadGracePeriod is how long the proxy waits, when it ends, for reloads that
// do not return although their contexts have ended.
const reloadGracePeriod = time.Second

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

// observingWarning appears wherever the proxy reports its state.
const observingWarning = "OBSERVING: hosts that no list names are let through and recorded, not refused; " +
	"the denylist and the protection of local networks still hold. Turn it off to enforce the allowlist"

// offWarning returns the warning of a proxy that was started with enabled =
// false.
func (h *Handle) offWarning() string {
	remedy := "set Enabled in the Config, or use Builder.Embedded"
	if paths := h.settings.files; len(paths) > 0 {
		remedy = fmt.Sprintf("set enabled = true in the table [%s] of %s", keyRoot, paths[len(paths)-1])
	}
	return fmt.Sprintf("the proxy is off: %s is false (%s); it has no listeners, and clients with the environment of Environ cannot connect; to turn it on, %s",
		keyEnabled, h.active.current().describe(keyEnabled), remedy)
}

// sharedListeners are the listeners of a proxy that belong to no session. Those
// that are not open are nil: all of them while the proxy is disabled, admin with
// NoAdmin, and socks while enable_socks5 is false.
type sharedListeners struct {
	http, admin, socks net.Listener

	// exposed is the address of a listener that other machines can reach, or "".
	// It does not change after the listeners are open. It is kept because Addr
	// of a listener that the host provided is a function of the host.
	exposed string
}

// open returns the listeners that are open.
func (s *sharedListeners) open() []net.Listener {
	var open []net.Listener
	for _, l := range []net.Listener{s.http, s.admin, s.socks} {
		if l != nil {
			open = append(open, l)
		}
	}
	return open
}

// closeProxies closes all listeners except that of the admin API.
func (s *sharedListeners) closeProxies() {
	for _, l := range []net.Listener{s.http, s.socks} {
		if l != nil {
			l.Close()
		}
	}
}

// note records the address of a listener that was just opened.
func (s *sharedListeners) note(addr net.Addr) {
	if a := gate.AddrPortOf(addr); s.exposed == "" && a.IsValid() && !a.Addr().IsLoopback() {
		s.exposed = a.String()
	}
}
