// Reading a socket of datagrams until it is closed or idle.

package socksproxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// maxReadErrors is how many errors in a row end the reading of a socket. A few
// mean that a datagram which it sent was not welcome (a closed port answers
// with ICMP), which is no reason to stop; so many mean that it is broken.
const maxReadErrors = 100

// readLoop calls read, which reads one datagram from conn, until conn is closed or
// nothing has moved for idle.
func readLoop(conn interface{ SetReadDeadline(time.Time) error }, active *activity, idle time.Duration, read func() error) {
	// The deadline is moved when it passes, not with every datagram.
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

// activity is when something last moved. Call start first; then it is safe
// for concurrent use.
type activity struct {
	began time.Time
	after atomic.Int64 // since began, so that setting the clock changes nothing
}

func (a *activity) start() { a.began = time.Now() }

func (a *activity) touch() { a.after.Store(int64(time.Since(a.began))) }

func (a *activity) idle() time.Duration {
	return time.Since(a.began) - time.Duration(a.after.Load())
}
