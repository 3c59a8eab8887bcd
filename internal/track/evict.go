// Eviction: closing the connection that has been idle longest to make room for
// another.

package track

import (
	"cmp"
	"io"
	"slices"
	"sync"
	"time"
)

// maxCandidates bounds the idle members that one search remembers.
const maxCandidates = 256

// expensiveSearch is the number of members (about 20 µs of search time) above
// which not every refused connection may cause a search.
const expensiveSearch = 8192

// idleCandidates are the members that had been idle longest at the last search,
// so that a new connection does not have to look at all members.
type idleCandidates struct {
	mu         sync.Mutex
	longest    []idleCandidate // in the order of eviction
	nextSearch time.Time       // the earliest next search, after a long one that found no idle member
}

// idleCandidate is a member that was idle at the last search. If it has been
// idle since the same time still, it has been idle longer than every member
// that the search left out.
type idleCandidate struct {
	e     *Entry
	since int64
}

// makeRoom closes an idle connection in or below g, which is at its limit, and
// reports whether there was one. The room is for a member of child, or of g
// itself if child is nil.
func (g *Group) makeRoom(child *Group) bool {
	if child == nil && g.evict() {
		return true
	}
	type candidate struct {
		group *Group
		n     int64
	}
	var most int64 // children with at most this many members keep theirs
	var candidates []candidate
	if child != nil {
		most = child.counted.Load()
		candidates = append(candidates, candidate{child, most})
	}
	g.mu.Lock()
	for c := range g.children.all() {
		if n := c.counted.Load(); c != child && n > most {
			candidates = append(candidates, candidate{c, n})
		}
	}
	g.mu.Unlock()
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.n, a.n) })
	for _, p := range candidates {
		if p.group.evict() {
			return true
		}
	}
	return false
}

// evict closes the member of g that has been idle longest. It reports false if
// no member is idle.
func (g *Group) evict() bool {
	closer := g.pickIdle()
	if closer == nil {
		return false
	}
	closer.Close()
	return true
}

// pickIdle removes the member of g that has been idle longest and returns its
// closer, or nil if no member is idle.
func (g *Group) pickIdle() io.Closer {
	g.candidates.mu.Lock()
	defer g.candidates.mu.Unlock()
	for {
		for len(g.candidates.longest) > 0 {
			i := g.candidates.longest[0]
			g.candidates.longest[0] = idleCandidate{}
			g.candidates.longest = g.candidates.longest[1:]
			if closer := i.e.evict(i.since); closer != nil {
				return closer
			}
		}
		if !g.searchIdle() {
			return nil
		}
	}
}

// searchIdle refills g.candidates.longest and reports whether it found an idle
// member. In a very large group, searches that find none take at most half of
// the time.
func (g *Group) searchIdle() bool {
	start := time.Now()
	if start.Before(g.candidates.nextSearch) {
		return false
	}
	var idle []idleCandidate
	looked := 0
	g.mu.Lock()
	for e := range g.members.all() {
		looked++
		if since := e.state.Load(); since > 0 {
			idle = append(idle, idleCandidate{e, since})
		}
	}
	g.mu.Unlock()
	slices.Reverse(idle) // oldest first among members idle since the same time
	slices.SortStableFunc(idle, func(a, b idleCandidate) int { return cmp.Compare(a.since, b.since) })
	if len(idle) > maxCandidates {
		idle = slices.Clone(idle[:maxCandidates])
	}
	g.candidates.longest = idle
	if len(idle) == 0 && looked > expensiveSearch {
		end := time.Now()
		g.candidates.nextSearch = end.Add(end.Sub(start))
	}
	return len(idle) > 0
}

// evict removes e if it has been idle since the given time, and returns its
// closer. It returns nil if e is busy again or gone. The place is free at once,
// even though the handler may not have returned yet.
func (e *Entry) evict(since int64) io.Closer {
	if !e.state.CompareAndSwap(since, stateEvicted) {
		return nil
	}
	g := e.lock()
	if e.released || !e.counted {
		g.mu.Unlock()
		return nil
	}
	e.counted = false
	closer := e.closer
	g.members.remove(e)
	g.mu.Unlock()
	g.unreserveCounted(nil)
	return closer
}
