// The limit on log lines about single requests, so that a client cannot fill the
// log.

package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"example.com/networkproxy/internal/share"
)

// LogLimiter allows Limit log lines a second, shared fairly among the owners. It
// reports the number of dropped lines after each second that had any. Safe for
// concurrent use.
type LogLimiter struct {
	Limit int          // Required. Lines a second.
	Log   *slog.Logger // Required. For the reports of dropped lines.

	mu      sync.Mutex
	since   time.Time             // start of the current second
	allowed share.Counter[*Owner] // lines allowed since then
	dropped int                   // dropped lines not reported yet
	closed  bool                  // no new timer may start
	timer   *time.Timer           // calls report; nil before the first dropped line
	pending sync.WaitGroup        // the timer, until its report is written
}

// Allow reports whether a log line about a request of owner may be written now.
// owner is nil if it is unknown.
func (l *LogLimiter) Allow(owner *Owner) bool {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.since) >= time.Second {
		l.since, l.allowed.Limit = now, l.Limit
		l.allowed.Reset()
	}
	if l.allowed.Acquire(owner) {
		return true
	}
	if l.dropped == 0 && !l.closed {
		l.pending.Add(1)
		l.timer = time.AfterFunc(time.Second-now.Sub(l.since), func() {
			defer l.pending.Done()
			l.report()
		})
	}
	l.dropped++
	return false
}

// report logs the number of lines dropped since the last report.
func (l *LogLimiter) report() {
	l.mu.Lock()
	n := l.dropped
	l.dropped = 0
	l.mu.Unlock()
	if n > 0 {
		l.Log.Warn("dropped log lines: over log_lines_per_second in one second", "lines", n, "log_lines_per_second", l.Limit)
	}
}

// Close reports dropped lines and waits for the timer to finish. Lines dropped
// after Close, such as those about a decider that has not returned, are not
// reported.
func (l *LogLimiter) Close() {
	l.mu.Lock()
	l.closed = true
	timer := l.timer
	l.mu.Unlock()
	if timer != nil && timer.Stop() {
		l.pending.Done()
		l.report()
	}
	l.pending.Wait()
}

// LimitedHandler is a log handler for lines that clients can cause and that
// belong to no session: panics, failed accepts, and every line below the level
// info. It drops lines over its limits. Debug lines have a separate limit, so that
// they do not displace lines of higher levels.
type LimitedHandler struct {
	slog.Handler
	lines, debug *LogLimiter
}

// NewLimitedHandler returns a handler that passes lines to h within limits: debug
// for lines below the level info, lines for all others.
func NewLimitedHandler(h slog.Handler, lines, debug *LogLimiter) LimitedHandler {
	return LimitedHandler{h, lines, debug}
}

// Handle implements [slog.Handler].
func (h LimitedHandler) Handle(ctx context.Context, r slog.Record) error {
	limiter := h.lines
	if r.Level < slog.LevelInfo {
		limiter = h.debug
	}
	if !limiter.Allow(nil) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h LimitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LimitedHandler{h.Handler.WithAttrs(attrs), h.lines, h.debug}
}

// WithGroup implements [slog.Handler].
func (h LimitedHandler) WithGroup(name string) slog.Handler {
	return LimitedHandler{h.Handler.WithGroup(name), h.lines, h.debug}
}
