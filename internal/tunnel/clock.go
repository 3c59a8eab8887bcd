// The time limits of a tunnel: one timer for all of them.

package tunnel

import (
	"sync/atomic"
	"time"
)

// clock measures from the tunnel's beginning, on the monotonic clock.
type clock struct {
	start time.Time
	idle  time.Duration // 0 = none
	last  atomic.Int64  // when a byte last moved; kept only if idle is set

	// Guarded by tunnel.mu.
	end   time.Duration // when the tunnel must be over; 0 = never
	timer *time.Timer   // nil until there is a limit
}

// watch starts the limits.
func (t *tunnel) watch(idle, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock.start = time.Now()
	t.clock.idle = max(idle, 0)
	t.clock.end = max(lifetime, 0)
	t.schedule()
}

// expireWithin brings the end forward to at most d from now. t.mu is held.
func (t *tunnel) expireWithin(d time.Duration) {
	end := time.Since(t.clock.start) + d
	if t.clock.end == 0 || end < t.clock.end {
		t.clock.end = end
	}
	t.schedule()
}

// schedule sets the timer to the next limit. t.mu is held.
func (t *tunnel) schedule() {
	c := &t.clock
	next := c.end
	if c.idle > 0 {
		if due := time.Duration(c.last.Load()) + c.idle; next == 0 || due < next {
			next = due
		}
	}
	if next == 0 {
		return
	}
	in := next - time.Since(c.start)
	if c.timer == nil {
		c.timer = time.AfterFunc(in, t.tick)
	} else {
		c.timer.Reset(in)
	}
}

// tick closes the tunnel if a limit has passed, else waits for the next one.
func (t *tunnel) tick() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Since(t.clock.start)
	switch {
	case t.clock.end > 0 && now >= t.clock.end:
		t.parting = false
		t.decide(CauseLifetime, nil)
		t.close()
	case t.clock.idle > 0 && now-time.Duration(t.clock.last.Load()) >= t.clock.idle:
		t.parting = false
		t.decide(CauseIdle, nil)
		t.close()
	default:
		t.schedule()
	}
}

// stopClock ends the limits. t.mu is held, so that a tick under way finds the
// tunnel closed.
func (t *tunnel) stopClock() {
	if t.clock.timer != nil {
		t.clock.timer.Stop()
	}
}
