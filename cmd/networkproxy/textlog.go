// Log lines as text, for less than log/slog's handler makes them.

package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"
)

// textHandler writes what [slog.TextHandler] writes. The lines that come as
// fast as a client sends requests, which are plain words and numbers, it writes
// itself, for a third of the price; everything else is left to slog.
type textHandler struct {
	*slog.TextHandler
	w *lineWriter
}

func newTextHandler(w *lineWriter, options *slog.HandlerOptions) *textHandler {
	return &textHandler{slog.NewTextHandler(w, options), w}
}

// Handle implements [slog.Handler].
func (h *textHandler) Handle(ctx context.Context, r slog.Record) error {
	var space [512]byte
	line, ok := appendPlainLine(space[:0], &r)
	if !ok {
		return h.TextHandler.Handle(ctx, r)
	}
	_, err := h.w.Write(line)
	return err
}

// appendPlainLine appends the line for a record, and reports false where there
// is something in it that has to be quoted or is not a string or a number.
func appendPlainLine(b []byte, r *slog.Record) (line []byte, ok bool) {
	if r.Time.IsZero() || !plainText(r.Message) {
		return nil, false
	}
	b = appendMillis(append(b, "time="...), r.Time)
	b = append(append(b, " level="...), r.Level.String()...)
	b = append(append(b, " msg="...), r.Message...)
	r.Attrs(func(a slog.Attr) bool {
		if ok = plainText(a.Key); !ok {
			return false
		}
		b = append(append(append(b, ' '), a.Key...), '=')
		switch a.Value.Kind() {
		case slog.KindString:
			s := a.Value.String()
			if ok = plainText(s); ok {
				b = append(b, s...)
			}
		case slog.KindUint64:
			b = strconv.AppendUint(b, a.Value.Uint64(), 10)
		default:
			ok = false
		}
		return ok
	})
	return append(b, '\n'), ok || r.NumAttrs() == 0
}

// appendMillis appends a time of RFC 3339 with milliseconds.
func appendMillis(b []byte, t time.Time) []byte {
	const millis = len("2006-01-02T15:04:05.000")
	n := len(b)
	// Nanoseconds are written without the zeros at their end: with a digit that
	// is none there are four of them, of which the last goes.
	b = t.Truncate(time.Millisecond).Add(time.Millisecond/10).AppendFormat(b, time.RFC3339Nano)
	return append(b[:n+millis], b[n+millis+1:]...)
}

// plainText reports whether a text stands in a line as it is.
func plainText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '"' || c == '=' {
			return false
		}
	}
	return s != ""
}
