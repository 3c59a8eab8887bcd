// A log handler that drops records of messages that the program prints itself.

package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// heldLog keeps users from reading a warning or an error twice. Some of those
// that the library logs are also printed by the program. Between hold and
// release, heldLog keeps the records of warnings and errors. release takes the
// printed texts, drops one record for each and logs the rest. The library logs
// through a queue, so a record may arrive after its text was printed; it is
// dropped then. The zero value passes everything on. A heldLog is safe for
// concurrent use.
type heldLog struct {
	active atomic.Bool // holding or len(printed) > 0

	mu      sync.Mutex
	holding bool
	records []heldRecord
	printed []string // texts whose record has not arrived yet
}

type heldRecord struct {
	to slog.Handler
	slog.Record
}

// handler returns a handler that passes records to h unless they are held or
// dropped.
func (l *heldLog) handler(h slog.Handler) slog.Handler { return heldHandler{h, l} }

// hold starts to keep warnings and errors.
func (l *heldLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
	l.active.Store(true)
}

// release ends hold. It logs the records that were kept, except those whose
// message or error is part of a printed text.
func (l *heldLog) release(printed ...string) {
	l.mu.Lock()
	l.holding = false
	l.printed = append(l.printed, printed...)
	var rest []heldRecord
	for _, r := range l.records {
		if !l.consume(r.Record) {
			rest = append(rest, r)
		}
	}
	l.records = nil
	l.active.Store(len(l.printed) > 0)
	l.mu.Unlock()
	for _, r := range rest {
		r.to.Handle(context.Background(), r.Record) // an error cannot be reported anywhere
	}
}

// consume reports whether a printed text contains the message or error of r, and
// removes that text. The caller holds l.mu.
func (l *heldLog) consume(r slog.Record) bool {
	texts := []string{r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			texts = append(texts, a.Value.String())
		}
		return true
	})
	i := slices.IndexFunc(l.printed, func(printed string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return s != "" && strings.Contains(printed, s) })
	})
	if i < 0 {
		return false
	}
	l.printed = slices.Delete(l.printed, i, i+1)
	return true
}

// intercept reports whether r must not be logged now, because it is held or was
// printed.
func (l *heldLog) intercept(to slog.Handler, r slog.Record) bool {
	if r.Level < slog.LevelWarn || !l.active.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.holding {
		l.records = append(l.records, heldRecord{to, r.Clone()})
		return true
	}
	printed := l.consume(r)
	l.active.Store(len(l.printed) > 0)
	return printed
}

type heldHandler struct {
	slog.Handler
	held *heldLog
}

func (h heldHandler) Handle(ctx context.Context, r slog.Record) error {
	if h.held.intercept(h.Handler, r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h heldHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return heldHandler{h.Handler.WithAttrs(attrs), h.held}
}

func (h heldHandler) WithGroup(name string) slog.Handler {
	return heldHandler{h.Handler.WithGroup(name), h.held}
}
