// Guards around what the host hands in: a panic in there costs the one lookup,
// log line or reload, whichever goroutine of the proxy it happens on.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// guardedResolver is a resolver of the host's; a panic is a failed lookup.
type guardedResolver struct {
	Resolver
	calls *hostCalls // counts the look-ups; may be nil
}

// guardResolver leaves net's own alone: it is asked in a way of its own.
func guardResolver(r Resolver) Resolver {
	if _, ok := r.(*net.Resolver); ok {
		return r
	}
	return guardedResolver{Resolver: r}
}

// resolver returns r with its look-ups counted, if it is the host's own.
func (h *hostCalls) resolver(r Resolver) Resolver {
	if g, ok := r.(guardedResolver); ok {
		g.calls = h
		return g
	}
	return r
}

func (g guardedResolver) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	g.calls.enter(callbackResolver)
	defer g.calls.leave(callbackResolver)
	defer func() {
		if v := recover(); v != nil {
			addrs, err = nil, fmt.Errorf("the resolver panicked: %v", v)
		}
	}()
	return g.Resolver.LookupNetIP(ctx, network, host)
}

// hostCallsKey is the key of the *hostCalls in the context of a reload.
type hostCallsKey struct{}

// guardedLoad calls a configuration source; a panic is an error.
func guardedLoad(ctx context.Context, load func(context.Context) (Config, error)) (c Config, err error) {
	calls, _ := ctx.Value(hostCallsKey{}).(*hostCalls) // nil in Build
	calls.enter(callbackSource)
	defer calls.leave(callbackSource)
	defer func() {
		if v := recover(); v != nil {
			c, err = Config{}, fmt.Errorf("it panicked: %v", v)
		}
	}()
	return load(ctx)
}

// guardedHandler is a log handler of the host's; a panic is a lost line. The
// proxy logs where it recovers from other panics, too.
type guardedHandler struct{ slog.Handler }

func (g guardedHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() {
		if recover() != nil {
			enabled = false
		}
	}()
	return g.Handler.Enabled(ctx, level)
}

func (g guardedHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the log handler panicked: %v", v)
		}
	}()
	return g.Handler.Handle(ctx, r)
}

func (g guardedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return guardedHandler{g.Handler.WithAttrs(attrs)}
}

func (g guardedHandler) WithGroup(name string) slog.Handler {
	return guardedHandler{g.Handler.WithGroup(name)}
}

// hostListener is a listener that the host handed in. Its Close returns after
// callbackPatience at the latest, and an Accept that does not return after that
// counts as a function of the host that is under way. A panic is an error.
type hostListener struct {
	net.Listener
	calls *hostCalls

	mu        sync.Mutex
	accepting int
	closed    bool
}

// guardListener leaves nil and the listeners of package net alone, which return
// from Accept when they are closed.
func guardListener(l net.Listener, calls *hostCalls) net.Listener {
	switch l.(type) {
	case nil, *net.TCPListener, *net.UnixListener:
		return l
	}
	return &hostListener{Listener: l, calls: calls}
}

func (l *hostListener) Accept() (conn net.Conn, err error) {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil, net.ErrClosed
	}
	l.accepting++
	l.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			conn, err = nil, fmt.Errorf("the listener panicked: %v", v)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.accepting--
		if l.closed {
			l.calls.leave(callbackListener)
		}
	}()
	return l.Listener.Accept()
}

// Close closes the listener. Calls after the first return nil.
func (l *hostListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for range l.accepting {
		l.calls.enter(callbackListener)
	}
	l.mu.Unlock()

	closed := make(chan error, 1)
	l.calls.enter(callbackListener)
	go func() {
		defer l.calls.leave(callbackListener)
		defer func() {
			if v := recover(); v != nil {
				closed <- fmt.Errorf("the listener panicked: %v", v)
			}
		}()
		closed <- l.Listener.Close()
	}()
	patience := time.NewTimer(l.calls.patience)
	defer patience.Stop()
	select {
	case err := <-closed:
		return err
	case <-patience.C:
		return errors.New("the listener that was handed in does not return from Close")
	}
}
