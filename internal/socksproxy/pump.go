// Reading a socket of datagrams until it is closed or idle.

package socksproxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// pumpErrors is how many errors in a row end the reading of a socket. A few
// mean that a datagram which it sent was not welcome (a closed port answers
// with ICMP), which is no reason to stop; so many mean that it is broken.
const pumpErrors = 100

// pump calls read, which reads one datagram from conn, until conn is closed or
// nothing has moved for idle.
func pump(conn interface{ SetReadDeadline(time.Time) error }, moved *lastMoved, idle time.Duration, read func() error) {
	// The deadline is moved when it passes, not with every datagram.
	conn.SetReadDeadline(time.Now().Add(idle))
	for failures := 0; failures < pumpErrors; {
		switch err := read(); {
		case err == nil:
			failures = 0
		case errors.Is(err, net.ErrClosed):
			return
		case errors.Is(err, os.ErrDeadlineExceeded):
			left := idle - moved.ago()
			if left <= 0 {
				return
			}
			conn.SetReadDeadline(time.Now().Add(left))
		default:
			failures++
		}
	}
}

// lastMoved is when something last moved. Call start first; then it is safe
// for concurrent use.
type lastMoved struct {
	began time.Time
	after atomic.Int64 // since began, so that setting the clock changes nothing
}

func (m *lastMoved) start() { m.began = time.Now() }

func (m *lastMoved) touch() { m.after.Store(int64(time.Since(m.began))) }

func (m *lastMoved) ago() time.Duration {
	return time.Since(m.began) - time.Duration(m.after.Load())
}
