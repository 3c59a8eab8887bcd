package hostcall

import (
	"sync"
	"time"
)

// Goroutines counts goroutines that may not end when they should, because they
// call functions of the host. The zero value counts none; safe for concurrent
// use.
type Goroutines struct {
	mu      sync.Mutex
	running int
	idle    chan struct{} // closed when running becomes 0; nil while nobody waits
}

// Go runs f in a new goroutine.
func (g *Goroutines) Go(f func()) {
	g.mu.Lock()
	g.running++
	g.mu.Unlock()
	go func() {
		defer g.ended()
		f()
	}()
}

func (g *Goroutines) ended() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running--
	if g.running == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// Wait waits until all goroutines have ended, but no longer than grace. It
// returns the number of those that are still running.
func (g *Goroutines) Wait(grace time.Duration) int {
	g.mu.Lock()
	if g.running == 0 {
		g.mu.Unlock()
		return 0
	}
	idle := make(chan struct{})
	g.idle = idle
	g.mu.Unlock()

	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-idle:
	case <-timer.C:
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}
