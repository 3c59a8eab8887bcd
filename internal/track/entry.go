// Entries: the membership of one connection in a group.

package track

import (
	"io"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/share"
)

// Entry is the membership of one connection in a [Group]. All methods do
// nothing on a nil Entry. All are safe for concurrent use, except AfterHandler.
type Entry struct {
	home         *Group                // the group that accepted the connection
	group        atomic.Pointer[Group] // the group it counts in; changes under both groups' mu
	afterHandler func()                // used by the handler's goroutine only

	// state is the time since which the connection has been idle, in
	// nanoseconds since 1970, or one of the constants below.
	state atomic.Int64

	// The following fields are guarded by group.mu.
	counted  bool // counts toward the limits
	closer   io.Closer
	released bool
	//lint:ignore U1000 list needs its method node
	links[*Entry]
}

// Values of Entry.state that are not a time.
const (
	stateBusy    = 0
	stateEvicted = -1 // closed to make room for another connection
)

// Begin marks the connection as busy until the next Idle, so that it is not
// closed to make room. It reports false if it was already closed for that
// reason; the caller then stops serving it.
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

// Idle marks the connection as idle since now: no request is in progress, and
// the connection may be closed to make room for another. Idle does nothing if
// the connection is already idle. A new Entry is busy.
func (e *Entry) Idle(now time.Time) {
	if e != nil {
		e.state.CompareAndSwap(stateBusy, now.UnixNano())
	}
}

// lock locks the mu of the group that e counts in and returns that group.
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

// Release ends the membership and does not close the connection. The goroutine
// that serves the connection calls it last. Calls after the first do nothing.
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

// SetCloser makes [Group.CloseAll] close c for this entry, for example both
// ends of a tunnel instead of the client's connection. It reports false and
// changes nothing if the group is closed or the entry released; the caller then
// closes c.
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

// AfterHandler makes [Listener.Serve] call f when the handler has returned. A
// long-lived activity such as a tunnel runs in f, so that the handler's stack
// does not keep the request in memory meanwhile. The connection stays open and
// a member until f returns. f may call AfterHandler again. Only the handler may
// call it. f is not called if the handler panics.
func (e *Entry) AfterHandler(f func()) {
	if e != nil {
		e.afterHandler = f
	}
}

// Move counts the connection in another group with the same parent, that of the
// session that its requests belong to. It reports false if that group is full;
// the connection then counts where it did. Closing the new group does not close
// the connection: it ends with the group that accepted it. Only a handler may
// call Move, between Begin and Idle. Moving to a nil group changes nothing.
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
		to.unreserve(to.parent, true) // the session or this connection has just ended
		return true
	}
	from.unreserve(from.parent, true)
	return true
}

// admitFromSibling is admit for a member that the parent counts already.
func (g *Group) admitFromSibling() bool {
	p := g.parent
	for fair := true; ; fair = false {
		full, child := g.reserve(p, true, true)
		if full == nil && fair && p != nil {
			limit := p.limit.Load()
			if limit > 0 && !share.Allows(int(g.counted.Load()-1), int(limit-(p.counted.Load()-1))) {
				g.unreserve(p, true)
				full, child = p, g
			}
		}
		if full == nil {
			return true
		}
		if !full.makeRoom(child) {
			for r := g; r != nil; r = r.parent {
				r.refused.Add(1)
			}
			return false
		}
	}
}

// transfer moves e from its group's members to those of to. It returns the
// group that e was in and whether e counts toward limits. It returns nil and
// does nothing if to is closed or e is released. The caller updates the
// counters.
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

// returnHome moves e, which was moved to g, back to the group that accepted it.
// If that group is closed, it returns the closer of e for the caller to close.
func (e *Entry) returnHome(g *Group) io.Closer {
	// Count e at home first, because a counter must not fall to 0 in between.
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
