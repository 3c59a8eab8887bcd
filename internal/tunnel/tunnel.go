// Package tunnel relays bytes in both directions between two connections, as a
// proxy does after CONNECT, SOCKS5 CONNECT or an upgrade (RFC 9110 sections 7.8
// and 9.3.6, RFC 1928 section 6).
//
// It opens no connections and knows no policy: the caller passes two
// connections that may exchange data. An [Inspector] may still refuse a tunnel
// by its first bytes.
//
// [Relay] is the whole API. It runs on the caller's goroutine and up to two
// more, and returns when both directions have ended and both connections are
// closed. Closing the connections from any goroutine ends it (see [Pair]).
//
// On Linux, a tunnel between TCP or Unix sockets holds no buffer and no pipe
// while idle. It waits until a socket is readable, copies through a pooled
// buffer, and uses splice(2) for large streams. Elsewhere, and for other
// connections, it copies through a buffer.
package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Options are the limits of one tunnel and the bytes read before it began. The
// zero value means no limits and no such bytes.
type Options struct {
	// IdleTimeout ends the tunnel when no byte has been written to a or b for
	// that long. A long transfer in one direction is not idle, but one whose
	// receiver has stopped reading is. 0 means no limit. The kernel may still
	// be sending bytes that were written earlier.
	IdleTimeout time.Duration

	// Lifetime ends the tunnel that long after it began. 0 means no limit.
	Lifetime time.Duration

	// Early holds bytes already read from a. They are written to b first. The
	// tunnel keeps no reference to them afterwards.
	Early []byte

	// EarlyBack holds bytes already read from b. They are written to a first.
	EarlyBack []byte

	// Inspect decides whether the first bytes from a may go to b. If nil, all
	// bytes may.
	Inspect Inspector

	// HoldTimeout bounds how long Inspect may hold bytes back, counted from the
	// first of them. After that it must decide. 0 means no limit.
	HoldTimeout time.Duration
}

// Cause says why a tunnel ended. The zero value is CauseEnded.
type Cause uint8

const (
	CauseEnded    Cause = iota // both streams ended
	CauseIdle                  // Options.IdleTimeout passed
	CauseLifetime              // Options.Lifetime passed
	CauseResetByA              // a's connection broke: a reset or another error
	CauseResetByB              // b's connection broke
	CauseClosed                // a or b was closed from outside
	CauseRefused               // Options.Inspect refused
)

// String returns a stable word for logs and metrics.
func (c Cause) String() string {
	switch c {
	case CauseEnded:
		return "ended"
	case CauseIdle:
		return "idle"
	case CauseLifetime:
		return "lifetime"
	case CauseResetByA:
		return "reset_by_a"
	case CauseResetByB:
		return "reset_by_b"
	case CauseClosed:
		return "closed"
	case CauseRefused:
		return "refused"
	}
	return "unknown"
}

// Result describes a tunnel that has ended.
type Result struct {
	Sent     int64 // bytes written to b, early ones included
	Received int64 // bytes written to a, early ones included
	Cause    Cause
	Err      error // the error behind CauseResetByA, CauseResetByB and CauseClosed; otherwise nil
}

// Pair closes both ends of a tunnel. An owner keeps it to end the tunnel from
// outside.
type Pair struct{ A, B net.Conn }

// Close closes A and B and returns their errors.
func (p Pair) Close() error { return errors.Join(p.A.Close(), p.B.Close()) }

// drainTimeout is how long bytes from a broken connection are still relayed.
// The peer may have sent a reason (an early HTTP response, a TLS alert) before
// it stopped reading, and that is still in the receive queue.
const drainTimeout = time.Second

// Relay copies from a to b and from b to a until both streams have ended, and
// closes both connections. It uses the caller's goroutine and up to two more,
// which have ended when Relay returns.
//
// Relay passes the end of one stream on with CloseWrite (a FIN), and the other
// direction continues. A connection without CloseWrite cannot be half-closed,
// so the end of the stream towards it ends the tunnel.
//
// When a connection breaks, the tunnel ends at once. The other connection is
// reset (SetLinger(0)) rather than closed, so that a truncated stream does not
// look complete. If the connection broke on a write, the bytes received from it
// earlier are relayed first, for up to a second. As on a direct connection, the
// reset may overtake those that exceed the peer's receive window.
//
// A tunnel that ends by Lifetime or by a close from outside also resets the
// streams that it truncates. One that ends by IdleTimeout closes normally. When
// Inspect refuses, a connection that has received bytes is reset and one that
// has not is closed. A client that has received nothing gets the inspector's
// reply and has up to a second to read it.
//
// Closing a and b from outside, at any time and from any goroutine, ends the
// tunnel at once; see [Pair]. Closing only one of them is noticed when the
// tunnel next uses it: usually at once, but not while a write to the other
// connection blocks. If the stream of the closed connection had already ended,
// it takes up to a quarter of a second for a socket, and for any other
// connection until there is something to write to it.
//
// Relay clears the deadlines of both connections and sets its own. Nothing else
// may set deadlines while it runs.
func Relay(a, b net.Conn, opts Options) Result {
	rawA, rawB := rawStream(a), rawStream(b)
	t := &tunnel{
		forward:     direction{src: a, dst: b, rawSrc: rawA, rawDst: rawB, early: opts.Early},
		back:        direction{src: b, dst: a, rawSrc: rawB, rawDst: rawA, early: opts.EarlyBack},
		inspect:     opts.Inspect,
		holdTimeout: opts.HoldTimeout,
	}
	t.forward.tunnel, t.back.tunnel = t, t
	a.SetDeadline(time.Time{})
	b.SetDeadline(time.Time{})
	t.startTimer(opts.IdleTimeout, opts.Lifetime)

	t.running.Go(t.back.run)
	t.forward.run()
	t.running.Wait()
	t.sendReply()

	return Result{Sent: t.forward.written, Received: t.back.written, Cause: t.cause, Err: t.err}
}

