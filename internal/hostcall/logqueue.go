package hostcall

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// levelsMaxAge is how long the results of the handler's Enabled are used before the handler is asked again. A host may change
// the level of its log while the proxy runs.
const levelsMaxAge = 100 * time.Millisecond

// logLevels are the levels at which the proxy logs.
var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// LogQueue passes log lines to a handler of the host, in order, on one goroutine. The handler may be slow, may block forever
// and may call back into the proxy. A line that finds too many waiting is dropped and counted. The time of a line is the time
// of the log call. Use [NewLogQueue]. Safe for concurrent use.
type LogQueue struct {
	handler slog.Handler
	lines   Mailbox[logLine]
	calls   *Calls

	// The results of the handler's Enabled, one bit for each of logLevels, and
	// their time as a duration since began.
	levels       atomic.Uint32
	levelsAt     atomic.Int64
	askingLevels atomic.Bool
	began        time.Time
}

// logLine is a record and its scope.
type logLine struct {
	record slog.Record
	scope  *logScope
}

// NewLogQueue returns a logger that passes its lines to the handler of log through a queue. It returns log itself and a nil
// queue if log discards everything.
func NewLogQueue(log *slog.Logger, calls *Calls) (*slog.Logger, *LogQueue) {
	if log.Handler() == slog.DiscardHandler {
		return log, nil
	}
	q := &LogQueue{handler: log.Handler(), calls: calls, began: time.Now()}
	q.lines = Mailbox[logLine]{
		Limit: MailboxLimit, Calls: calls, Kind: LogHandler,
		Deliver: q.write,
		Resumed: func(n int) {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines are missing here, because the log handler did not return in time for them", 0)
			r.AddAttrs(slog.Int("lines", n))
			q.write(logLine{record: r})
		},
	}
	q.levels.Store(0b1110) // info and above until the handler has returned
	q.askLevels()
	return slog.New(queuedHandler{queue: q}), q
}

// write calls the handler.
func (q *LogQueue) write(l logLine) {
	defer func() { recover() }() // a panic costs the line
	handler := l.scope.apply(q.handler)
	if handler.Enabled(context.Background(), l.record.Level) {
		handler.Handle(context.Background(), l.record) // the error is ignored, as slog.Logger does
	}
}

// enabled reports whether the handler wants lines of a level.
func (q *LogQueue) enabled(level slog.Level) bool {
	if time.Since(q.began)-time.Duration(q.levelsAt.Load()) >= levelsMaxAge {
		q.askLevels()
	}
	levels := q.levels.Load()
	for i := len(logLevels) - 1; i > 0; i-- {
		if level >= logLevels[i] {
			return levels&(1<<i) != 0
		}
	}
	return levels&1 != 0
}

// askLevels asks the handler for its levels on another goroutine, because the handler may block, and waits a bounded time for
// it. While one call waits, other calls return at once and use the previous results.
func (q *LogQueue) askLevels() {
	if !q.askingLevels.CompareAndSwap(false, true) {
		return
	}
	done := make(chan struct{})
	q.calls.Enter(LogHandler)
	go func() {
		defer close(done)
		defer q.calls.Leave(LogHandler)
		defer q.askingLevels.Store(false)
		var levels uint32
		for i, level := range logLevels {
			if q.handler.Enabled(context.Background(), level) {
				levels |= 1 << i
			}
		}
		q.levels.Store(levels)
		q.levelsAt.Store(int64(time.Since(q.began)))
	}()
	timer := time.NewTimer(q.calls.grace)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}

// Flush waits a bounded time until the handler has every line so far. On a nil queue it returns at once.
func (q *LogQueue) Flush() {
	if q != nil {
		q.calls.Wait(func() bool { return q.calls.Running(LogHandler) > 0 })
	}
}

// Lost returns the number of lines that were dropped since the start; 0 for a nil queue.
func (q *LogQueue) Lost() uint64 {
	if q == nil {
		return 0
	}
	return q.lines.Lost()
}

// queuedHandler is the handler of the logger that [NewLogQueue] returns.
type queuedHandler struct {
	queue *LogQueue
	scope *logScope
}

func (h queuedHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.queue.enabled(level)
}

func (h queuedHandler) Handle(_ context.Context, r slog.Record) error {
	if h.queue.lines.Backlog() {
		r = cloneStrings(r)
	}
	h.queue.lines.Put(logLine{r, h.scope})
	return nil
}

func (h queuedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queuedHandler{h.queue, &logScope{outer: h.scope, attrs: attrs}}
}

func (h queuedHandler) WithGroup(name string) slog.Handler {
	return queuedHandler{h.queue, &logScope{outer: h.scope, group: name}}
}

// logScope is one call of WithAttrs or WithGroup. It is applied to the host's handler when a line is written. Nil means no call.
type logScope struct {
	outer *logScope
	attrs []slog.Attr // if group is empty
	group string
}

// apply makes the calls of the scope on a handler, the outermost first.
func (s *logScope) apply(h slog.Handler) slog.Handler {
	switch {
	case s == nil:
		return h
	case s.group != "":
		return s.outer.apply(h).WithGroup(s.group)
	default:
		return s.outer.apply(h).WithAttrs(s.attrs)
	}
}

// cloneStrings returns r with copies of its string values, which may be parts of a whole request header.
func cloneStrings(r slog.Record) slog.Record {
	c := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if a.Value.Kind() == slog.KindString {
			a.Value = slog.StringValue(strings.Clone(a.Value.String()))
		}
		c.AddAttrs(a)
		return true
	})
	return c
}
