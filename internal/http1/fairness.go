// Yielding the processor while many connections are busy.

package http1

import (
	"runtime"
	"sync/atomic"
)

// fairness makes connections yield with runtime.Gosched before system calls
// while more of them are busy than there are processors. The zero value is
// ready to use, and a nil *fairness never yields. It is safe for concurrent
// use.
type fairness struct {
	busy       atomic.Int32 // connections that had a request within the last moments; see watcher
	processors atomic.Int32 // GOMAXPROCS at the last refresh
}

// refresh reads GOMAXPROCS. It is called once per connection, because reading
// GOMAXPROCS takes a scheduler lock.
func (f *fairness) refresh() { f.processors.Store(int32(runtime.GOMAXPROCS(0))) }

// begin and end count a busy connection.
func (f *fairness) begin() { f.busy.Add(1) }
func (f *fairness) end()   { f.busy.Add(-1) }

// yield lets other goroutines run before a system call if more connections are
// busy than there are processors. Otherwise yielding would cost more than it
// saves.
//
// Before a read, the awaited data has often arrived by the time the goroutine
// runs again, which saves the two system calls of waiting. Before a write,
// yielding groups the writes of several connections: the receiver wakes once
// and finds them all, where it would otherwise sleep and be woken for each.
func (f *fairness) yield() {
	if f != nil && f.busy.Load() > f.processors.Load() {
		runtime.Gosched()
	}
}
