// Noticing that a client leaves while it waits for its response.

package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"example.com/networkproxy/internal/hangup"
)

// watchDelay is how long a response may take before its client is watched:
// most come earlier, and cost no goroutine.
const watchDelay = 20 * time.Millisecond

// A client that ends its stream behind its request may wait for the response
// (RFC 9112 section 9.6), or be gone: see package hangup. To find out, the
// status line is begun, one byte at a time; every response begins with the
// same ones. probeTimes says how long after the end of the stream each byte is
// sent. The later ones are for a client that goes later.
var probeTimes = [len(statusPrefix)]time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second,
	time.Minute, 3 * time.Minute, 10 * time.Minute, 30 * time.Minute,
}

const (
	// halfClosedPoll is how often a client that has ended its stream is looked
	// at.
	halfClosedPoll = 100 * time.Millisecond

	// halfClosedSilence is how long a response that has begun may have nothing
	// to send to such a client. There is no other byte to find out with.
	halfClosedSilence = 10 * time.Second
)

// watcher waits for the client of a request to leave. It watches while nobody
// reads from the connection: before and after the content is read. It serves
// one request after the other.
//
// Its timer is not set for each request: it goes on ticking while there are
// requests, and a request that it finds twice is watched. While it ticks, the
// connection counts as busy: see turns.
type watcher struct {
	conn  *conn
	timer *time.Timer // calls tick; nil before the first request

	mu            sync.Mutex
	exchange      *exchange // of the request; nil between requests
	armed         bool      // nobody reads
	readsCut      bool      // reads were ended for good; the deadline stays
	hasRun        bool      // since the request began, and has cleared the read deadline
	armings       uint64    // that were armed
	armingsAtTick uint64    // of them, at the last tick
	ticking       bool      // the timer runs, and the connection counts as busy
	running       *watchRun // nil when nothing runs
}

// watchRun is one run of a watcher.
type watchRun struct {
	stop chan struct{} // closed to end it
	done chan struct{} // closed when it has ended
	once sync.Once
}

func (w *watcher) init(c *conn) {
	w.conn = c
}

// start starts a request.
func (w *watcher) begin(x *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchange = x
	w.armLocked()
}

// arm starts the delay: from here on nothing else reads from the connection.
func (w *watcher) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.exchange != nil {
		w.armLocked()
	}
}

// armLocked is arm. w.mu is held.
func (w *watcher) armLocked() {
	w.armed = true
	w.armings++
	switch {
	case w.ticking:
		return
	case w.timer == nil:
		w.timer = time.AfterFunc(watchDelay, w.tick)
	default:
		w.timer.Reset(watchDelay)
	}
	w.ticking, w.armingsAtTick = true, w.armings
	w.conn.server.fairness.begin()
}

// stopTicking is for a timer that does not run any more. w.mu is held.
func (w *watcher) stopTicking() {
	if w.ticking {
		w.ticking = false
		w.conn.server.fairness.end()
	}
}

// tick watches a request that takes its time.
func (w *watcher) tick() {
	w.mu.Lock()
	switch {
	case w.running != nil:
		w.stopTicking()
	case w.armings != w.armingsAtTick:
		w.armingsAtTick = w.armings
		w.timer.Reset(watchDelay)
	case w.armed && !w.readsCut:
		w.stopTicking()
		w.run()
		return
	default:
		w.stopTicking()
	}
	w.mu.Unlock()
}

// run waits for the client to leave, and then ends the request. It is called
// with w.mu held, and gives it up.
func (w *watcher) run() {
	run := &watchRun{stop: make(chan struct{}), done: make(chan struct{})}
	defer close(run.done)
	w.running, w.hasRun = run, true
	x := w.exchange
	// Before pause can set a deadline of its own, which ends the watch.
	w.conn.SetReadDeadline(time.Time{})
	w.mu.Unlock()

	err := hangup.Wait(w.conn.Conn, w.conn.br)
	switch {
	case err == nil, errors.Is(err, os.ErrDeadlineExceeded):
		return
	case err == io.EOF && w.staysHalfClosed(run, &x.writer):
		return
	}
	w.mu.Lock()
	over := w.exchange == nil // it is end that interrupted the wait
	w.mu.Unlock()
	if !over {
		x.ctx.end()
	}
}

// staysHalfClosed waits at the side of a client that has ended its stream. It
// reports false when the client has gone, and true when the watch is to end.
func (w *watcher) staysHalfClosed(run *watchRun, response *responseWriter) bool {
	tick := time.NewTicker(halfClosedPoll)
	defer tick.Stop()
	began := time.Now()
	moved, written := began, response.writes.Load() // when the response last moved
	for {
		select {
		case <-run.stop:
			return true
		case <-tick.C:
		}
		if hangup.Gone(w.conn.Conn) {
			return false
		}
		now := time.Now()
		begun, err := response.sendProbe(now.Sub(began))
		if err != nil {
			return false
		}
		if n := response.writes.Load(); n != written || n%2 != 0 || !begun {
			moved, written = now, n
		}
		if now.Sub(moved) > halfClosedSilence {
			return false
		}
	}
}

// pause ends the watch until arm is called, and returns when nothing reads
// from the connection.
func (w *watcher) pause() {
	w.mu.Lock()
	w.armed = false
	run := w.running
	w.mu.Unlock()
	w.interrupt(run)
}

// remove ends the watch of a request, and returns when nothing reads from the
// connection. Only the goroutine of the connection calls it.
func (w *watcher) end() {
	w.mu.Lock()
	w.exchange, w.armed = nil, false
	run, hasRun := w.running, w.hasRun
	w.hasRun = false
	w.mu.Unlock()
	w.interrupt(run)
	if hasRun {
		w.conn.hasDeadline, w.conn.idleDeadlineSet = false, time.Time{}
	}
}

// interrupt ends a run, if there is one, and waits for its end.
func (w *watcher) interrupt(run *watchRun) {
	if run == nil {
		return
	}
	run.once.Do(func() {
		close(run.stop)
		w.conn.SetReadDeadline(time.Unix(1, 0))
		<-run.done
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running = nil
		if !w.readsCut {
			w.conn.SetReadDeadline(time.Time{})
		}
	})
}

// cutReads ends whatever reads from the connection. The deadline for that
// stays until the connection sets another.
func (w *watcher) cutReads() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readsCut = true
	w.conn.SetReadDeadline(time.Unix(1, 0))
}

// stopReading is for a connection that will have no further request.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.armingsAtTick = w.armings
	w.stopTicking()
}
