// Look-ups by a resolver that is somebody else's code.

package pindial

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
)

// maxOverdue bounds the calls of a Resolver that go on although their context has ended. Every one holds a goroutine,
// for ever if it never returns.
const maxOverdue = 1024

// Lookups are the calls of a Resolver that a Dialer has under way. They let a Dialer leave a call behind that does not
// return although its context has ended, and keep account of it, so that whoever owns the Dialer can wait for it. The
// zero value is ready. Safe for concurrent use.
type Lookups struct {
	mu      sync.Mutex
	running int
	overdue int           // of those, the ones that nobody waits for any more
	idle    chan struct{} // closed when running becomes 0; nil: nobody waits for that
}

// Wait waits until no call is under way or ctx ends. It returns the number of calls that are still under way.
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

// ask calls r, and gives up waiting for it when ctx ends. Without l it waits for as long as the call takes.
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
	abandoned bool          // nobody waits for it any more; guarded by of.mu
	done      chan struct{} // closed when addrs and err are set
	addrs     []netip.Addr
	err       error
}

func (l *Lookups) start() (*lookupCall, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.overdue >= maxOverdue {
		return nil, fmt.Errorf("the resolver has not returned from %d look-ups whose time is up; it must return once its context ends", l.overdue)
	}
	l.running++
	return &lookupCall{lookups: l, done: make(chan struct{})}, nil
}

// call makes the call, in a goroutine of its own.
func (c *lookupCall) run(ctx context.Context, r Resolver, name string) {
	defer c.finish()
	c.err = errNoReturn // unless it returns
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

// leave stops waiting for the call. It returns the answer if there is one by now, and ctx's error if not.
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

// errNoReturn is for a resolver that ends its goroutine, as runtime.Goexit does.
var errNoReturn = errors.New("the resolver did not return")
