// Groups: membership, limits, closing and waiting.

package track

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// closer counts calls of Close.
type closer struct{ n atomic.Int32 }

func (c *closer) Close() error { c.n.Add(1); return nil }

func mustAdd(t *testing.T, g *Group) (*Entry, *closer) {
	t.Helper()
	c := new(closer)
	e, err := g.Add(c)
	if err != nil {
		t.Fatal(err)
	}
	return e, c
}

func TestGroupCountsItsTree(t *testing.T) {
	t.Parallel()
	var top Group
	a, b := NewGroup(&top), NewGroup(&top)
	deep := NewGroup(a)
	e1, _ := mustAdd(t, &top)
	e2, _ := mustAdd(t, b)
	e3, _ := mustAdd(t, deep)
	check := func(want ...int) {
		t.Helper()
		for i, g := range []*Group{&top, a, b, deep} {
			if got := g.Len(); got != want[i] {
				t.Errorf("group %d has %d members, want %d", i, got, want[i])
			}
		}
	}
	check(3, 1, 1, 1)
	e3.Release()
	e3.Release()
	check(2, 0, 1, 0)
	e1.Release()
	e2.Release()
	check(0, 0, 0, 0)
}

func TestNilEntry(t *testing.T) {
	t.Parallel()
	var e *Entry
	e.Release()
	if e.SetCloser(new(closer)) {
		t.Error("SetCloser on a nil entry reported true")
	}
}

func TestCloseAll(t *testing.T) {
	t.Parallel()
	var top Group
	child := NewGroup(&top)
	deep := NewGroup(child)
	var closers []*closer
	var entries []*Entry
	for _, g := range []*Group{&top, child, deep, deep} {
		e, c := mustAdd(t, g)
		entries, closers = append(entries, e), append(closers, c)
	}
	gone, released := mustAdd(t, deep)
	gone.Release()

	top.CloseAll()
	for i, c := range closers {
		if n := c.n.Load(); n != 1 {
			t.Errorf("member %d was closed %d times", i, n)
		}
	}
	if released.n.Load() != 0 {
		t.Error("a released member was closed")
	}
	for name, g := range map[string]*Group{"top": &top, "child": child, "deep": deep, "new": NewGroup(child)} {
		c := new(closer)
		if _, err := g.Add(c); !errors.Is(err, ErrClosed) {
			t.Errorf("%s: Add after CloseAll: %v, want %v", name, err, ErrClosed)
		}
	}
	if got := top.Len(); got != 4 {
		t.Errorf("%d members before their release, want 4", got)
	}
	for _, e := range entries {
		if e.SetCloser(new(closer)) {
			t.Error("SetCloser in a closed group reported true")
		}
		e.Release()
	}
	if got := top.Len(); got != 0 {
		t.Errorf("%d members left at the end", got)
	}
	top.CloseAll()
}

func TestClosingAChildLeavesTheRest(t *testing.T) {
	t.Parallel()
	var top Group
	child, other := NewGroup(&top), NewGroup(&top)
	_, inChild := mustAdd(t, child)
	_, inOther := mustAdd(t, other)
	child.CloseAll()
	if inChild.n.Load() != 1 || inOther.n.Load() != 0 {
		t.Error("CloseAll must close the child's member and no other")
	}
	n := 0
	for range top.children.all() {
		n++
	}
	if n != 1 {
		t.Errorf("the parent has %d children, want 1: closed children must be removed", n)
	}
	mustAdd(t, &top)
}

func TestReplace(t *testing.T) {
	t.Parallel()
	var g Group
	e, first := mustAdd(t, &g)
	second := new(closer)
	if !e.SetCloser(second) {
		t.Fatal("SetCloser on an open entry reported false")
	}
	gone, _ := mustAdd(t, &g)
	gone.Release()
	if gone.SetCloser(first) {
		t.Error("SetCloser on a released entry reported true")
	}
	g.CloseAll()
	if first.n.Load() != 0 || second.n.Load() != 1 {
		t.Error("CloseAll must close the new closer, not the old one")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var top Group
	top.SetLimit(3)
	a, b := NewGroup(&top), NewGroup(&top)
	a.SetLimit(2)
	full := func(g *Group) {
		t.Helper()
		if _, err := g.Add(new(closer)); !errors.Is(err, ErrFull) {
			t.Errorf("got %v, want %v", err, ErrFull)
		}
	}
	e, _ := mustAdd(t, a)
	mustAdd(t, a)
	full(a) // its own limit
	mustAdd(t, b)
	full(b) // the limit of its parent
	e.Release()
	mustAdd(t, b) // b itself has no limit
	full(a)
	if top.Len() != 3 || a.Len() != 1 || b.Len() != 2 {
		t.Errorf("%d, %d and %d members; refused connections must not count", top.Len(), a.Len(), b.Len())
	}
	top.SetLimit(0)
	mustAdd(t, a)
	full(a)
	a.SetLimit(-1)
	mustAdd(t, a)
}

func TestWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var top Group
		child := NewGroup(&top)
		if err := top.Wait(t.Context()); err != nil {
			t.Errorf("Wait on an empty group: %v", err)
		}
		e1, _ := mustAdd(t, &top)
		e2, _ := mustAdd(t, child)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := top.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Wait: %v, want a timeout", err)
		}

		results := make(chan error, 2)
		for range 2 {
			go func() { results <- top.Wait(context.Background()) }()
		}
		synctest.Wait()
		e1.Release()
		synctest.Wait()
		if len(results) != 0 {
			t.Error("Wait returned before the last release")
		}
		e2.Release()
		for range 2 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// closeSignal closes a channel when it is closed, and panics the second time.
