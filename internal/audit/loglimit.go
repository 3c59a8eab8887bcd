// The bound on log lines about single requests: a client that can fill the log
// must not.

package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"example.com/networkproxy/internal/share"
)

// LogLimiter admits a number of lines a second, shared fairly among the
// sessions, and reports how many it dropped. Safe for concurrent use.
type LogLimiter struct {
	Limit int // a second; does not change
	Log   *slog.Logger

	mu      sync.Mutex
	since   time.Time             // when the present second began
	lines   share.Counter[*Owner] // that passed in it
	left    int                   // that did not, and are not told of yet
	ended   bool                  // there is no timer any more
	timer   *time.Timer
	telling sync.WaitGroup // of the timer, while it runs
}

// Allow reports whether a line about a request of from may be written now.
// from is nil where it is not known.
func (b *LogLimiter) Allow(from *Owner) bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= time.Second {
		b.since, b.lines.Limit = now, b.Limit
		b.lines.Reset()
	}
	if b.lines.Acquire(from) {
		return true
	}
	if b.left == 0 && !b.ended {
		b.telling.Add(1)
		b.timer = time.AfterFunc(time.Second-now.Sub(b.since), func() {
			defer b.telling.Done()
			b.report()
		})
	}
	b.left++
	return false
}

// report tells how many lines were left out since it last did.
func (b *LogLimiter) report() {
	b.mu.Lock()
	n := b.left
	b.left = 0
	b.mu.Unlock()
	if n > 0 {
		b.Log.Warn("lines about requests were left out of the log: there were more than log_lines_per_second in a second", "lines", n, "log_lines_per_second", b.Limit)
	}
}

// Close tells what is still to be told, and returns when nothing of the bound runs.
// What is left out after that, of a decider that has been left behind, is not
// told.
func (b *LogLimiter) Close() {
	b.mu.Lock()
	b.ended = true
	timer := b.timer
	b.mu.Unlock()
	if timer != nil && timer.Stop() {
		b.telling.Done()
		b.report()
	}
	b.telling.Wait()
}

// LimitedHandler is a log handler for lines that clients can cause and that
// belong to no session: panics, failed accepts, and all that is logged at the
// level debug. It passes those that its bounds admit. Debug lines have a bound
// of their own, so that they do not displace what is logged anyway.
type LimitedHandler struct {
	slog.Handler
	lines, debug *LogLimiter
}

// NewLimitedHandler returns a handler that passes on to h what lines and, at
// the level debug, debug allow.
func NewLimitedHandler(h slog.Handler, lines, debug *LogLimiter) LimitedHandler {
	return LimitedHandler{h, lines, debug}
}

func (h LimitedHandler) Handle(ctx context.Context, r slog.Record) error {
	bound := h.lines
	if r.Level < slog.LevelInfo {
		bound = h.debug
	}
	if !bound.Allow(nil) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h LimitedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return LimitedHandler{h.Handler.WithAttrs(attrs), h.lines, h.debug}
}

func (h LimitedHandler) WithGroup(name string) slog.Handler {
	return LimitedHandler{h.Handler.WithGroup(name), h.lines, h.debug}
}
