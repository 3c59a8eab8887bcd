// A log that holds back what the program prints itself.

package main

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// heldLog keeps back the warnings and errors of a log while the program is
// about to print the same in words of its own, so that nobody reads them
// twice. The library logs through a queue, so a record may also come after the
// program has printed what it says: each text that was printed stands for one
// such record. The zero value keeps nothing back. Safe for concurrent use.
type heldLog struct {
	active atomic.Bool // holding, or some texts are printed

	mu      sync.Mutex
	holding bool
	records []heldRecord
	printed []string // of which no record has come yet
}

type heldRecord struct {
	to slog.Handler
	slog.Record
}

// handler returns h with its warnings and errors kept back between hold and
// release.
func (l *heldLog) handler(h slog.Handler) slog.Handler { return heldHandler{h, l} }

// hold begins to keep back.
func (l *heldLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
	l.active.Store(true)
}

// release logs what was kept back, except what printed says already: records
// whose message or error is a part of it.
func (l *heldLog) release(printed ...string) {
	l.mu.Lock()
	l.holding = false
	l.printed = append(l.printed, printed...)
	var unsaid []heldRecord
	for _, r := range l.records {
		if !l.consume(r.Record) {
			unsaid = append(unsaid, r)
		}
	}
	l.records = nil
	l.active.Store(len(l.printed) > 0)
	l.mu.Unlock()
	for _, r := range unsaid {
		r.to.Handle(context.Background(), r.Record) // there is nowhere to tell of an error
	}
}

// says reports whether a text that was printed has the record's message or
// error, and takes it for said. The caller holds the lock.
func (l *heldLog) consume(r slog.Record) bool {
	said := []string{r.Message}
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			said = append(said, a.Value.String())
		}
		return true
	})
	i := slices.IndexFunc(l.printed, func(text string) bool {
		return slices.ContainsFunc(said, func(s string) bool { return s != "" && strings.Contains(text, s) })
	})
	if i < 0 {
		return false
	}
	l.printed = slices.Delete(l.printed, i, i+1)
	return true
}

// keep keeps a record back if it is to be.
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
	said := l.consume(r)
	l.active.Store(len(l.printed) > 0)
	return said
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
