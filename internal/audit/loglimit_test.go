// Tests of the log limiter with the fake clock of synctest.

package audit

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/testnet"
)

func TestLogLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testnet.Buffer
		l := &LogLimiter{Limit: 3, Log: slog.New(slog.NewTextHandler(&log, nil))}
		allowed := func(n int) (count int) {
			for range n {
				if l.Allow(nil) {
					count++
				}
			}
			return count
		}
		logged := func() string {
			synctest.Wait()
			return log.Take()
		}

		if n := allowed(3); n != 3 {
			t.Errorf("%d of 3 lines allowed, want 3", n)
		}
		time.Sleep(2 * time.Second)
		if s := logged(); s != "" {
			t.Errorf("report without dropped lines: %s", s)
		}

		if n := allowed(2); n != 2 {
			t.Errorf("%d of 2 lines allowed in a new second, want 2", n)
		}
		time.Sleep(900 * time.Millisecond)
		if n := allowed(10); n != 1 {
			t.Errorf("%d lines allowed with 1 of 3 left in the second, want 1", n)
		}
		if s := logged(); s != "" {
			t.Errorf("report before the end of the second: %s", s)
		}
		time.Sleep(100 * time.Millisecond)
		if s := logged(); !strings.Contains(s, " lines=9 log_lines_per_second=3\n") || strings.Count(s, "\n") != 1 {
			t.Errorf("report after a second: %q", s)
		}
		if n := allowed(1); n != 1 {
			t.Error("line refused in the second after one with dropped lines")
		}

		allowed(6)
		l.Close() // before the second is over
		if s := logged(); !strings.Contains(s, " lines=4 ") {
			t.Errorf("report of Close: %q", s)
		}
		allowed(10)
		time.Sleep(time.Minute)
		if s := logged(); s != "" {
			t.Errorf("report after Close: %s", s)
		}
	})
}

// TestLogLimiterCloseWaits checks that Close waits for a report being written.
func TestLogLimiterCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log slowLog
		l := &LogLimiter{Limit: 1, Log: slog.New(slog.NewTextHandler(&log, nil))}
		l.Allow(nil)
		l.Allow(nil)
		time.Sleep(time.Second + time.Millisecond)
		l.Close()
		if log.lines != 1 {
			t.Errorf("%d lines written when Close returned, want 1", log.lines)
		}
	})
}

// slowLog takes a minute to write a line.
type slowLog struct{ lines int }

func (l *slowLog) Write(p []byte) (int, error) {
	time.Sleep(time.Minute)
	l.lines++
	return len(p), nil
}
