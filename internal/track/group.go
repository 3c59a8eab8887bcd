// The live connections of one owner, and the owners below it.

package track

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

var (
	// ErrClosed is returned by [Group.Add] after [Group.CloseAll].
	ErrClosed = errors.New("group is closed")

	// ErrFull is returned by [Group.Add] when the group, or one above it, is at
	// its limit.
	ErrFull = errors.New("connection limit reached")
)

// Group is the set of live connections of one owner. The zero value is an
// empty, open group without a limit. A Group must not be copied. All methods
// are safe for concurrent use.
//
// Groups form a tree: a member of a group counts in every group above it, and
// closing a group closes everything below it.
type Group struct {
	parent *Group
	limit  atomic.Int64 // 0 = none

	// Counters include the groups below. all is what Wait waits for; counted
	// is what the limit applies to, which leaves out connections that are only
	// being told that the limit is reached.
	all     atomic.Int64
	counted atomic.Int64
	refused atomic.Uint64 // members that a limit kept out, here or below

	mu       sync.Mutex
	closed   bool
	members  list[*Entry]
	children list[*Group]
	empty    chan struct{} // closed when all becomes 0; nil without a waiter

	//lint:ignore U1000 its method place is what list asks for
	links[*Group] // place among parent.children; guarded by parent.mu
}

// NewGroup returns an open group below parent, or one without a parent if
// parent is nil. A child of a closed group is closed from the start. A child
// stays linked to its parent until its own [Group.CloseAll].
func NewGroup(parent *Group) *Group {
	g := &Group{parent: parent}
	if parent == nil {
		return g
	}
	parent.mu.Lock()
	defer parent.mu.Unlock()
	if parent.closed {
		g.closed = true
		return g
	}
	parent.children.push(g)
	return g
}

// SetLimit sets how many members the group, with the groups below it, may have
// at a time; 0 or less means no limit. Members beyond a lowered limit stay.
func (g *Group) SetLimit(n int) { g.limit.Store(int64(max(n, 0))) }

// Add makes c a member until its [Entry.Release]. The error is [ErrClosed] or
// [ErrFull] (test with errors.Is); c then belongs to the caller, who closes it.
//
// Close may be called on c at any time and from any goroutine while it is a
// member, also while its owner closes it: net.Conn permits both.
func (g *Group) Add(c io.Closer) (*Entry, error) { return g.add(c, true) }

func (g *Group) add(c io.Closer, counted bool) (*Entry, error) {
	if err := g.take(counted); err != nil {
		return nil, err
	}
	e := &Entry{group: g, closer: c, counted: counted}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		g.give(nil, counted)
		return nil, ErrClosed
	}
	g.members.push(e)
	g.mu.Unlock()
	return e, nil
}

// take counts one more member here and above.
func (g *Group) take(counted bool) error {
	for p := g; p != nil; p = p.parent {
		p.all.Add(1)
		if !counted {
			continue
		}
		n := p.counted.Add(1)
		if limit := p.limit.Load(); limit > 0 && n > limit {
			g.give(p.parent, counted)
			for r := g; r != nil; r = r.parent {
				r.refused.Add(1)
			}
			return fmt.Errorf("%w: %d", ErrFull, limit)
		}
	}
	return nil
}

// give undoes take from here up to, not including, end.
func (g *Group) give(end *Group, counted bool) {
	for p := g; p != end; p = p.parent {
		if counted {
			p.counted.Add(-1)
		}
		if p.all.Add(-1) != 0 {
			continue
		}
		p.mu.Lock()
		if p.empty != nil && p.all.Load() == 0 {
			close(p.empty)
			p.empty = nil
		}
		p.mu.Unlock()
	}
}

// Len returns the number of members here and below. It takes no lock.
func (g *Group) Len() int { return int(g.all.Load()) }

// Refused returns how many members a limit, of this group or of one above or
// below it, has kept out of it since it was made. It takes no lock.
func (g *Group) Refused() uint64 { return g.refused.Load() }

// CloseAll closes every member here and below, and makes every later Add fail.
// Members stay counted until their owners release them. It may be called more
// than once; it calls Close on the members one after the other, outside any
// lock, so a closer that blocks delays the ones behind it.
func (g *Group) CloseAll() {
	g.mu.Lock()
	g.closed = true
	var closers []io.Closer
	for e := range g.members.all() {
		closers = append(closers, e.closer)
	}
	var children []*Group
	for c := range g.children.all() {
		children = append(children, c)
	}
	g.mu.Unlock()

	for _, c := range closers {
		c.Close()
	}
	for _, c := range children {
		c.CloseAll()
	}
	if g.parent != nil {
		g.parent.mu.Lock()
		g.parent.children.remove(g)
		g.parent.mu.Unlock()
	}
}

// Wait returns nil once the group and those below it have no members, or the
// error of ctx with the number of members left. It does not close anything and
// does not keep new members out.
func (g *Group) Wait(ctx context.Context) error {
	g.mu.Lock()
	if g.all.Load() == 0 {
		g.mu.Unlock()
		return nil
	}
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	empty := g.empty
	g.mu.Unlock()

	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %d connections: %w", g.Len(), ctx.Err())
	}
}

// Entry is one membership in a [Group]. All methods are safe for concurrent
// use, save for Then, and do nothing on a nil Entry.
type Entry struct {
	group   *Group
	counted bool
	then    func() // for the handler's goroutine alone

	// Guarded by group.mu.
	closer   io.Closer
	released bool
	//lint:ignore U1000 its method place is what list asks for
	links[*Entry]
}

// Release ends the membership. The owner calls it when it is done with the
// connection, as the last thing its goroutine does; Release does not close it.
// Calls after the first do nothing.
func (e *Entry) Release() {
	if e == nil {
		return
	}
	g := e.group
	g.mu.Lock()
	if e.released {
		g.mu.Unlock()
		return
	}
	e.released = true
	e.closer = nil
	g.members.remove(e)
	g.mu.Unlock()
	g.give(nil, e.counted)
}

// Replace makes c what [Group.CloseAll] closes for this entry, for instance
// both ends of a tunnel in place of its client's end. It reports false, and
// changes nothing, when the group is closed or the entry released: the caller
// then closes c.
func (e *Entry) Replace(c io.Closer) bool {
	if e == nil {
		return false
	}
	e.group.mu.Lock()
	defer e.group.mu.Unlock()
	if e.released || e.group.closed {
		return false
	}
	e.closer = c
	return true
}

// Then has [Listener.Serve] call f once the handler of the connection has
// returned: for what is to last, such as a tunnel, and should not keep alive what
// the handler was called with. The connection stays open, and a member, until f
// returns; f may itself call Then. Only the handler may call it. A handler that
// panics has nothing after it.
func (e *Entry) Then(f func()) {
	if e != nil {
		e.then = f
	}
}
