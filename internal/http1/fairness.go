// Taking turns.

package http1

import (
	"runtime"
	"sync/atomic"
)

// fairness lets connections take turns while more of them are busy than there are
// processors. The zero value is ready; nil never yields. Safe for concurrent
// use.
type fairness struct {
	busy       atomic.Int32 // connections that had a request a moment ago
	processors atomic.Int32 // at the last look
}

// peek finds out how many processors there are: now and then, for to ask takes
// a lock of the scheduler.
func (t *fairness) refresh() { t.processors.Store(int32(runtime.GOMAXPROCS(0))) }

func (t *fairness) begin() { t.busy.Add(1) }
func (t *fairness) end()   { t.busy.Add(-1) }

// yield gives the other connections their turn before a system call, where they
// would have to wait for one. Where nobody waits, it would cost more than that.
//
// Before a read, what is waited for has often come by the time that it is this
// one's turn again, which spares the two system calls of waiting. Before a write,
// it makes the writes of several follow each other: whoever is woken by
// the first of them finds the next when it is done with that, where otherwise it
// would fall asleep in between, and each write would have to wake it.
func (t *fairness) yield() {
	if t != nil && t.busy.Load() > t.processors.Load() {
		runtime.Gosched()
	}
}
