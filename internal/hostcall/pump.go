package hostcall

import "time"

// Pump calls functions of the host for the items of a queue that it does not own, in order, on a goroutine that runs while
// items wait. Set the exported fields before the first call of Start.
type Pump[T any] struct {
	// Take returns the waiting items. After an empty result, the next item must lead to a call of Start. Take may use the
	// memory of spare, which is its previous result.
	Take func(spare []T) []T

	Deliver func(*T)      // must not panic; may call runtime.Goexit
	Delay   time.Duration // wait this long before Take, so that it returns many items; 0 means none

	Calls *Calls // counts the goroutine
	Kind  Kind   // of the function, for Calls

	// Used by the goroutine only.
	batch []T
	next  int
}

// Start starts the goroutine. It does not block.
func (p *Pump[T]) Start() {
	p.Calls.Enter(p.Kind)
	go p.run()
}

func (p *Pump[T]) run() {
	returned := false
	defer func() {
		if !returned { // the host's function called runtime.Goexit
			go p.run()
		}
	}()
	for p.more() {
		p.next++ // first, because the function may not return
		p.Deliver(&p.batch[p.next-1])
		p.Calls.progress()
	}
	returned = true
	p.Calls.Leave(p.Kind)
}

// more reports whether there is an item to deliver. It takes the waiting items if all others are delivered.
func (p *Pump[T]) more() bool {
	if p.next < len(p.batch) {
		return true
	}
	time.Sleep(p.Delay) // returns at once if Delay is 0
	spare := p.batch
	p.batch, p.next = nil, 0
	batch := p.Take(spare)
	if len(batch) == 0 {
		return false // another goroutine may run already
	}
	p.batch = batch
	return true
}
