package hostcall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"example.com/networkproxy/internal/pindial"
)

// Call calls f and counts it in calls, which may be nil. A panic in f is returned as an error.
func Call[T any](ctx context.Context, calls *Calls, kind Kind, f func(context.Context) (T, error)) (result T, err error) {
	calls.Enter(kind)
	defer calls.Leave(kind)
	defer func() {
		if v := recover(); v != nil {
			var zero T
			result, err = zero, fmt.Errorf("it panicked: %v", v)
		}
	}()
	return f(ctx)
}

// SafeResolver returns a resolver that counts the look-ups of r in calls and returns a panic of r as an error. It returns nil and
// a *net.Resolver unchanged, because pindial asks the latter in a way of its own.
func SafeResolver(r pindial.Resolver, calls *Calls) pindial.Resolver {
	switch r.(type) {
	case nil, *net.Resolver:
		return r
	}
	return safeResolver{r, calls}
}

type safeResolver struct {
	pindial.Resolver
	calls *Calls
}

func (r safeResolver) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	r.calls.Enter(Resolver)
	defer r.calls.Leave(Resolver)
	defer func() {
		if v := recover(); v != nil {
			addrs, err = nil, fmt.Errorf("the resolver panicked: %v", v)
		}
	}()
	return r.Resolver.LookupNetIP(ctx, network, host)
}

// SafeLogHandler returns a handler in which a panic of h costs one line. The proxy also logs while it recovers from other panics.
func SafeLogHandler(h slog.Handler) slog.Handler { return safeLogHandler{h} }

type safeLogHandler struct{ slog.Handler }

func (h safeLogHandler) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() {
		if recover() != nil {
			enabled = false
		}
	}()
	return h.Handler.Enabled(ctx, level)
}

func (h safeLogHandler) Handle(ctx context.Context, r slog.Record) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the log handler panicked: %v", v)
		}
	}()
	return h.Handler.Handle(ctx, r)
}

func (h safeLogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return safeLogHandler{h.Handler.WithAttrs(attrs)}
}

func (h safeLogHandler) WithGroup(name string) slog.Handler {
	return safeLogHandler{h.Handler.WithGroup(name)}
}

// SafeListener returns a listener whose Close returns within the grace period of calls. An Accept that does not return after that
// counts as a call in progress. A panic of l is returned as an error. SafeListener returns nil and the listeners of package net
// unchanged, because their Accept returns when they are closed.
func SafeListener(l net.Listener, calls *Calls) net.Listener {
	switch l.(type) {
	case nil, *net.TCPListener, *net.UnixListener:
		return l
	}
	return &safeListener{Listener: l, calls: calls}
}

type safeListener struct {
	net.Listener
	calls *Calls

	mu        sync.Mutex
	accepting int
	closed    bool
}

func (l *safeListener) Accept() (conn net.Conn, err error) {
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
			l.calls.Leave(Listener)
		}
	}()
	return l.Listener.Accept()
}

var errCloseExited = errors.New("the listener's Close ended its goroutine without returning")

// Close closes the listener. Calls after the first return nil.
func (l *safeListener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	for range l.accepting {
		l.calls.Enter(Listener)
	}
	l.mu.Unlock()

	closed := make(chan error, 1)
	l.calls.Enter(Listener)
	go func() {
		err := errCloseExited
		defer func() { closed <- err }() // after Leave, so that no call is in progress when Close returns
		defer l.calls.Leave(Listener)
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("the listener panicked: %v", v)
			}
		}()
		err = l.Listener.Close()
	}()
	grace := time.NewTimer(l.calls.grace)
	defer grace.Stop()
	select {
	case err := <-closed:
		return err
	case <-grace.C:
		return errors.New("the listener that the host provided does not return from Close")
	}
}
