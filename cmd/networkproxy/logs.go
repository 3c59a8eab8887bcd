// Log flags shared by the commands, and the writer of the log.

package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

type logOptions struct {
	format *string
	level  *string
}

func logFlags(f *flag.FlagSet) logOptions {
	return logOptions{
		format: f.String("log-format", "text", "`format` of the log on standard error: text or json"),
		level:  f.String("log-level", "info", "least `level` logged: debug, info, warn or error"),
	}
}

func (o logOptions) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(*o.level)); err != nil {
		return nil, fmt.Errorf("-log-level %q: use debug, info, warn or error", *o.level)
	}
	options := &slog.HandlerOptions{Level: level}
	switch *o.format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("-log-format %q: use text or json", *o.format)
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
