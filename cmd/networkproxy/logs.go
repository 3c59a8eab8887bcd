// Log flags shared by the commands, and the writer of the log.

package main

import (
	"flag"
	"io"
	"log/slog"
	"sync"
	"time"
)

// addLogFlags defines the flags of the log, and returns the flag of its level.
func addLogFlags(p *program, f *flag.FlagSet) *choice {
	format := &choice{value: "text", values: []string{"text", "json"}, set: func(s string) { p.json = s == "json" }}
	f.Var(format, "log-format", "`format` of everything on standard error")
	level := &choice{value: "info", values: []string{"debug", "info", "warn", "error"}}
	f.Var(level, "log-level", "lowest `level` that is logged")
	return level
}

// logger returns the logger of the proxy.
func (p *program) logger(level string) *slog.Logger {
	var least slog.Level
	least.UnmarshalText([]byte(level)) // cannot fail for a value of -log-level
	options := &slog.HandlerOptions{Level: least}
	var h slog.Handler
	switch {
	case p.json:
		h = slog.NewJSONHandler(&p.log, options)
	case p.color:
		h = slog.NewTextHandler(paintedLog{p}, options)
	default:
		h = slog.NewTextHandler(&p.log, options)
	}
	return slog.New(p.held.handler(h))
}

// Log lines are written in batches, because a system call for each line would
// cost more than the refusal that the line reports.
const (
	logDelay      = 50 * time.Millisecond // longest delay of a line
	maxPendingLog = 32 << 10              // bytes of pending lines
)

// lineWriter collects the lines of logDelay and writes them to w together. Lines
// are lost if w returns an error, for example because the disk is full. While w
// blocks, so does Write. Call Flush at the end. A lineWriter is safe for
// concurrent use.
type lineWriter struct {
	w io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer // runs while lines are pending
}

func (l *lineWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line...)
	switch {
	case len(l.lines) >= maxPendingLog:
		l.flush()
	case l.timer == nil:
		l.timer = time.AfterFunc(logDelay, l.Flush)
	case len(l.lines) == len(line):
		l.timer.Reset(logDelay)
	}
	return len(line), nil
}

// Flush writes the pending lines.
func (l *lineWriter) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *lineWriter) flush() {
	if len(l.lines) > 0 {
		l.w.Write(l.lines) // an error cannot be reported anywhere
		l.lines = l.lines[:0]
	}
}