// tunnel is the state shared by the two directions and the timer.
type tunnel struct {
	forward, back direction      // a to b, and b to a
	running       sync.WaitGroup // all goroutines except the caller's
	clock         clock
	inspect       Inspector     // Options.Inspect
	holdTimeout   time.Duration // Options.HoldTimeout

	reply []byte // written to a if the tunnel was refused

	mu       sync.Mutex
	decided  bool // cause is set; a direction may still be draining
	replying bool // b is closed, and a stays open for the reply
	closed   bool // both connections are closed
	cause    Cause
	err      error
}

func (t *tunnel) opposite(d *direction) *direction {
	if d == &t.forward {
		return &t.back
	}
	return &t.forward
}

// sourceEnded records that d has copied its whole stream, and passes the end of
// the stream on.
func (t *tunnel) sourceEnded(d *direction) {
	w, canHalfClose := d.dst.(interface{ CloseWrite() error })

	t.mu.Lock()
	d.complete, d.done = true, true
	// The opposite direction may be done because its write to d.src failed. The
	// kernel reports such a reset only once, so reading returns an ordinary end
	// of stream here.
	if t.opposite(d).done || !canHalfClose {
		if t.decided {
			d.uncork() // the reset would discard the corked bytes
		}
		t.close()
	}
	open := !t.closed && !t.replying // the reply to a comes before the end of the stream
	if open {
		t.scheduleWatch(d)
	}
	t.mu.Unlock()

	if open {
		w.CloseWrite() // ignore the error: it means that dst broke, and the opposite direction sees that too
	}
}

// sourceBroke ends the tunnel because reading from d.src failed.
func (t *tunnel) sourceBroke(d *direction, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.done = true
	t.setCause(t.causeOf(err, d), err)
	t.close()
}

// destinationBroke ends d because writing to d.dst failed. It ends the tunnel
// once the bytes received from d.dst have been relayed.
func (t *tunnel) destinationBroke(d *direction, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.done = true
	if t.replying {
		abort(d.dst) // a reads nothing, so it would not read the reply either
		return
	}
	cause := t.causeOf(err, t.opposite(d))
	t.setCause(cause, err)
	if cause == CauseClosed || t.opposite(d).done {
		t.close()
		return
	}
	t.expireWithin(drainTimeout)
}

// causeOf returns the cause for an error of d.src.
func (t *tunnel) causeOf(err error, d *direction) Cause {
	switch {
	case errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.Is(err, os.ErrDeadlineExceeded):
		return CauseClosed
	case d == &t.forward:
		return CauseResetByA
	default:
		return CauseResetByB
	}
}

// setCause records the first cause; later ones are consequences of it. t.mu is
// held.
func (t *tunnel) setCause(c Cause, err error) {
	if t.decided || t.closed {
		return
	}
	t.decided, t.cause, t.err = true, c, err
}

// close closes both connections, which ends both directions. t.mu is held.
func (t *tunnel) close() {
	if t.closed || t.replying {
		return
	}
	t.closed = true
	t.stopTimer()
	for _, d := range []*direction{&t.forward, &t.back} {
		reset := false
		switch t.cause {
		case CauseResetByA, CauseResetByB:
			reset = true
		case CauseLifetime, CauseClosed:
			reset = !d.complete
		}
		if reset {
			abort(d.dst)
		} else {
			d.dst.Close()
		}
	}
}

// abort closes c so that its peer sees a reset, if c supports that. For a TLS
// connection it closes the transport, because a close_notify would signal a
// proper end.
func abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ SetLinger(int) error }:
		c.SetLinger(0)
	case interface{ NetConn() net.Conn }:
		abort(c.NetConn())
	}
	c.Close()
}
