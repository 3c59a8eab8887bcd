// Noticing that a client leaves while it waits for its answer.

package http1

import (
	"sync"
	"time"
)

// watchDelay is how long an answer may take before its client is watched:
// most come earlier, and cost no goroutine.
const watchDelay = 20 * time.Millisecond

// watcher reads from a connection whose request has been read whole, for the
// one thing that may come: its end. Bytes of a next request end the watch and
// stay in the buffer. It serves one request after the other.
//
// Its timer is not set for each request: it goes on ticking while there are
// requests, and a request that it finds twice is watched. While it ticks, the
// connection counts as busy: see turns.
type watcher struct {
	conn  *conn
	timer *time.Timer // calls tick; nil before the first request

	mu       sync.Mutex
	x        *exchange // of the request; nil between requests
	armed    bool
	requests uint64        // that were armed
	seen     uint64        // of them, at the last tick
	ticking  bool          // the timer runs, and the connection counts as busy
	running  chan struct{} // closed when run has ended; nil when it has not begun
}

func (w *watcher) init(k *conn) {
	w.conn = k
}

// begin starts a request. whole says that there is no content to come.
func (w *watcher) begin(x *exchange, whole bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.x = x
	if whole {
		w.armNow()
	}
}

// arm starts the delay: from here on nothing else reads from the connection.
func (w *watcher) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.x != nil {
		w.armNow()
	}
}

// armNow is arm. w.mu is held.
func (w *watcher) armNow() {
	w.armed = true
	w.requests++
	switch {
	case w.ticking:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(watchDelay, w.tick)
	default:
		w.timer.Reset(watchDelay)
	}
	w.ticking, w.seen = true, w.requests
	w.conn.server.turns.begin()
}

// rest is for a timer that does not run any more. w.mu is held.
func (w *watcher) rest() {
	if w.ticking {
		w.ticking = false
		w.conn.server.turns.end()
	}
}

// tick watches a request that takes its time.
func (w *watcher) tick() {
	w.mu.Lock()
	switch {
	case w.running != nil:
		w.rest()
	case w.requests != w.seen:
		w.seen = w.requests
		w.timer.Reset(watchDelay)
	case w.armed:
		w.rest()
		w.run()
		return
	default:
		w.rest()
	}
	w.mu.Unlock()
}

// run waits for the client to leave or to send more. It is called with w.mu
// held, and gives it up.
func (w *watcher) run() {
	done := make(chan struct{})
	defer close(done)
	w.running = done
	// Before end can set a deadline of its own, which ends the watch.
	w.conn.SetReadDeadline(time.Time{})
	w.mu.Unlock()

	if _, err := w.conn.br.Peek(1); err != nil {
		w.mu.Lock()
		x := w.x
		w.mu.Unlock()
		if x != nil { // or it is end that interrupted the read
			x.ctx.end()
		}
	}
}

// end ends the watch, and returns when nothing reads from the connection.
func (w *watcher) end() {
	w.mu.Lock()
	w.x, w.armed = nil, false
	running := w.running
	w.running = nil
	w.mu.Unlock()
	if running == nil {
		return
	}
	w.conn.SetReadDeadline(time.Unix(1, 0))
	<-running
	w.conn.limited = true
	w.conn.noDeadline()
}

// stop is for a connection that will have no further request.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.seen = w.requests
	w.rest()
}
