package socksproxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// maxReadErrors is the number of errors in a row that end a readLoop. A few
// errors are normal: the ICMP error that a datagram to a closed port causes is
// returned by a later read. This many mean that the socket is broken.
const maxReadErrors = 100

// readLoop calls read, which reads datagrams from conn, until conn is closed or no
// data was transferred for the duration idle, according to active.
func readLoop(conn interface{ SetReadDeadline(time.Time) error }, active *activity, idle time.Duration, read func() error) {
	// The deadline is extended when it passes, not with every datagram.
	conn.SetReadDeadline(time.Now().Add(idle))
	for failures := 0; failures < maxReadErrors; {
		switch err := read(); {
		case err == nil:
			failures = 0
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			left := idle - active.idle()
			if left <= 0 {
				return
			}
			conn.SetReadDeadline(time.Now().Add(left))
		default:
			failures++
		}
	}
}

// activity is the time at which data was last transferred. Call start before
// its first use. Afterwards it is safe for concurrent use.
type activity struct {
	began time.Time
	after atomic.Int64 // nanoseconds since began, which setting the clock does not change
}

func (a *activity) start() { a.began = time.Now() }

// touch sets the time to now.
func (a *activity) touch() { a.after.Store(int64(time.Since(a.began))) }

// idle returns the time since the last touch, or since start.
func (a *activity) idle() time.Duration {
	return time.Since(a.began) - time.Duration(a.after.Load())
}
