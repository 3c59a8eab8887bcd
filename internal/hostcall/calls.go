// Package hostcall calls functions that the host of the proxy supplies: callbacks, log handlers, resolvers, listeners.
//
// Such a function may take any time, may never return, may panic, and may call back into the proxy. [Calls] counts the calls
// in progress and waits a bounded time for them when the proxy ends. [Mailbox] and [LogQueue] deliver items on a goroutine of
// their own, so that no caller waits. [SafeResolver] and its siblings turn panics into errors.
//
// A caller must hold no lock while it calls such a function. The package knows nothing of policy and configuration.
package hostcall

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// GracePeriod is the usual grace period of [New].
	GracePeriod = time.Second

	// waitLimit bounds [Calls.Wait], however many functions return meanwhile.
	waitLimit = 5 * time.Second
)

// Kind is a kind of function that the host supplies.
type Kind uint8

const (
	OnBlocked Kind = iota
	LogHandler
	Decider
	Resolver
	ConfigSource
	Listener
	OnEvent
	AuditLog
	AmendmentWriter
	Credential
	kinds // the number of kinds
)

// String returns the name of the function, for error messages.
func (k Kind) String() string {
	return [...]string{
		"OnBlocked", "the log handler", "the PolicyDecider", "the Resolver", "the ConfigSource",
		"a listener that the host provided", "OnEvent", "the audit log's Writer", "the AmendmentWriter", "the function of a credential",
	}[k]
}

// Calls counts the calls of the host's functions that are in progress. Use [New]. A nil *Calls counts nothing in Enter, Leave
// and [Call]; other methods need one. Safe for concurrent use.
type Calls struct {
	grace   time.Duration
	running [kinds]atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed when the next function returns; nil while nobody waits for that
}

// New returns a Calls with no call in progress. Grace is how long to wait for the next function to return before giving up.
func New(grace time.Duration) *Calls { return &Calls{grace: grace} }

// Enter counts a call. The caller calls Leave when the function has returned.
func (c *Calls) Enter(kind Kind) {
	if c != nil {
		c.running[kind].Add(1)
	}
}

// Leave ends the call that Enter counted.
func (c *Calls) Leave(kind Kind) {
	if c != nil {
		c.running[kind].Add(-1)
		c.progress()
	}
}

// progress wakes the goroutines that wait for a function to return.
func (c *Calls) progress() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// Changed returns a channel that is closed when the next function returns.
func (c *Calls) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// Running returns the number of calls of a kind that are in progress.
func (c *Calls) Running(kind Kind) int64 { return c.running[kind].Load() }

// Busy reports whether any call is in progress.
func (c *Calls) Busy() bool {
	for i := range c.running {
		if c.running[i].Load() > 0 {
			return true
		}
	}
	return false
}

// Wait waits while busy returns true. It gives up when no function has returned for the grace period of c, and after five seconds
// in any case.
func (c *Calls) Wait(busy func() bool) {
	limit, grace := time.NewTimer(waitLimit), time.NewTimer(c.grace)
	defer limit.Stop()
	defer grace.Stop()
	for {
		changed := c.Changed() // before busy, so that no change is missed
		if !busy() {
			return
		}
		select {
		case <-changed:
			grace.Reset(c.grace)
		case <-grace.C:
			return
		case <-limit.C:
			return
		}
	}
}

// WaitFor waits until done is closed. It gives up when a call is in progress and no function has returned for the grace period of
// c, because that call may block what closes done. It waits without limit while no call is in progress.
func (c *Calls) WaitFor(done <-chan struct{}) {
	grace := time.NewTimer(c.grace)
	defer grace.Stop()
	for {
		changed := c.Changed()
		select {
		case <-done:
			return
		case <-changed:
		case <-grace.C:
			if c.Busy() {
				return
			}
		}
		grace.Reset(c.grace)
	}
}

// Unreturned names the functions that have not returned, for an error message; nil if all have.
func (c *Calls) Unreturned() []string {
	var names []string
	for kind := range kinds {
		switch n := c.running[kind].Load(); {
		case n == 1:
			names = append(names, kind.String())
		case n > 1:
			names = append(names, fmt.Sprintf("%s (%d calls)", kind, n))
		}
	}
	return names
}
