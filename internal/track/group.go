// The live connections of one owner, and the owners below it.

package track

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/share"
)

var (
	// ErrClosed is returned by [Group.Add] after [Group.CloseAll].
	ErrClosed = errors.New("group is closed")

	// ErrFull is returned by [Group.Add] when the group, or one above it, is at
	// its limit and no idle connection can make room.
	ErrFull = errors.New("connection limit reached")
)

// Group is the set of live connections of one owner. The zero value is an
// empty, open group without a limit. A Group must not be copied. All methods
// are safe for concurrent use.
//
// Groups form a tree: a member of a group counts in every group above it, and
// closing a group closes everything below it.
//
// A group at its limit makes room by closing the member that was idle for
// longest (see [Entry.Idle]). The groups directly below it share its limit: room
// is made in the one with the most members that has an idle one, but never in
// one with fewer members than the group of the new connection has, and one group
// gets no more than three times as many places as are free (see package share).
//
// Locks: mu of a group is held together with mu of another only by who moves an
// entry, in the order parent, then two of its children.
type Group struct {
	parent *Group
	limit  atomic.Int64 // 0 = none

	// Counters include the groups below. all is what Wait waits for; counted
	// is what the limit applies to, which leaves out connections that are only
	// being told that the limit is reached.
	total   atomic.Int64
	counted atomic.Int64
	refused atomic.Uint64 // members that a limit kept out, here or below

	mu       sync.Mutex
	closed   bool
	members  list[*Entry]
	children list[*Group]
	empty    chan struct{} // closed when all becomes 0; nil without a waiter

	//lint:ignore U1000 its method place is what list asks for
	links[*Group] // place among parent.children; guarded by parent.mu

	candidates idleCandidates // the members that make room first
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
	if limit := g.admit(counted); limit > 0 {
		for r := g; r != nil; r = r.parent {
			r.refused.Add(1)
		}
		return nil, fmt.Errorf("%w: %d", ErrFull, limit)
	}
	e := &Entry{home: g, closer: c, counted: counted}
	e.group.Store(g)
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		g.unreserve(nil, counted)
		return nil, ErrClosed
	}
	g.members.push(e)
	g.mu.Unlock()
	return e, nil
}

// admit counts one more member here and above, and makes room for it if need
// be. It returns the limit that keeps it out, or 0.
func (g *Group) admit(counted bool) (limit int64) {
	full, child := g.reserve(nil, counted, true)
	for full != nil {
		if !full.makeRoom(child) {
			return full.limit.Load()
		}
		// The place that came free is for this member, whatever its group has
		// already, unless another has been faster.
		full, child = g.reserve(nil, counted, false)
	}
	return 0
}

// take counts one more member in g and above, up to, not including, end. If
// that is too many it counts nothing and returns the group whose limit is
// reached, and the group below that on the way from g. fair says that groups
// below a limit may have no more than their share.
func (g *Group) reserve(end *Group, counted, fair bool) (full, child *Group) {
	for p := g; p != end; child, p = p, p.parent {
		p.total.Add(1)
		if !counted {
			continue
		}
		n := p.counted.Add(1)
		limit := p.limit.Load()
		if limit > 0 && (n > limit || fair && child != nil && !share.Allows(int(child.counted.Load()-1), int(limit-(n-1)))) {
			g.unreserve(p.parent, counted)
			return p, child
		}
	}
	return nil, nil
}

// give undoes take from here up to, not including, end.
func (g *Group) unreserve(end *Group, counted bool) {
	if counted {
		g.unreserveCounted(end)
	}
	for p := g; p != end; p = p.parent {
		if p.total.Add(-1) != 0 {
			continue
		}
		p.mu.Lock()
		if p.empty != nil && p.total.Load() == 0 {
			close(p.empty)
			p.empty = nil
		}
		p.mu.Unlock()
	}
}

// giveCounted is give for the limits alone: the member is still there.
func (g *Group) unreserveCounted(end *Group) {
	for p := g; p != end; p = p.parent {
		p.counted.Add(-1)
	}
}

// Len returns the number of members here and below. It takes no lock.
func (g *Group) Len() int { return int(g.total.Load()) }

// Refused returns how many members a limit, of this group or of one above or
// below it, has kept out of it since it was made. It takes no lock.
func (g *Group) Refused() uint64 { return g.refused.Load() }

// CloseAll closes every member here and below, and makes every later Add fail.
// Members that [Entry.Move] has put here go back to the group that accepted
// them.
// Members stay counted until their owners release them. It may be called more
// than once; it calls Close on the members one after the other, outside any
// lock, so a closer that blocks delays the ones behind it.
func (g *Group) CloseAll() {
	g.mu.Lock()
	g.closed = true
	var closers []io.Closer
	var moved []*Entry
	for e := range g.members.all() {
		if e.home == g {
			closers = append(closers, e.closer)
		} else {
			moved = append(moved, e)
		}
	}
	var children []*Group
	for c := range g.children.all() {
		children = append(children, c)
	}
	g.mu.Unlock()

	for _, e := range moved {
		if c := e.returnHome(g); c != nil {
			closers = append(closers, c)
		}
	}
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
	if g.total.Load() == 0 {
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
