// Tests of the feed.

package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/audit"
)

// viewer is a writer that collects what it gets, or blocks.
type viewer struct {
	mu      sync.Mutex
	b       bytes.Buffer
	blocked chan struct{} // Write waits until it is closed; nil means it does not
}

func (v *viewer) Write(p []byte) (int, error) {
	if v.blocked != nil {
		<-v.blocked
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.b.Write(p)
}

// take returns the data and ids of the events so far, as "id data", and forgets them.
func (v *viewer) take() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer v.b.Reset()
	var list []string
	for _, m := range regexp.MustCompile(`id: r-(\d+)\ndata: (.*)\n\n`).FindAllStringSubmatch(v.b.String(), -1) {
		list = append(list, m[1]+" "+m[2])
	}
	return strings.Join(list, ", ")
}

// lab is a feed with its stream, in a synctest bubble.
type lab struct {
	*Feed
	t      *testing.T
	stream audit.Stream
}

func inBubble(t *testing.T, f func(*lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := &lab{t: t}
		l.Feed = New(Config{Events: &l.stream, Run: "r", Encode: func(b []byte, e *audit.Event) []byte {
			if e.Kind == audit.KindDropped {
				return fmt.Appendf(b, "dropped %d", e.Rare.Dropped)
			}
			return fmt.Append(b, e.Kind)
		}})
		defer l.Close()
		f(l)
	})
}

// view begins a view until stop is called.
func (l *lab) view(w io.Writer, last string) (stop func()) {
	ctx, cancel := context.WithCancel(l.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := l.View(ctx, w, last, true); err != nil {
			l.t.Error(err)
		}
	})
	synctest.Wait()
	return func() { cancel(); wg.Wait() }
}

func (l *lab) publish(n int) {
	for range n {
		l.stream.Publish(nil, &audit.Event{Kind: audit.KindMode})
	}
	time.Sleep(2 * delay)
	synctest.Wait()
}

func expect(t *testing.T, v *viewer, want string) {
	t.Helper()
	if got := v.take(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// TestResume checks that a viewer that comes back gets what it has missed.
func TestResume(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.publish(3) // nobody views
		first := new(viewer)
		stop := l.view(first, "")
		l.publish(2)
		expect(t, first, "4 mode, 5 mode")
		stop()
		l.publish(2)

		for last, want := range map[string]string{
			"r-5":     "6 mode, 7 mode",
			"r-7":     "",
			"r-900":   "", // cannot be
			"r-2":     "3 dropped 1, 4 mode, 5 mode, 6 mode, 7 mode",
			"other-5": "4 mode, 5 mode, 6 mode, 7 mode", // of an earlier run
			"":        "4 mode, 5 mode, 6 mode, 7 mode",
			"r-x":     "4 mode, 5 mode, 6 mode, 7 mode",
		} {
			again := new(viewer)
			l.view(again, last)()
			if got := again.take(); got != want {
				t.Errorf("after %q:\ngot  %s\nwant %s", last, got, want)
			}
		}

		whole := new(viewer)
		if err := l.View(t.Context(), whole, "r-6", false); err != nil {
			t.Error(err)
		}
		expect(t, whole, "7 mode")
	})
}

// TestEventsCostNothingUnviewed checks that the feed stops to follow the events when
// nobody has viewed for a while, and that a viewer who comes later learns of the gap.
func TestEventsCostNothingUnviewed(t *testing.T) {
	inBubble(t, func(l *lab) {
		if l.stream.Wanted(nil) {
			t.Error("events are wanted before the first viewer")
		}
		v := new(viewer)
		stop := l.view(v, "")
		l.publish(1)
		time.Sleep(5 * linger)
		if !l.stream.Wanted(nil) {
			t.Error("no event is wanted although there is a viewer")
		}
		stop()
		time.Sleep(linger - time.Second)
		if !l.stream.Wanted(nil) {
			t.Error("no event is wanted right after the last viewer has left")
		}
		time.Sleep(2 * linger)
		if l.stream.Wanted(nil) {
			t.Error("events are wanted long after the last viewer has left")
		}
		l.publish(4)
		v.take()
		defer l.view(v, "r-1")()
		l.publish(1)
		expect(t, v, "5 dropped 4, 6 mode")
	})
}