type closeSignal struct{ closed chan struct{} }

func (s closeSignal) Close() error { close(s.closed); return nil }

// TestAddAgainstCloseAll checks that a concurrently added connection is refused
// or closed, and never left open in a closed group.
func TestAddAgainstCloseAll(t *testing.T) {
	t.Parallel()
	for range 200 {
		var top Group
		child := NewGroup(&top)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 8 {
			g := &top
			if i%2 == 0 {
				g = child
			}
			wg.Go(func() {
				<-start
				c := closeSignal{make(chan struct{})}
				e, err := g.Add(c)
				if err != nil {
					return
				}
				e.SetCloser(c)
				<-c.closed // blocks forever if CloseAll misses it
				e.Release()
			})
		}
		wg.Go(func() { <-start; NewGroup(&top).CloseAll() })
		wg.Go(func() { <-start; top.CloseAll() })
		close(start)
		wg.Wait()
		if err := top.Wait(t.Context()); err != nil || top.Len() != 0 {
			t.Fatalf("%d members left: %v", top.Len(), err)
		}
	}
}

// TestLimitUnderContention checks that the limit holds under concurrent calls.
func TestLimitUnderContention(t *testing.T) {
	t.Parallel()
	const limit = 5
	var top Group
	top.SetLimit(limit)
	var live atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		g := NewGroup(&top)
		wg.Go(func() {
			for range 2000 {
				e, err := g.Add(new(closer))
				if err != nil {
					continue
				}
				if n := live.Add(1); n > limit {
					t.Errorf("%d members at the same time, limit %d", n, limit)
				}
				live.Add(-1)
				e.Release()
			}
		})
	}
	wg.Wait()
	if top.Len() != 0 || top.counted.Load() != 0 {
		t.Errorf("counters are %d and %d at the end, want 0", top.Len(), top.counted.Load())
	}
}

// TestGroupAgainstModel makes random calls on a tree of groups and compares the
// result with a model of sets.
func TestGroupAgainstModel(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		groups := []*Group{new(Group)}
		parents := []int{-1}
		for range 5 {
			p := rng.IntN(len(groups))
			groups, parents = append(groups, NewGroup(groups[p])), append(parents, p)
		}
		type member struct {
			e    *Entry
			c    *closer
			home int
		}
		var members []member
		closed := make([]bool, len(groups))
		within := func(g, top int) bool {
			for ; g >= 0; g = parents[g] {
				if g == top {
					return true
				}
			}
			return false
		}
		for range 200 {
			switch g := rng.IntN(len(groups)); rng.IntN(20) {
			case 0:
				groups[g].CloseAll()
				for i := range groups {
					closed[i] = closed[i] || within(i, g)
				}
				for _, m := range members {
					if within(m.home, g) && m.c.n.Load() == 0 {
						t.Fatal("a member of a closed group is open")
					}
				}
			case 1, 2, 3, 4, 5, 6, 7:
				if len(members) > 0 {
					i := rng.IntN(len(members))
					members[i].e.Release()
					members = append(members[:i], members[i+1:]...)
				}
			default:
				c := new(closer)
				e, err := groups[g].Add(c)
				if (err != nil) != closed[g] {
					t.Fatalf("Add: %v; group closed: %t", err, closed[g])
				}
				if err == nil {
					members = append(members, member{e, c, g})
				}
			}
			for i := range groups {
				want := 0
				for _, m := range members {
					if within(m.home, i) {
						want++
					}
				}
				if got := groups[i].Len(); got != want {
					t.Fatalf("group %d has %d members, want %d", i, got, want)
				}
			}
		}
	}
}

func BenchmarkAddRelease(b *testing.B) {
	b.ReportAllocs()
	var top Group
	top.SetLimit(1 << 20)
	g := NewGroup(&top)
	c := new(closer)
	for b.Loop() {
		e, err := g.Add(c)
		if err != nil {
			b.Fatal(err)
		}
		e.Release()
	}
}

func BenchmarkAddReleaseParallel(b *testing.B) {
	b.ReportAllocs()
	var top Group
	b.RunParallel(func(pb *testing.PB) {
		g := NewGroup(&top)
		c := new(closer)
		for pb.Next() {
			e, err := g.Add(c)
			if err != nil {
				b.Fatal(err)
			}
			e.Release()
		}
	})
}
