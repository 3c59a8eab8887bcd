package filewatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadAtMost(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int64]bool{4: false, 5: true, 6: true} {
		data, whole, err := readAtMost(strings.NewReader("12345"), limit)
		if err != nil || whole != want || int64(len(data)) > limit+1 {
			t.Errorf("limit %d: %q, %t, %v", limit, data, whole, err)
		}
	}
}

// writeFile replaces the content of a file in place.
func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadWaitsForTheWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, "half")
	synctest.Test(t, func(t *testing.T) {
		go func() {
			for i := range 10 {
				time.Sleep(LongQuiet / 2)
				writeFile(t, path, "half"+strings.Repeat(".", i))
			}
			writeFile(t, path, "whole")
		}()
		start := time.Now()
		readings, err := (&Reader{Paths: []string{path}}).Read(t.Context(), LongQuiet)
		if err != nil || readings[0].Err != nil || string(readings[0].Data) != "whole" {
			t.Errorf("%q, %v, %v", readings[0].Data, readings[0].Err, err)
		}
		if d := time.Since(start); d < 6*LongQuiet || d > 6*LongQuiet+LongQuiet/2 {
			t.Errorf("took %v; want five seconds for the writer and one of quiet", d)
		}
	})
}

func TestReadGivesUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	still, busy := filepath.Join(dir, "still"), filepath.Join(dir, "busy")
	writeFile(t, still, "still")
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		defer close(stop)
		writeFile(t, busy, "")
		go func() {
			for content := "x"; ; content += "x" {
				select {
				case <-time.After(LongQuiet / 5):
					writeFile(t, busy, content)
				case <-stop:
					return
				}
			}
		}()
		readings, err := (&Reader{Paths: []string{still, busy}}).Read(t.Context(), LongQuiet)
		if err != nil || readings[0].Err != nil || string(readings[0].Data) != "still" {
			t.Errorf("the file that is still: %q, %v, %v", readings[0].Data, readings[0].Err, err)
		}
		if !errors.Is(readings[1].Err, ErrBeingWritten) || readings[1].Data != nil {
			t.Errorf("the file that is being written: %q, %v", readings[1].Data, readings[1].Err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("stop")
		cancel(cause)
		if _, err := (&Reader{Paths: []string{busy}}).Read(ctx, LongQuiet); !errors.Is(err, cause) {
			t.Errorf("with a context that has ended: %v", err)
		}
	})
}

func TestWatcher(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	writeFile(t, path, "1")
	synctest.Test(t, func(t *testing.T) {
		w := NewWatcher([]Reading{ReadOnce(path, false), {Path: "pipe", Pipe: true}})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex // for the race detector: the test and Run are never active at the same time
		var calls []string
		again := false
		go w.Run(ctx, func(context.Context) ([]Reading, bool) {
			mu.Lock()
			defer mu.Unlock()
			r := ReadOnce(path, false)
			calls = append(calls, string(r.Data))
			return []Reading{r}, again
		})
		look := func(want ...string) {
			t.Helper()
			time.Sleep(Interval)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(calls, want) {
				t.Errorf("called for %q, want %q", calls, want)
			}
		}
		setAgain := func(v bool) {
			mu.Lock()
			defer mu.Unlock()
			again = v
		}
		look()
		writeFile(t, path, "22")
		look("22")
		look("22")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		setAgain(true)
		look("22", "")
		setAgain(false)
		look("22", "", "")
		look("22", "", "")
		cancel()
		synctest.Wait()
		writeFile(t, path, "333")
		look("22", "", "")
	})
	if !NewWatcher([]Reading{{Path: "pipe", Pipe: true}}).Empty() {
		t.Error("a pipe is watched")
	}
}
