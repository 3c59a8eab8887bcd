// The bound on log lines, on the clock of a bubble.

package audit

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/testnet"
)

func TestLineBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log testnet.Buffer
		b := &LogLimiter{Limit: 3, Log: slog.New(slog.NewTextHandler(&log, nil))}
		passed := func(n int) (passed int) {
			for range n {
				if b.Allow(nil) {
					passed++
				}
			}
			return passed
		}
		told := func() string {
			synctest.Wait()
			return log.Take()
		}

		if n := passed(3); n != 3 {
			t.Errorf("%d of 3 lines passed", n)
		}
		time.Sleep(2 * time.Second)
		if s := told(); s != "" {
			t.Errorf("told, with nothing left out: %s", s)
		}

		if n := passed(2); n != 2 {
			t.Errorf("%d of 2 lines passed in a new second", n)
		}
		time.Sleep(900 * time.Millisecond)
		if n := passed(10); n != 1 {
			t.Errorf("%d lines passed, with 1 of 3 left in the second", n)
		}
		if s := told(); s != "" {
			t.Errorf("told before the second was over: %s", s)
		}
		time.Sleep(100 * time.Millisecond)
		if s := told(); !strings.Contains(s, " lines=9 log_lines_per_second=3\n") || strings.Count(s, "\n") != 1 {
			t.Errorf("after a second: %q", s)
		}
		if n := passed(1); n != 1 {
			t.Error("no line passes in the second after one with too many")
		}

		passed(6)
		b.Close() // before the second is over
		if s := told(); !strings.Contains(s, " lines=4 ") {
			t.Errorf("at the end: %q", s)
		}
		passed(10)
		time.Sleep(time.Minute)
		if s := told(); s != "" {
			t.Errorf("after the end: %s", s)
		}
	})
}

// TestLineBoundEndsWhileItTells: whoever ends it waits for a line under way.
func TestLineBoundEndsWhileItTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log slowLog
		b := &LogLimiter{Limit: 1, Log: slog.New(slog.NewTextHandler(&log, nil))}
		b.Allow(nil)
		b.Allow(nil)
		time.Sleep(time.Second + time.Millisecond)
		b.Close()
		if log.lines != 1 {
			t.Errorf("%d lines are written when the end returns", log.lines)
		}
	})
}

// slowLog takes a minute for a line.
type slowLog struct{ lines int }

func (l *slowLog) Write(p []byte) (int, error) {
	time.Sleep(time.Minute)
	l.lines++
	return len(p), nil
}
