// Lookups by a resolver of the host application.

package pindial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// maxOverdue bounds the Resolver calls that continue after their context has
// ended. Each holds a goroutine, forever if it never returns.
const maxOverdue = 1024

// Lookups tracks a Dialer's running calls of a Resolver. It lets the Dialer
// abandon a call that does not return after its context has ended, and lets the
// Dialer's owner wait for such calls. The zero value is ready. Lookups is safe
// for concurrent use.
type Lookups struct {
	mu      sync.Mutex
	running int
	overdue int           // abandoned calls that are still running
	idle    chan struct{} // closed when running becomes 0; nil if nothing waits
}

// Wait waits until no call is running or ctx ends. It returns the number of
// calls still running.
func (l *Lookups) Wait(ctx context.Context) int {
	l.mu.Lock()
	if l.running == 0 {
		l.mu.Unlock()
		return 0
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	none := l.idle
	l.mu.Unlock()
	select {
	case <-none:
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running
}

// call calls r and abandons the call when ctx ends. A nil Lookups waits as long
// as the call takes.
func (l *Lookups) call(ctx context.Context, r Resolver, name string) ([]netip.Addr, error) {
	if l == nil {
		return r.LookupNetIP(ctx, "ip", name)
	}
	c, err := l.start()
	if err != nil {
		return nil, err
	}
	go c.run(ctx, r, name)
	select {
	case <-c.done:
		return c.addrs, c.err
	case <-ctx.Done():
		return c.abandon(ctx)
	}
}

// lookupCall is one call of a Resolver.
type lookupCall struct {
	lookups   *Lookups
	abandoned bool          // guarded by lookups.mu
	done      chan struct{} // closed when addrs and err are set
	addrs     []netip.Addr
	err       error
}

func (l *Lookups) start() (*lookupCall, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.overdue >= maxOverdue {
		return nil, fmt.Errorf("%d resolver calls are still running after their contexts ended; a resolver must return once its context ends", l.overdue)
	}
	l.running++
	return &lookupCall{lookups: l, done: make(chan struct{})}, nil
}

// run makes the call, in its own goroutine.
func (c *lookupCall) run(ctx context.Context, r Resolver, name string) {
	defer c.finish()
	c.err = errNoReturn // replaced when the call returns
	c.addrs, c.err = r.LookupNetIP(ctx, "ip", name)
}

func (c *lookupCall) finish() {
	l := c.lookups
	l.mu.Lock()
	defer l.mu.Unlock()
	close(c.done)
	if c.abandoned {
		l.overdue--
	}
	if l.running--; l.running == 0 && l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// abandon stops waiting for the call. It returns the result if there is one by
// now, otherwise ctx's error.
func (c *lookupCall) abandon(ctx context.Context) ([]netip.Addr, error) {
	c.lookups.mu.Lock()
	defer c.lookups.mu.Unlock()
	select {
	case <-c.done:
		return c.addrs, c.err
	default:
	}
	c.abandoned = true
	c.lookups.overdue++
	return nil, ctx.Err()
}

// errNoReturn is the error if a resolver ends its goroutine (runtime.Goexit).
var errNoReturn = errors.New("resolver ended its goroutine without returning")
