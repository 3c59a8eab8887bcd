// The bound on log lines about single requests: a client that can fill the log
// must not.

package networkproxy

import (
	"log/slog"
	"sync"
	"time"
)

// lineBound lets so many lines a second pass, and tells how many it did not. Safe
// for concurrent use.
type lineBound struct {
	limit int // a second; does not change
	log   *slog.Logger

	mu      sync.Mutex
	since   time.Time // when the present second began
	lines   int       // that passed in it
	left    int       // that did not, and are not told of yet
	ended   bool      // there is no timer any more
	timer   *time.Timer
	telling sync.WaitGroup // of the timer, while it runs
}

// admits reports whether a line may be written now.
func (b *lineBound) admits() bool {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since) >= time.Second {
		b.since, b.lines = now, 0
	}
	if b.lines < b.limit {
		b.lines++
		return true
	}
	if b.left == 0 && !b.ended {
		b.telling.Add(1)
		b.timer = time.AfterFunc(time.Second-now.Sub(b.since), func() {
			defer b.telling.Done()
			b.tell()
		})
	}
	b.left++
	return false
}

// tell tells how many lines were left out since it last did.
func (b *lineBound) tell() {
	b.mu.Lock()
	n := b.left
	b.left = 0
	b.mu.Unlock()
	if n > 0 {
		b.log.Warn("lines about requests were left out of the log: there were more than log_lines in a second", "lines", n, "log_lines", b.limit)
	}
}

// end tells what is still to be told, and returns when nothing of the bound runs.
// What is left out after that, of a decider that has been left behind, is not
// told.
func (b *lineBound) end() {
	b.mu.Lock()
	b.ended = true
	timer := b.timer
	b.mu.Unlock()
	if timer != nil && timer.Stop() {
		b.telling.Done()
		b.tell()
	}
	b.telling.Wait()
}
