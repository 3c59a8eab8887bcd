// Noticing that a client leaves while it waits for its answer.

package http1

import (
	"context"
	"sync"
	"time"
)

// watchDelay is how long an answer may take before its client is watched:
// most come earlier, and cost no goroutine.
const watchDelay = 20 * time.Millisecond

// watcher reads from a connection whose request has been read whole, for the
// one thing that may come: its end. Bytes of a next request end the watch and
// stay in the buffer. It serves one request after the other.
type watcher struct {
	conn  *conn
	timer *time.Timer // calls run; stopped between requests

	mu      sync.Mutex
	armed   bool
	cancel  context.CancelFunc // nil between requests
	running chan struct{}      // closed when run has ended; nil when it has not begun
}

func (w *watcher) init(k *conn) {
	w.conn = k
}

// begin starts a request. whole says that there is no content to come.
func (w *watcher) begin(cancel context.CancelFunc, whole bool) {
	w.mu.Lock()
	w.cancel = cancel
	w.mu.Unlock()
	if whole {
		w.arm()
	}
}

// arm starts the delay: from here on nothing else reads from the connection.
func (w *watcher) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancel == nil {
		return
	}
	w.armed = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchDelay, w.run)
		return
	}
	w.timer.Reset(watchDelay)
}

// run waits for the client to leave or to send more.
func (w *watcher) run() {
	w.mu.Lock()
	if !w.armed || w.running != nil {
		// A timer that fired late, for a request that has ended.
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.running = done
	w.mu.Unlock()

	defer close(done)
	if _, err := w.conn.br.Peek(1); err != nil {
		w.mu.Lock()
		cancel := w.cancel
		w.mu.Unlock()
		if cancel != nil { // or it is end that interrupted the read
			cancel()
		}
	}
}

// end ends the watch, and returns when nothing reads from the connection.
func (w *watcher) end() {
	w.mu.Lock()
	w.cancel, w.armed = nil, false
	if w.timer != nil {
		w.timer.Stop()
	}
	running := w.running
	w.running = nil
	w.mu.Unlock()
	if running == nil {
		return
	}
	w.conn.SetReadDeadline(time.Unix(1, 0))
	<-running
	w.conn.SetReadDeadline(time.Time{})
}
