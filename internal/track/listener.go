// Accepting connections into a group.

package track

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	backoffMin = 5 * time.Millisecond
	backoffMax = time.Second

	// A connection over the limit gets a goroutine for its answer, so that the
	// answer cannot stall the accept loop. Both the number of these and the
	// time each has are bounded; what comes on top is closed without an answer.
	maxOverLimit     = 64
	overLimitTimeout = 2 * time.Second
)

// Listener accepts connections into a [Group]. It implements net.Listener for
// use with [http.Server.Serve] or with its own [Listener.Serve].
//
// Set the exported fields before the first call of a method. All methods are
// safe for concurrent use. A Listener must not be copied.
type Listener struct {
	// Inner is the listener that connections come from. Required. Accept
	// returns Inner's connections themselves, never a wrapper: a wrapper would
	// hide *net.TCPConn from splice.
	Inner net.Listener

	// Group receives every connection; its limit is the limit of this listener
	// and of all others that share the group or one above it. Required.
	Group *Group

	// StartIdle makes the connections idle, so that they can be closed to make room
	// for others, until their handlers call [Entry.Begin]. False leaves them busy.
	StartIdle bool

	// OverLimit is called, in a goroutine of its own, with a connection that the
	// limit refuses: it may answer and may read to let the answer arrive. It has
	// two seconds (a deadline is set), and the connection is closed when it
	// returns. nil closes without an answer.
	OverLimit func(net.Conn)

	// Logger receives accept errors and panics. nil discards.
	Logger *slog.Logger

	overLimitCalls atomic.Int64 // calls of Over under way

	mu      sync.Mutex
	entries map[net.Conn]*Entry // what Accept returned, until released or taken
	closing chan struct{}       // made by closed
	closed  bool
}

// Addr returns the address of Inner.
func (l *Listener) Addr() net.Addr { return l.Inner.Addr() }

// Close closes Inner and ends an Accept under way at once, even one that waits
// for descriptors. Connections stay open: they belong to the Group. Calls after
// the first return nil.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.closing == nil {
		l.closing = make(chan struct{})
	}
	close(l.closing)
	l.mu.Unlock()
	return l.Inner.Close()
}

// closed returns the channel that Close closes.
func (l *Listener) done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing == nil {
		l.closing = make(chan struct{})
	}
	return l.closing
}

// Accept returns the next connection within the limit, already a member of the
// group. Who accepts also releases: through [Listener.ConnState],
// [Listener.Release], or the entry that [Listener.Take] returns.
//
// A shortage of descriptors or memory, or a client that went away, is waited
// out (5 ms, doubling to 1 s) and logged. After Close, or once the group is
// closed, the error is net.ErrClosed; any other error is Inner's own and final.
func (l *Listener) Accept() (net.Conn, error) {
	c, e, err := l.accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	if l.entries == nil {
		l.entries = make(map[net.Conn]*Entry)
	}
	l.entries[c] = e
	l.mu.Unlock()
	return c, nil
}

func (l *Listener) accept() (net.Conn, *Entry, error) {
	closing := l.done()
	var delay time.Duration
	for {
		c, err := l.Inner.Accept()
		if isClosed(closing) {
			if err == nil {
				c.Close()
			}
			return nil, nil, net.ErrClosed
		}
		if err != nil {
			if !isTransient(err) {
				return nil, nil, err
			}
			delay = min(max(2*delay, backoffMin), backoffMax)
			l.logger().Warn("accept failed; trying again", "addr", l.Addr().String(), "error", err, "after", delay)
			if !sleep(delay, closing) {
				return nil, nil, net.ErrClosed
			}
			continue
		}
		delay = 0
		e, err := l.Group.Add(c)
		switch {
		case err == nil:
			if l.StartIdle {
				e.Idle(time.Now())
			}
			return c, e, nil
		case errors.Is(err, ErrFull):
			l.refuse(c)
		default:
			c.Close()
			return nil, nil, net.ErrClosed
		}
	}
}

// refuse answers a connection over the limit without holding up the caller.
func (l *Listener) refuse(c net.Conn) {
	if l.OverLimit == nil {
		c.Close()
		return
	}
	if l.overLimitCalls.Add(1) > maxOverLimit {
		l.overLimitCalls.Add(-1)
		c.Close()
		return
	}
	// A member like any other, so that shutdown cuts it and waits for it; but
	// outside the limit, or refusals would cause further refusals.
	e, err := l.Group.add(c, false)
	if err != nil {
		l.overLimitCalls.Add(-1)
		c.Close()
		return
	}
	c.SetDeadline(time.Now().Add(overLimitTimeout))
	go func() {
		defer e.Release()
		defer l.overLimitCalls.Add(-1)
		l.callSafely(c, func() bool { l.OverLimit(c); return false })
	}()
}

// Release ends the membership of a connection that Accept returned. It does not
// close it. It does nothing for a connection that is not, or no longer, there.
func (l *Listener) Release(c net.Conn) { l.Take(c).Release() }

// Entry returns the entry of a connection that Accept returned, or nil if it is
// not, or no longer, there.
func (l *Listener) Entry(c net.Conn) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[c]
}

// Take hands over a connection that Accept returned: the listener forgets it,
// and the caller releases the entry when the connection has ended. It returns
// nil for a connection that is not, or no longer, there.
func (l *Listener) Take(c net.Conn) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[c]
	delete(l.entries, c)
	return e
}

// ConnState is for [http.Server.ConnState]. It releases a connection that
// net/http has closed. A hijacked one stays a member, and so within the limit
// and within reach of CloseAll, until the handler that hijacked it has called
// Release, or Take and the entry's Release.
func (l *Listener) ConnState(c net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		l.Release(c)
	}
}

func (l *Listener) logger() *slog.Logger {
	if l.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l.Logger
}

// passing reports whether accept may succeed later on the same listener. On
// Linux, accept(2) also reports errors of the connection it would have returned.
func isTransient(err error) bool {
	for _, e := range []syscall.Errno{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM,
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR, syscall.EPROTO,
		syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait waits for d and reports whether it did; false means closing came first.
func sleep(d time.Duration, closing <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-closing:
		return false
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