// TestSlowViewer checks that a viewer that does not read delays nobody, and is told what
// it has missed.
func TestSlowViewer(t *testing.T) {
	inBubble(t, func(l *lab) {
		slow, quick := &viewer{blocked: make(chan struct{})}, new(viewer)
		defer l.view(slow, "")()
		defer l.view(quick, "")()
		for range 6 {
			l.publish(maxBatch)
			if n := strings.Count(quick.take(), "mode"); n != maxBatch {
				t.Errorf("the other viewer got %d events, want %d", n, maxBatch)
			}
		}
		if n := len(l.lines); n != maxLines {
			t.Errorf("%d lines are kept, want %d", n, maxLines)
		}
		close(slow.blocked)
		synctest.Wait()
		got := slow.take()
		missed := 6*maxBatch - maxLines
		if n := strings.Count(got, "mode"); n != maxLines || !strings.HasPrefix(got, fmt.Sprintf("%d dropped %[1]d, %d mode", missed, missed+1)) {
			t.Errorf("the slow viewer got %d events: %.100s", n, got)
		}
	})
}

// TestOverflow checks that viewers get the newest events of a burst, and learn how many are
// missing.
func TestOverflow(t *testing.T) {
	inBubble(t, func(l *lab) {
		v := new(viewer)
		defer l.view(v, "")()
		l.publish(1)
		l.publish(maxBatch + 7)
		got := v.take()
		if n := strings.Count(got, "mode"); n != 1+maxBatch || !strings.HasPrefix(got, "1 mode, 8 dropped 7, 9 mode, ") {
			t.Errorf("%d events after a burst: %.300s", n, got)
		}
		l.publish(3*maxBatch + 7)
		got = v.take()
		first := maxBatch + 9 // of the second burst
		if want := fmt.Sprintf("%d dropped %d, %d mode, ", first+2*maxBatch+6, 2*maxBatch+7, first+2*maxBatch+7); !strings.HasPrefix(got, want) || strings.Count(got, "mode") != maxBatch {
			t.Errorf("after a larger burst: %.100s, want %s", got, want)
		}
		if got := l.stream.Dropped(audit.Viewers); got != 2*maxBatch+7+7 {
			t.Errorf("%d events are counted as dropped", got)
		}
	})
}

// TestBytesAreBounded checks the limit on the memory of lines.
func TestBytesAreBounded(t *testing.T) {
	inBubble(t, func(l *lab) {
		l.config.Encode = func(b []byte, e *audit.Event) []byte { return append(b, make([]byte, 64<<10)...) }
		defer l.view(new(viewer), "")()
		l.publish(100)
		if l.bytes > maxBytes || len(l.lines) != 16 {
			t.Errorf("%d lines with %d bytes", len(l.lines), l.bytes)
		}
	})
}

func TestHeartbeat(t *testing.T) {
	inBubble(t, func(l *lab) {
		v := new(viewer)
		defer l.view(v, "")()
		time.Sleep(2 * heartbeat)
		synctest.Wait()
		v.mu.Lock()
		defer v.mu.Unlock()
		if got := v.b.String(); got != "retry: 2000\n\n: heartbeat\n\n: heartbeat\n\n" {
			t.Errorf("%q", got)
		}
	})
}

func TestLimits(t *testing.T) {
	inBubble(t, func(l *lab) {
		var stops []func()
		for range MaxViewers {
			stops = append(stops, l.view(new(viewer), ""))
		}
		if err := l.View(t.Context(), new(viewer), "", true); !errors.Is(err, ErrTooMany) {
			t.Errorf("one viewer more: %v", err)
		}
		stops[0]()
		l.view(new(viewer), "")()
		l.Close() // ends the views
		for _, stop := range stops[1:] {
			stop()
		}
		if err := l.View(t.Context(), new(viewer), "", true); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}
