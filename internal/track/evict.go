// Making room: which idle connection is closed for another.

package track

import (
	"cmp"
	"io"
	"slices"
	"sync"
	"time"
)

// maxIdlers bounds the idle members that one search remembers.
const maxCandidates = 256

// manyMembers is how many take so long to search that it must not be done for
// every connection that is refused: about 20 µs.
const expensiveSearch = 8192

// idlers are the members of a group that were idle for longest when they were
// last searched for, so that not every new connection looks at all members.
type idleCandidates struct {
	mu         sync.Mutex
	longest    []idleCandidate // in the order in which they are to go
	nextSearch time.Time       // not to search before, after a long search that found none
}

// idler is a member that was idle. If it is idle since the same moment still,
// it was idle for longer than any member that the search did not find.
type idleCandidate struct {
	e     *Entry
	since int64
}

// makeRoom closes a connection below g, which is at its limit, and reports
// whether it found one that is idle. The room is for a member of below, or of g
// itself if that is nil.
func (g *Group) makeRoom(child *Group) bool {
	if child == nil && g.evict() {
		return true
	}
	type candidate struct {
		group *Group
		n     int64
	}
	var most int64 // groups with so many may keep theirs
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

// evict closes the member of g that was idle for longest. It reports false if
// none is idle.
func (g *Group) evict() bool {
	closer := g.pickIdle()
	if closer == nil {
		return false
	}
	closer.Close()
	return true
}

// pickIdle takes the place of the member of g that was idle for longest and
// returns what is to be closed, or nil if none is idle.
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

// searchIdle fills in g.idlers.longest, and reports whether there are any. In a
// very large group it spends no more than half of the time on searches that
// find none.
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
	slices.Reverse(idle) // of several that are idle since the same moment, the oldest first
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

// evict takes the place of a member that is idle since a moment, and returns
// what is to be closed; nil if the member is not idle any more, or not there.
// The place is free at once, while the handler may still have to return.
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
