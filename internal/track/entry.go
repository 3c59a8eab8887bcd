// One live connection.

package track

import (
	"io"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/share"
)

// Entry is one membership in a [Group]. All methods are safe for concurrent
// use, save for Then, and do nothing on a nil Entry.
type Entry struct {
	home         *Group                // that accepted the connection
	group        atomic.Pointer[Group] // that it counts in; changes with both groups' mu held
	afterHandler func()                // for the handler's goroutine alone

	// state is the time since which the connection is idle, in nanoseconds
	// since 1970, or one of the values below.
	state atomic.Int64

	// Guarded by the mu of group.
	counted  bool // within limits
	closer   io.Closer
	released bool
	//lint:ignore U1000 its method place is what list asks for
	links[*Entry]
}

// Values of Entry.state that are no time.
const (
	stateBusy    = 0
	stateEvicted = -1 // closed to make room
)

// Begin marks the connection as busy until the next Idle: it is not closed to
// make room. It reports false if that has happened already; the caller then
// serves nothing more.
func (e *Entry) Begin() bool {
	if e == nil {
		return true
	}
	for {
		s := e.state.Load()
		if s == stateEvicted {
			return false
		}
		if s == stateBusy || e.state.CompareAndSwap(s, stateBusy) {
			return true
		}
	}
}

// Idle marks the connection as idle since now: nothing is under way on it, and
// it may be closed to make room for another. It does nothing if it is idle
// already. A new Entry is busy.
func (e *Entry) Idle(now time.Time) {
	if e != nil {
		e.state.CompareAndSwap(stateBusy, now.UnixNano())
	}
}

// lock locks the mu of the group that e counts in, and returns that.
func (e *Entry) lock() *Group {
	for {
		g := e.group.Load()
		g.mu.Lock()
		if e.group.Load() == g {
			return g
		}
		g.mu.Unlock()
	}
}

// Release ends the membership. The owner calls it when it is done with the
// connection, as the last thing its goroutine does; Release does not close it.
// Calls after the first do nothing.
func (e *Entry) Release() {
	if e == nil {
		return
	}
	g := e.lock()
	if e.released {
		g.mu.Unlock()
		return
	}
	e.released = true
	e.closer = nil
	counted := e.counted
	g.members.remove(e)
	g.mu.Unlock()
	g.unreserve(nil, counted)
}

// SetCloser makes c what [Group.CloseAll] closes for this entry, for instance
// both ends of a tunnel in place of its client's end. It reports false, and
// changes nothing, when the group is closed or the entry released: the caller
// then closes c.
func (e *Entry) SetCloser(c io.Closer) bool {
	if e == nil {
		return false
	}
	g := e.lock()
	defer g.mu.Unlock()
	if e.released || g.closed {
		return false
	}
	e.closer = c
	return true
}

// AfterHandler has [Listener.Serve] call f once the handler of the connection has
// returned: for what is to last, such as a tunnel, and should not keep alive what
// the handler was called with. The connection stays open, and a member, until f
// returns; f may itself call AfterHandler. Only the handler may call it. A handler that
// panics has nothing after it.
func (e *Entry) AfterHandler(f func()) {
	if e != nil {
		e.afterHandler = f
	}
}

// Move counts the connection in another group, which has the same parent: that
// of the session which its requests belong to. It reports false if that group
// has no place for it; the connection then counts where it did. Closing the new
// group does not close the connection, which ends with the group that accepted
// it. Only a handler may call Move, between Begin and Idle. A nil group changes
// nothing.
func (e *Entry) Move(to *Group) bool {
	if e == nil || to == nil {
		return true
	}
	from := e.group.Load()
	if from == to || from.parent != to.parent {
		return true
	}
	if !to.admitFromSibling() {
		return false
	}
	if from, _ = e.transfer(to); from == nil {
		to.unreserve(to.parent, true) // its session, or this connection, has just ended
		return true
	}
	from.unreserve(from.parent, true)
	return true
}

// admitMoved is admit for a member that the parent counts already.
func (g *Group) admitFromSibling() bool {
	p := g.parent
	for fair := true; ; fair = false {
		full, below := g.reserve(p, true, true)
		if full == nil && fair && p != nil {
			limit := p.limit.Load()
			if limit > 0 && !share.Allows(int(g.counted.Load()-1), int(limit-(p.counted.Load()-1))) {
				g.unreserve(p, true)
				full, below = p, g
			}
		}
		if full == nil {
			return true
		}
		if !full.makeRoom(below) {
			for r := g; r != nil; r = r.parent {
				r.refused.Add(1)
			}
			return false
		}
	}
}

// relink puts e from the members of its group among those of to. It returns the
// group that e was in, and whether e counts against limits. It does nothing and
// returns nil if to is closed or e released. The counts are the caller's.
func (e *Entry) transfer(to *Group) (from *Group, counted bool) {
	if p := to.parent; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
	}
	from = e.lock()
	defer from.mu.Unlock()
	if from == to || e.released {
		return nil, false
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.closed {
		return nil, false
	}
	from.members.remove(e)
	e.group.Store(to)
	to.members.push(e)
	return from, e.counted
}

// goHome puts e, which was moved to g, back into the group that accepted it. If
// that is closed it returns what is to be closed.
func (e *Entry) returnHome(g *Group) io.Closer {
	// Counted first: a count must not fall to 0 in between.
	e.home.total.Add(1)
	if from, counted := e.transfer(e.home); from != nil {
		if counted {
			e.home.counted.Add(1)
		}
		from.unreserve(from.parent, counted)
		return nil
	}
	e.home.unreserve(e.home.parent, false)
	at := e.lock()
	defer at.mu.Unlock()
	if e.released || at != g {
		return nil
	}
	return e.closer
}
