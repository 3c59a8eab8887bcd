// What a tunnel does after a time: one timer for all of it.

package tunnel

import (
	"sync/atomic"
	"time"
)

// watchAfter is how long after the end of one stream its connection begins to be
// watched. Most tunnels are over by then, and spared a goroutine that waits.
const watchAfter = 250 * time.Millisecond

// clock measures from the tunnel's beginning, on the monotonic clock.
type clock struct {
	start     time.Time
	idle      time.Duration // 0 = none
	lastWrite atomic.Int64  // when a byte last moved; kept only if idle is set

	// Guarded by tunnel.mu.
	deadline time.Duration // when the tunnel must be over; 0 = never
	watchAt  time.Duration // when ended is to be watched; 0 = never
	watched  *direction    // that has carried its whole stream
	timer    *time.Timer   // nil until there is something to be done
}

// watch starts the limits.
func (t *tunnel) startTimer(idle, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock.start = time.Now()
	t.clock.idle = max(idle, 0)
	t.clock.deadline = max(lifetime, 0)
	t.schedule()
}

// expireWithin brings the end forward to at most d from now. t.mu is held.
func (t *tunnel) expireWithin(d time.Duration) {
	end := time.Since(t.clock.start) + d
	if t.clock.deadline == 0 || end < t.clock.deadline {
		t.clock.deadline = end
	}
	t.schedule()
}

// watchSoon has the source of d watched, after a while. t.mu is held.
func (t *tunnel) scheduleWatch(d *direction) {
	if d.rawSrc == nil {
		return // only a socket tells that it breaks
	}
	t.clock.watched, t.clock.watchAt = d, time.Since(t.clock.start)+watchAfter
	t.schedule()
}

// schedule sets the timer to what comes next. t.mu is held.
func (t *tunnel) schedule() {
	c := &t.clock
	next := c.deadline
	if c.idle > 0 {
		if due := time.Duration(c.lastWrite.Load()) + c.idle; next == 0 || due < next {
			next = due
		}
	}
	if c.watchAt > 0 && (next == 0 || c.watchAt < next) {
		next = c.watchAt
	}
	if next == 0 {
		return
	}
	in := next - time.Since(c.start)
	if c.timer == nil {
		c.timer = time.AfterFunc(in, t.onTimer)
	} else {
		c.timer.Reset(in)
	}
}

// tick closes the tunnel if a limit has passed, has a connection watched when it
// is time for that, and waits for what comes next.
func (t *tunnel) onTimer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	now := time.Since(t.clock.start)
	switch {
	case t.clock.deadline > 0 && now >= t.clock.deadline:
		t.replying = false
		t.setCause(CauseLifetime, nil)
		t.close()
	case t.clock.idle > 0 && now-time.Duration(t.clock.lastWrite.Load()) >= t.clock.idle:
		t.replying = false
		t.setCause(CauseIdle, nil)
		t.close()
	default:
		if t.clock.watchAt > 0 && now >= t.clock.watchAt {
			t.clock.watchAt = 0
			// While the opposite direction goes on, Relay is not done waiting.
			if d := t.clock.watched; !t.opposite(d).done {
				t.running.Go(d.watchSource)
			}
		}
		t.schedule()
	}
}

// stopClock ends it all. t.mu is held, so that a tick under way finds the
// tunnel closed.
func (t *tunnel) stopTimer() {
	if t.clock.timer != nil {
		t.clock.timer.Stop()
	}
}
