// Listener: accepts connections into a group.

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

	// A connection over the limit gets a goroutine to write its refusal, so
	// that writing cannot stall the accept loop. The number of these goroutines
	// and their time are bounded. Connections beyond that number are closed
	// without a response.
	maxOverLimit     = 64
	overLimitTimeout = 2 * time.Second
)

// Listener accepts connections into a [Group]. It implements net.Listener for
// use with [http.Server.Serve], and has its own [Listener.Serve].
//
// Set the exported fields before the first method call. All methods are safe
// for concurrent use. A Listener must not be copied.
type Listener struct {
	// Inner is the listener to accept from. Required. Accept returns Inner's
	// connections unwrapped, because a wrapper would hide *net.TCPConn from
	// splice.
	Inner net.Listener

	// Group receives every connection. Its limit applies to all listeners that
	// share the group or one above it. Required.
	Group *Group

	// StartIdle marks new connections as idle, so that they can be closed to
	// make room for others until their handlers call [Entry.Begin]. By default
	// new connections are busy.
	StartIdle bool

	// OverLimit is called in its own goroutine with a connection that the limit
	// refuses. It may write a response, and may read to let the response
	// arrive. A deadline of two seconds is set on the connection, which is
	// closed when OverLimit returns. If nil, connections over the limit are
	// closed without a response.
	OverLimit func(net.Conn)

	// Logger receives accept errors and panics. If nil, they are discarded.
	Logger *slog.Logger

	overLimitCalls atomic.Int64 // running calls of OverLimit

	mu      sync.Mutex
	entries map[net.Conn]*Entry // connections returned by Accept, until released or taken
	closing chan struct{}       // created by done
	closed  bool
}

// Addr returns the address of Inner.
func (l *Listener) Addr() net.Addr { return l.Inner.Addr() }

// Close closes Inner and interrupts a running Accept at once, even during its
// backoff. Connections stay open: they belong to the Group. Calls after the
// first return nil.
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

// done returns the channel that Close closes.
func (l *Listener) done() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing == nil {
		l.closing = make(chan struct{})
	}
	return l.closing
}

// Accept returns the next connection within the limit, already a member of the
// group. The caller must release the membership, by [Listener.ConnState],
// [Listener.Release], or the entry that [Listener.Take] returns.
//
// If descriptors or memory run out, or a client disconnects early, Accept logs
// the error and tries again after 5 ms, doubling to 1 s. After Close, or once
// the group is closed, the error is net.ErrClosed. Any other error is Inner's
// own and permanent.
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

// refuse passes a connection over the limit to OverLimit. It does not block.
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
	// The connection is a member like any other, so that shutdown closes it and
	// waits for it. It does not count toward the limit, because otherwise
	// refusals would cause further refusals.
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

// Release ends the membership of a connection that Accept returned, without
// closing it. It does nothing if c is unknown or already released.
func (l *Listener) Release(c net.Conn) { l.Take(c).Release() }

// Entry returns the entry of a connection that Accept returned, or nil if c is
// unknown or already released.
func (l *Listener) Entry(c net.Conn) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[c]
}

// Take removes a connection that Accept returned from the listener's records.
// The caller releases the entry when the connection has ended. Take returns nil
// if c is unknown or already released.
func (l *Listener) Take(c net.Conn) *Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[c]
	delete(l.entries, c)
	return e
}

// ConnState is for [http.Server.ConnState]. It releases a connection when
// net/http closes it. A hijacked connection stays a member, so it counts toward
// the limit and CloseAll closes it, until its handler calls Release, or Take
// and the entry's Release.
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

// isTransient reports whether a later accept on the same listener may succeed.
// On Linux, accept(2) also reports pending errors of the new connection.
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

// sleep waits for d and reports true, or false if closing is closed first.
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
