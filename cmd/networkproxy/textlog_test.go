// The program's log lines against log/slog's.

package main

import (
	"bytes"
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestTextHandler writes records of all kinds with both handlers.
func TestTextHandler(t *testing.T) {
	t.Parallel()
	options := &slog.HandlerOptions{Level: slog.LevelDebug}
	var want bytes.Buffer
	var got strings.Builder
	lines := &lineWriter{w: &got}
	theirs, ours := slog.Handler(slog.NewTextHandler(&want, options)), slog.Handler(newTextHandler(lines, options))

	r := rand.New(rand.NewPCG(1, 2))
	pieces := []string{"a.example", "[2001:db8::1]:443", `"`, `\`, "=", " ", "\n", "\x00", "\x7f", "é", "\xff", "\u2028", "~", "!", "%", "/", "'"}
	text := func() string {
		s := ""
		for range r.IntN(3) {
			s += pieces[r.IntN(len(pieces))]
		}
		return s
	}
	value := func() slog.Value {
		switch r.IntN(12) {
		case 0:
			return slog.Int64Value(-r.Int64N(1000))
		case 1:
			return slog.BoolValue(true)
		case 2:
			return slog.DurationValue(time.Second)
		case 3:
			return slog.AnyValue([]byte(text()))
		case 4:
			return slog.GroupValue(slog.String("in", text()))
		case 5, 6:
			return slog.Uint64Value(r.Uint64())
		case 7:
			return slog.StringValue(text())
		}
		return slog.StringValue("plain-" + pieces[0])
	}
	plain := 0
	for i := range 20_000 {
		at := time.Unix(r.Int64N(4e9), r.Int64N(1e9)).In(time.FixedZone("", r.IntN(2)*3600*r.IntN(12)))
		if r.IntN(50) == 0 {
			at = time.Time{}
		}
		message := "refused"
		if r.IntN(4) == 0 {
			message = text()
		}
		record := slog.NewRecord(at, slog.Level(r.IntN(20)-8), message, 0)
		for range r.IntN(8) {
			key := "key"
			if r.IntN(20) == 0 {
				key = text()
			}
			record.AddAttrs(slog.Attr{Key: key, Value: value()})
		}
		their, our := theirs, ours
		switch i % 5 {
		case 1:
			with := []slog.Attr{slog.String("with", text())}
			their, our = theirs.WithAttrs(with), ours.WithAttrs(with)
		case 2:
			their, our = theirs.WithGroup("group"), ours.WithGroup("group")
		default:
			if _, ok := appendPlainLine(nil, &record); ok {
				plain++
			}
		}
		want.Reset()
		got.Reset()
		if err := their.Handle(context.Background(), record.Clone()); err != nil {
			t.Fatal(err)
		}
		if err := our.Handle(context.Background(), record.Clone()); err != nil {
			t.Fatal(err)
		}
		lines.Flush()
		if got.String() != want.String() {
			t.Fatalf("\n got %s\nwant %s", got.String(), want.String())
		}
	}
	if plain < 1000 {
		t.Errorf("only %d records took the short way", plain)
	}
}

// BenchmarkTextHandler is a refusal's line by both handlers.
func BenchmarkTextHandler(b *testing.B) {
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "refused", 0)
	r.AddAttrs(slog.String("host", "refused.example"), slog.Uint64("port", 80), slog.String("protocol", "http"), slog.String("method", "GET"),
		slog.String("reason", "not_allowed"), slog.String("source", "baseline_policy"), slog.String("client", "127.0.0.1:40000"))
	for name, h := range map[string]slog.Handler{
		"plain": newTextHandler(&lineWriter{w: &discard{}}, nil),
		"slog":  slog.NewTextHandler(&lineWriter{w: &discard{}}, nil),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Handle(context.Background(), r)
			}
		})
	}
}

// discard is a writer that is not io.Discard, which slog knows.
type discard struct{}

func (*discard) Write(p []byte) (int, error) { return len(p), nil }
