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
