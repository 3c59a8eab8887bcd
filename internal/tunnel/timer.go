// The timer of a tunnel: one for all its timeouts.

package tunnel

import (
	"sync/atomic"
	"time"
)

// watchAfter is how long after the end of one stream the tunnel starts to watch
// its connection. Most tunnels are over by then and need no goroutine for it.
const watchAfter = 250 * time.Millisecond

// clock holds times as durations since start, on the monotonic clock.
type clock struct {
	start     time.Time
	idle      time.Duration // 0 means no limit
	lastWrite atomic.Int64  // the last write to a or b; recorded only if idle is set

	// The following fields are guarded by tunnel.mu.
	deadline time.Duration // when the tunnel must have ended; 0 means never
	watchAt  time.Duration // when to start watching watched; 0 means never
	watched  *direction    // the direction whose stream has ended
	timer    *time.Timer   // nil until first needed
}

// startTimer starts the idle and lifetime limits.
func (t *tunnel) startTimer(idle, lifetime time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clock.start = time.Now()
	t.clock.idle = max(idle, 0)
	t.clock.deadline = max(lifetime, 0)
	t.schedule()
}

// expireWithin moves the deadline to at most d from now. t.mu is held.
func (t *tunnel) expireWithin(d time.Duration) {
	end := time.Since(t.clock.start) + d
	if t.clock.deadline == 0 || end < t.clock.deadline {
		t.clock.deadline = end
	}
	t.schedule()
}

// scheduleWatch schedules watching the source of d after watchAfter. t.mu is
// held.
func (t *tunnel) scheduleWatch(d *direction) {
	if d.rawSrc == nil {
		return // only sockets report that they broke
	}
	t.clock.watched, t.clock.watchAt = d, time.Since(t.clock.start)+watchAfter
	t.schedule()
}

// schedule sets the timer to the next event. t.mu is held.
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

// onTimer closes the tunnel if a limit has passed, starts watching a connection
// if that is due, and schedules the next event.
func (t *tunnel) onTimer() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.replying {
		return
	}
	now := time.Since(t.clock.start)
	switch {
	case t.clock.deadline > 0 && now >= t.clock.deadline:
		t.setCause(CauseLifetime, nil)
		t.close()
	case t.clock.idle > 0 && now-time.Duration(t.clock.lastWrite.Load()) >= t.clock.idle:
		t.setCause(CauseIdle, nil)
		t.close()
	default:
		if t.clock.watchAt > 0 && now >= t.clock.watchAt {
			t.clock.watchAt = 0
			// The opposite direction is still running, so Relay is still
			// waiting.
			if d := t.clock.watched; !t.opposite(d).done {
				t.running.Go(d.watchSource)
			}
		}
		t.schedule()
	}
}

// stopTimer stops the timer. t.mu is held, so a running onTimer finds the
// tunnel closed.
func (t *tunnel) stopTimer() {
	if t.clock.timer != nil {
		t.clock.timer.Stop()
	}
}
