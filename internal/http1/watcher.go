// Detecting that a client disconnects while it waits for a response.

package http1

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"example.com/networkproxy/internal/hangup"
)

// watchDelay is the age at which a request is watched. Most responses are
// faster and cost no goroutine.
const watchDelay = 20 * time.Millisecond

// probeTimes are the times after the end of the client's stream at which the
// bytes of the status line are sent. A client that ends its stream after its
// request may be waiting for the response (RFC 9112 section 9.6) or have
// closed the connection; package hangup explains how sending a byte tells them
// apart. Every response begins with the same bytes, so these can be sent ahead
// one by one. The later times are for a client that disconnects later.
var probeTimes = [len(statusPrefix)]time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second,
	time.Minute, 3 * time.Minute, 10 * time.Minute, 30 * time.Minute,
}

const (
	// halfClosedPoll is the interval at which a half-closed connection is
	// checked.
	halfClosedPoll = 100 * time.Millisecond

	// halfClosedSilence is how long a response that has begun may send nothing
	// to a half-closed client. There is no byte left to probe with.
	halfClosedSilence = 10 * time.Second
)

// watcher ends a request when its client disconnects. It watches while nothing
// else reads from the connection, which is before and after the body is read.
// It watches the requests of a connection one after another.
//
// The timer is not set for each request. It keeps ticking while there are
// requests, and a request that is under way at two ticks is watched. While the
// timer ticks, the connection counts as busy; see fairness.
type watcher struct {
	conn  *conn
	timer *time.Timer // calls tick; nil before the first request

	mu            sync.Mutex
	exchange      *exchange // the current request's; nil between requests
	armed         bool      // nothing else reads from the connection
	readsCut      bool      // cutReads was called; its deadline must stay set
	hasRun        bool      // a run for the current request has cleared the read deadline
	armings       uint64    // number of calls of armLocked
	armingsAtTick uint64    // armings at the last tick
	ticking       bool      // the timer runs and the connection counts as busy
	running       *watchRun // the current run; nil if there is none
}

// watchRun is one run of a watcher.
type watchRun struct {
	stop chan struct{} // closed to end the run
	done chan struct{} // closed when the run has ended
	once sync.Once     // for stopping the run
}

func (w *watcher) init(c *conn) {
	w.conn = c
}

// begin starts watching a request.
func (w *watcher) begin(x *exchange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exchange = x
	w.armLocked()
}

// arm starts the delay. Nothing else may read from the connection until pause
// or end is called.
func (w *watcher) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.exchange != nil {
		w.armLocked()
	}
}

// armLocked is arm with w.mu held.
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

// stopTicking records that the timer does not run any more. w.mu must be held.
func (w *watcher) stopTicking() {
	if w.ticking {
		w.ticking = false
		w.conn.server.fairness.end()
	}
}

// tick starts watching a request that was already under way at the previous
// tick.
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

// run waits until the client disconnects and then ends the request. w.mu must
// be held; run releases it.
func (w *watcher) run() {
	run := &watchRun{stop: make(chan struct{}), done: make(chan struct{})}
	defer close(run.done)
	w.running, w.hasRun = run, true
	x := w.exchange
	// Clear the deadline with mu held, before pause can set the one that ends
	// the run.
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
	over := w.exchange == nil // end interrupted the wait
	w.mu.Unlock()
	if !over {
		x.ctx.end()
	}
}

// staysHalfClosed watches a client that has ended its stream. It returns false
// when the client has disconnected, and true when the run is to end.
func (w *watcher) staysHalfClosed(run *watchRun, resp *responseWriter) bool {
	tick := time.NewTicker(halfClosedPoll)
	defer tick.Stop()
	began := time.Now()
	progressAt, written := began, resp.writes.Load() // when the response last made progress
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
		begun, err := resp.sendProbe(now.Sub(began))
		if err != nil {
			return false
		}
		if n := resp.writes.Load(); n != written || n%2 != 0 || !begun {
			progressAt, written = now, n
		}
		if now.Sub(progressAt) > halfClosedSilence {
			return false
		}
	}
}

// pause stops watching until arm is called. When it returns, nothing reads
// from the connection.
func (w *watcher) pause() {
	w.mu.Lock()
	w.armed = false
	run := w.running
	w.mu.Unlock()
	w.interrupt(run)
}

// end stops watching the current request. When it returns, nothing reads from
// the connection. Only the connection's goroutine may call it.
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

// interrupt ends a run and waits until it has ended. run may be nil.
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

// cutReads interrupts every read from the connection. Its deadline stays until
// the connection sets another one.
func (w *watcher) cutReads() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.readsCut = true
	w.conn.SetReadDeadline(time.Unix(1, 0))
}

// stop stops the timer. The connection must have no further request.
func (w *watcher) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.armingsAtTick = w.armings
	w.stopTicking()
}
