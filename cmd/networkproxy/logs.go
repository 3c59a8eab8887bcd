// The log flags that the commands share, and the log's way out.

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

// logDelay is how long a line may wait for others to be written with it. A
// system call for every line would cost more than the refusal that it tells.
const (
	logDelay      = 50 * time.Millisecond
	maxPendingLog = 32 << 10 // bytes that wait at most
)

// lineWriter writes what comes within logDelay at once. A writer that fails or
// blocks holds up whoever writes next; what it does not take is lost, as a log
// line to a full disk is. Safe for concurrent use. Flush it at the end.
type lineWriter struct {
	w io.Writer

	mu    sync.Mutex
	lines []byte
	timer *time.Timer // runs while lines wait
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

// Flush writes what waits.
func (l *lineWriter) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
}

func (l *lineWriter) flush() {
	if len(l.lines) > 0 {
		l.w.Write(l.lines) // there is nowhere to tell of an error
		l.lines = l.lines[:0]
	}
}

