// Groups: the open connections of one owner, and the groups below it.

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

// Group is the set of open connections of one owner. The zero value is an
// empty, open group without a limit. A Group must not be copied. All methods
// are safe for concurrent use.
//
// Groups form a tree: a member of a group counts in every group above it, and
// closing a group closes everything below it.
//
// A group at its limit makes room by closing the member that has been idle
// longest (see [Entry.Idle]). The groups directly below it share the limit.
// Room is made in the child group with the most members that has an idle one,
// but never in a group with fewer members than the new connection's own group.
// One child group gets at most three times as many places as are free (see
// package share).
//
// Locks: a group's mu is held together with another group's mu only while an
// entry moves, in the order parent, then two of its children.
type Group struct {
	parent *Group
	limit  atomic.Int64 // 0 = none

	// These counters include the groups below. Wait waits for total to become
	// 0. The limit applies to counted, which leaves out connections that are
	// over the limit and only receive a refusal.
	total   atomic.Int64
	counted atomic.Int64
	refused atomic.Uint64 // members refused because of a limit, here or below

	mu       sync.Mutex
	closed   bool
	members  list[*Entry]
	children list[*Group]
	empty    chan struct{} // closed when total becomes 0; nil if nothing waits

	//lint:ignore U1000 list needs its method node
	links[*Group] // position in parent.children; guarded by parent.mu

	candidates idleCandidates // the next members to close when the group is full
}

// NewGroup returns an open group below parent, or a root group if parent is
// nil. A child of a closed group is closed from the start. A child stays linked
// to its parent until its own [Group.CloseAll].
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

// SetLimit sets how many members the group and the groups below it may have at
// a time; 0 or less means no limit. Lowering the limit closes no members.
func (g *Group) SetLimit(n int) { g.limit.Store(int64(max(n, 0))) }

// Add makes c a member until its [Entry.Release]. The error is [ErrClosed] or
// [ErrFull] (test with errors.Is); the caller then closes c.
//
// While c is a member, the group may call c.Close at any time and from any
// goroutine, even while the owner closes c. net.Conn permits this.
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

// admit counts one more member here and above, and makes room for it if
// necessary. It returns the limit that was reached, or 0 if the member was
// admitted.
func (g *Group) admit(counted bool) (limit int64) {
	full, child := g.reserve(nil, counted, true)
	for full != nil {
		if !full.makeRoom(child) {
			return full.limit.Load()
		}
		// The freed place is for this member, whatever the share of its group
		// is, unless another member was faster.
		full, child = g.reserve(nil, counted, false)
	}
	return 0
}

// reserve counts one more member in g and the groups above, up to but not
// including end. If a limit is reached, it counts nothing and returns the group
// with that limit and that group's child on the path from g. With fair, a child
// group may have no more than its share of the limit.
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

// unreserve reverts reserve, from g up to but not including end.
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

// unreserveCounted is unreserve for the limits alone. The member still counts
// in total.
func (g *Group) unreserveCounted(end *Group) {
	for p := g; p != end; p = p.parent {
		p.counted.Add(-1)
	}
}

// Len returns the number of members in this group and below. It takes no lock.
func (g *Group) Len() int { return int(g.total.Load()) }

// Refused returns how many members were refused since the group was made
// because of the limit of this group or of one above or below it. It takes no
// lock.
func (g *Group) Refused() uint64 { return g.refused.Load() }

// CloseAll closes every member in this group and below, and makes every later
// Add fail. Members that [Entry.Move] put here return to the group that
// accepted them and stay open.
//
// Members stay counted until their owners release them. CloseAll may be called
// more than once. It holds no lock while it closes the members one by one, so a
// Close that blocks delays the following ones.
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

// Wait returns nil once the group and the groups below have no members. If ctx
// ends first, it returns an error with the number of members left. Wait closes
// nothing and does not prevent new members.
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
