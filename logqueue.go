// The way from the proxy to the host's log handler. The handler may be slow,
// may hang and may call the Handle, so lines go to it through a mailbox.

package networkproxy

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// levelsStand is how long the handler's answers to Enabled are taken to
// hold. The log of a host may change its level while the proxy runs.
const levelsStand = 100 * time.Millisecond

// logLevels are the levels that the proxy logs at.
var logLevels = [...]slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError}

// logQueue hands lines to a log handler, in order, from one goroutine. A line
// that finds too many waiting is dropped and counted. The time of a line is
// that of the call. Safe for concurrent use.
type logQueue struct {
	handler slog.Handler
	lines   mailbox[logLine]
	calls   *hostCalls

	// The answers to Enabled, a bit for each of logLevels, and when they were
	// given, as a time since began.
	levels atomic.Uint32
	asked  atomic.Int64
	asking atomic.Bool
	began  time.Time
}

// logLine is a record, and what [slog.Logger.With] and WithGroup add to it.
type logLine struct {
	record slog.Record
	under  *logScope
}

// newLogQueue returns a logger whose lines go to the handler of log through a
// queue. It returns log itself, and no queue, where nothing is logged.
func newLogQueue(log *slog.Logger, calls *hostCalls) (*slog.Logger, *logQueue) {
	if log.Handler() == slog.DiscardHandler {
		return log, nil
	}
	q := &logQueue{handler: log.Handler(), calls: calls, began: time.Now()}
	q.lines = mailbox[logLine]{
		limit: mailboxLimit, calls: calls, kind: callbackLog,
		deliver: q.write,
		resumed: func(n int) {
			r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines are missing here, because the log handler did not return in time for them", 0)
			r.AddAttrs(slog.Int("lines", n))
			q.write(logLine{record: r})
		},
	}
	q.levels.Store(0b1110) // until the handler answers
	q.askLevels()
	return slog.New(queuedHandler{queue: q}), q
}

// write calls the handler.
func (q *logQueue) write(l logLine) {
	defer func() { recover() }() // a panic is a lost line
	handler := l.under.handler(q.handler)
	if handler.Enabled(context.Background(), l.record.Level) {
		handler.Handle(context.Background(), l.record) // as log/slog does, whose loggers ignore the error
	}
}

// enabled reports whether the handler wants lines of a level.
func (q *logQueue) enabled(level slog.Level) bool {
	if time.Since(q.began)-time.Duration(q.asked.Load()) >= levelsStand {
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

// askLevels asks the handler for its levels, unless somebody is waiting for
// that already: it waits for callbackPatience at most, and the others go by the
// answers before. The handler is called on a goroutine of its own, because it
// may hang.
func (q *logQueue) askLevels() {
	if !q.asking.CompareAndSwap(false, true) {
		return
	}
	answered := make(chan struct{})
	q.calls.enter(callbackLog)
	go func() {
		defer q.calls.leave(callbackLog)
		defer close(answered)
		defer q.asking.Store(false)
		var levels uint32
		for i, level := range logLevels {
			if q.handler.Enabled(context.Background(), level) {
				levels |= 1 << i
			}
		}
		q.levels.Store(levels)
		q.asked.Store(int64(time.Since(q.began)))
	}()
	timer := time.NewTimer(q.calls.patience)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
	}
}

// flush waits until the handler has the lines so far, for a bounded time. A nil
// queue has none.
func (q *logQueue) flush() {
	if q != nil {
		q.calls.wait(func() bool { return q.calls.running[callbackLog].Load() > 0 })
	}
}

// queuedHandler is the handler of the proxy's own logger.
type queuedHandler struct {
	queue *logQueue
	under *logScope
}

func (h queuedHandler) Enabled(_ context.Context, level slog.Level) bool {
	return h.queue.enabled(level)
}

func (h queuedHandler) Handle(_ context.Context, r slog.Record) error {
	if h.queue.lines.backlog() {
		r = cloneTexts(r)
	}
	h.queue.lines.put(logLine{r, h.under})
	return nil
}

func (h queuedHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return queuedHandler{h.queue, &logScope{outer: h.under, attrs: attrs}}
}

func (h queuedHandler) WithGroup(name string) slog.Handler {
	return queuedHandler{h.queue, &logScope{outer: h.under, group: name}}
}

// logScope is one call of WithAttrs or WithGroup, to be made of the host's
// handler when the line is written. nil is none.
type logScope struct {
	outer *logScope
	attrs []slog.Attr
	group string // empty: attrs count
}

// handler applies the calls to a handler, the outermost first.
func (s *logScope) handler(h slog.Handler) slog.Handler {
	switch {
	case s == nil:
		return h
	case s.group != "":
		return s.outer.handler(h).WithGroup(s.group)
	default:
		return s.outer.handler(h).WithAttrs(s.attrs)
	}
}

// cloneTexts returns r with copies of its texts, which may be pieces of a whole
// request header.
func cloneTexts(r slog.Record) slog.Record {
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
