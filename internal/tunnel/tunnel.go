// Package tunnel relays bytes both ways between two connections, as a proxy
// does after CONNECT, SOCKS5 CONNECT or an upgrade (RFC 9110 sections 7.8 and
// 9.3.6, RFC 1928 section 6).
//
// On Linux a tunnel between TCP or Unix sockets holds no buffer and no pipe
// while nothing moves: it waits until a socket is readable, copies through a
// pooled buffer, and lets the kernel move the bytes (splice) while a stream is
// large. Elsewhere, and for other connections, it copies through a buffer.
//
// The package knows nothing of policy: it is given two connections that are
// allowed to talk.
package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Options are the limits of one tunnel and what was read before it began. The
// zero value has no limits and no early bytes.
type Options struct {
	// IdleTimeout ends the tunnel when no byte was written to a or b for so long; a long
	// transfer one way is not idle, one whose receiver has stopped reading is. 0
	// means no limit. The kernel may still be sending what was written earlier.
	IdleTimeout time.Duration

	// Lifetime ends the tunnel so long after it began. 0 means no limit.
	Lifetime time.Duration

	// Early holds bytes already read from a, to be written to b before all
	// else. The tunnel keeps no reference once they are written.
	Early []byte

	// EarlyBack holds bytes already read from b, to be written to a first.
	EarlyBack []byte

	// Inspect decides whether what a sends may go to b, until it has seen enough.
	// If it is nil, everything may.
	Inspect Inspector

	// HoldTimeout bounds how long Inspect may hold bytes back, from the first of them
	// on. After that it has to decide. 0 means no limit.
	HoldTimeout time.Duration
}

// Cause says why a tunnel ended. The zero value is CauseEnded.
type Cause uint8

const (
	CauseEnded    Cause = iota // both directions reached their end
	CauseIdle                  // Options.Idle passed
	CauseLifetime              // Options.Lifetime passed
	CauseResetByA              // a's connection broke: a reset, or another error
	CauseResetByB              // b's connection broke
	CauseClosed                // a or b was closed from outside
	CauseRefused               // Options.Inspect said so
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

// Result is what became of a tunnel.
type Result struct {
	Sent     int64 // bytes written to b, early ones included
	Received int64 // bytes written to a, early ones included
	Cause    Cause
	Err      error // the error behind CauseResetByA, CauseResetByB and CauseClosed; else nil
}

// Pair closes both ends of a tunnel. It is what an owner keeps in order to cut
// the tunnel from outside.
type Pair struct{ A, B net.Conn }

// Close closes A and B and returns their errors.
func (p Pair) Close() error { return errors.Join(p.A.Close(), p.B.Close()) }

// lastWords is how long the direction from a broken destination may go on: the
// destination may have said why (an early HTTP response, a TLS alert) before it
// stopped reading, and that is still in its receive queue.
const drainTimeout = time.Second

// Relay copies from a to b and from b to a until both directions have ended,
// and closes both connections. It uses the caller's goroutine and up to two
// more, which have ended when Relay returns.
//
// The end of one stream is passed on with CloseWrite (a FIN), and the opposite
// direction goes on. A connection without CloseWrite cannot be half-closed: the
// end of the stream towards it ends the tunnel.
//
// When a connection breaks, the tunnel ends at once, and the other connection
// is reset (SetLinger(0)) rather than closed, so that a stream cut short does
// not look complete. If it broke under a write, what it had sent before is
// passed on first, for up to a second and, as on a direct connection, as far as
// the other's receive window takes it before the reset. A tunnel that ends by Lifetime or by a
// close from outside resets the streams it cuts short too; one that ends by
// Idle closes in the ordinary way. When Inspect refuses, a connection is reset
// that was sent something before, and otherwise closed; a has up to a second to
// read the farewell.
//
// Closing a and b from outside, at any time and from any goroutine, ends the
// tunnel at once; see [Pair]. Closing only one of them is noticed when the tunnel
// next touches it, which is at once unless a write to the other one is stalled,
// or its own stream has ended before: then it takes up to a quarter of a second,
// and, where it is no socket, until there is something to write to it.
//
// Relay clears the deadlines of both connections and sets its own; nobody else
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

// tunnel is the state that the two directions and the timer share.
type tunnel struct {
	forward, back direction      // a to b, b to a
	running       sync.WaitGroup // the goroutines but for the caller's
	clock         clock
	inspect       Inspector     // Options.Inspect
	holdTimeout   time.Duration // Options.HoldTime

	reply []byte // to a, if the tunnel was refused

	mu       sync.Mutex
	decided  bool // cause is decided; a direction may be delivering last words
	replying bool // b is closed, and a stays open for the farewell
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

// ended records that d has carried its whole stream, and passes the end on.
func (t *tunnel) sourceEnded(d *direction) {
	w, canHalfClose := d.dst.(interface{ CloseWrite() error })

	t.mu.Lock()
	d.complete, d.done = true, true
	// The opposite direction may be done because its write to d.src failed: the
	// kernel, having reported that reset once, reports an ordinary end here.
	if t.opposite(d).done || !canHalfClose {
		if t.decided {
			d.uncork() // a reset would drop it
		}
		t.close()
	}
	open := !t.closed
	if open {
		t.scheduleWatch(d)
	}
	t.mu.Unlock()

	if open {
		w.CloseWrite() // an error here means that dst broke: the opposite direction meets it
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

// destinationBroke ends d because writing to d.dst failed, and the tunnel with
// it once d.dst's last words are delivered.
func (t *tunnel) destinationBroke(d *direction, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d.done = true
	cause := t.causeOf(err, t.opposite(d))
	t.setCause(cause, err)
	if cause == CauseClosed || t.opposite(d).done {
		t.close()
		return
	}
	t.expireWithin(drainTimeout)
}

// causeOf names the cause of an error of d.src.
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

// decide records the first cause; later ones are its consequences. t.mu is held.
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

// abort closes c so that its peer sees a reset, where c can do that. Under a TLS
// connection it closes the transport: a close_notify would claim a proper end.
func abort(c net.Conn) {
	switch c := c.(type) {
	case interface{ SetLinger(int) error }:
		c.SetLinger(0)
	case interface{ NetConn() net.Conn }:
		abort(c.NetConn())
	}
	c.Close()
}
