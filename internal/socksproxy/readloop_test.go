// Tests of the end of readLoop, on the clock of synctest.

package socksproxy

import (
	"errors"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// slowSocket delivers a datagram or an error after each of the delays in after.
type slowSocket struct {
	after    []time.Duration
	errs     []error
	deadline time.Time
	closed   bool
}

func (s *slowSocket) SetReadDeadline(t time.Time) error {
	s.deadline = t
	return nil
}

func (s *slowSocket) read() error {
	if s.closed {
		return net.ErrClosed
	}
	if len(s.after) == 0 || time.Until(s.deadline) < s.after[0] {
		left := time.Until(s.deadline)
		if len(s.after) > 0 {
			s.after[0] -= left
		}
		time.Sleep(left)
		return os.ErrDeadlineExceeded
	}
	time.Sleep(s.after[0])
	s.after = s.after[1:]
	if len(s.errs) == 0 {
		return nil
	}
	err := s.errs[0]
	s.errs = s.errs[1:]
	return err
}

func TestReadLoop(t *testing.T) {
	t.Parallel()
	const idle = time.Minute
	failures := make([]error, maxReadErrors+5)
	for i := range failures {
		failures[i] = errors.New("connection refused")
	}
	tests := []struct {
		name  string
		sock  slowSocket
		lasts time.Duration
		reads int // number of datagrams
	}{
		{"nothing comes", slowSocket{}, idle, 0},
		{"one datagram", slowSocket{after: []time.Duration{40 * time.Second}}, 40*time.Second + idle, 1},
		{"a steady stream", slowSocket{after: []time.Duration{50 * time.Second, 50 * time.Second, 50 * time.Second}}, 150*time.Second + idle, 3},
		{"one that comes too late", slowSocket{after: []time.Duration{30 * time.Second, 61 * time.Second}}, 30*time.Second + idle, 1},
		{"closed", slowSocket{closed: true}, 0, 0},
		{"one error", slowSocket{after: []time.Duration{0, time.Second}, errs: failures[:1]}, time.Second + idle, 1},
		{"nothing but errors", slowSocket{after: make([]time.Duration, len(failures)), errs: failures}, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var active activity
				active.start()
				reads := 0
				start := time.Now()
				readLoop(&test.sock, &active, idle, func() error {
					err := test.sock.read()
					if err == nil {
						reads++
						active.touch()
					}
					return err
				})
				if got := time.Since(start); got != test.lasts || reads != test.reads {
					t.Errorf("ended after %v and %d datagrams, want %v and %d", got, reads, test.lasts, test.reads)
				}
			})
		})
	}
}
