// Guards around what the host hands in: a panic in there costs the one lookup,
// log line or reload, whichever goroutine of the proxy it happens on.

package networkproxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
)

// guardedResolver is a resolver of the host's; a panic is a failed lookup.
type guardedResolver struct{ Resolver }

// guardResolver leaves net's own alone: it is asked in a way of its own.
func guardResolver(r Resolver) Resolver {
	if _, ok := r.(*net.Resolver); ok {
		return r
	}
	return guardedResolver{r}
}

func (g guardedResolver) LookupNetIP(ctx context.Context, network, host string) (addrs []netip.Addr, err error) {
	defer func() {
		if v := recover(); v != nil {
			addrs, err = nil, fmt.Errorf("the resolver panicked: %v", v)
		}
	}()
	return g.Resolver.LookupNetIP(ctx, network, host)
}

// guardedLoad calls a configuration source; a panic is an error.
func guardedLoad(ctx context.Context, load func(context.Context) (Config, error)) (c Config, err error) {
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
