// Eviction, and moving between groups.

package track

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// at returns the time n seconds after the epoch.
func at(n int) time.Time { return time.Unix(int64(n), 0) }

// idle adds a member that has been idle since the given time.
func idle(t *testing.T, g *Group, since int) (*Entry, *closer) {
	t.Helper()
	e, c := mustAdd(t, g)
	e.Idle(at(since))
	return e, c
}

func TestRoomIsMadeByTheOneIdleForLongest(t *testing.T) {
	t.Parallel()
	var g Group
	g.SetLimit(4)
	first, a := idle(t, &g, 10)
	_, b := idle(t, &g, 30)
	_, c := idle(t, &g, 20)
	_, d := mustAdd(t, &g) // busy
	if !first.Begin() {
		t.Error("Begin on an idle connection reported false")
	}
	first.Idle(at(40))
	for i := range 3 {
		mustAdd(t, &g)
		for j, x := range []*closer{c, b, a, d} {
			if got := x.n.Load() == 1; got != (j <= i) {
				t.Errorf("after adding connection %d: connection %d closed: %t", i, j, got)
			}
		}
	}
	if first.Begin() {
		t.Error("Begin on an evicted connection reported true")
	}
	if _, err := g.Add(new(closer)); !errors.Is(err, ErrFull) {
		t.Errorf("Add without an idle member: %v, want %v", err, ErrFull)
	}
	if g.Len() != 7 || g.counted.Load() != 4 {
		t.Errorf("%d members, %d counted; evicted connections must stay members until released", g.Len(), g.counted.Load())
	}
	first.Release()
	if g.Len() != 6 || g.counted.Load() != 4 {
		t.Errorf("%d members, %d counted after a release", g.Len(), g.counted.Load())
	}
	if g.Refused() != 1 {
		t.Errorf("Refused() = %d", g.Refused())
	}
}

func TestEvictionPicksTheLargestGroup(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name             string
		big, small, mine []bool // members, oldest first: idle or busy
		from             string // the group that must make room for a member of mine
	}{
		{"the largest group", []bool{true, true, true, true}, []bool{true, true}, nil, "big"},
		{"the next largest if the largest is busy", []bool{false, false, false, false}, []bool{true, true}, nil, "small"},
		{"its own group if none is larger", []bool{true, true, true}, nil, []bool{true, true, true}, "mine"},
		{"never a smaller group", nil, []bool{true, true}, []bool{false, false, false, false}, ""},
		{"never another group of the same size", []bool{true, true, true}, nil, []bool{false, false, false}, ""},
		{"none if all are busy", []bool{false, false, false}, []bool{false, false, false}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var top Group
			groups := map[string]*Group{"big": NewGroup(&top), "small": NewGroup(&top), "mine": NewGroup(&top)}
			closers := make(map[string]*closer)
			for name, members := range map[string][]bool{"big": test.big, "small": test.small, "mine": test.mine} {
				for i, isIdle := range members {
					e, c := mustAdd(t, groups[name])
					if isIdle {
						e.Idle(at(i + 1))
						if closers[name] == nil {
							closers[name] = c
						}
					}
				}
			}
			top.SetLimit(len(test.big) + len(test.small) + len(test.mine))
			_, err := groups["mine"].Add(new(closer))
			if (err == nil) != (test.from != "") {
				t.Errorf("Add: %v", err)
			}
			for name, c := range closers {
				if got := c.n.Load() == 1; got != (name == test.from) {
					t.Errorf("%s made room: %t", name, got)
				}
			}
		})
	}
}

// TestShareOfBusyConnections checks that a group whose members are all busy
// leaves places for other groups.
func TestShareOfBusyConnections(t *testing.T) {
	t.Parallel()
	var top Group
	top.SetLimit(40)
	greedy, modest := NewGroup(&top), NewGroup(&top)
	n := 0
	for ; ; n++ {
		if _, err := greedy.Add(new(closer)); err != nil {
			break
		}
	}
	if n != 30 {
		t.Errorf("a single group got %d of 40 places, want 30", n)
	}
	for range 5 {
		mustAdd(t, modest)
	}
	// A group's own idle connections make room, however many members it has.
	idle(t, modest, 1)
	for range 100 {
		e, err := modest.Add(new(closer))
		if err != nil {
			t.Fatal(err)
		}
		e.Idle(at(2))
	}
	if m := modest.counted.Load(); m < 6 || top.counted.Load() > 40 {
		t.Errorf("modest has %d members, all groups have %d of 40", m, top.counted.Load())
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	var top Group
	top.SetLimit(8)
	home, session := NewGroup(&top), NewGroup(&top)
	session.SetLimit(2)
	e1, c1 := mustAdd(t, home)
	e2, _ := mustAdd(t, home)
	e3, _ := mustAdd(t, home)
	if !e1.Move(session) || !e2.Move(session) || !e1.Move(session) {
		t.Error("Move refused a connection within the limit")
	}
	if e3.Move(session) {
		t.Error("Move exceeded the limit")
	}
	if top.Len() != 3 || home.Len() != 1 || session.Len() != 2 || top.counted.Load() != 3 || session.counted.Load() != 2 {
		t.Errorf("members of top, home and session: %d, %d, %d", top.Len(), home.Len(), session.Len())
	}
	if session.Refused() != 1 {
		t.Errorf("Refused() = %d, want 1", session.Refused())
	}
	e1.Idle(at(1)) // may be closed to make room from here on
	if !e3.Move(session) || c1.n.Load() != 1 {
		t.Errorf("the session's idle connection was closed %d times", c1.n.Load())
	}

	// Closing the session does not close connections of the shared listeners.
	_, own := idle(t, home, 1)
	var c3 = new(closer)
	e3.SetCloser(c3)
	session.CloseAll()
	if c3.n.Load() != 0 || session.Len() != 1 || session.counted.Load() != 0 {
		t.Errorf("closed %d times; the session has %d members, %d counted", c3.n.Load(), session.Len(), session.counted.Load())
	}
	if !e3.SetCloser(c3) {
		t.Error("SetCloser failed on an entry that returned home")
	}
	if e2.Move(session); e2.group.Load() != home {
		t.Error("Move moved an entry to a closed group")
	}
	e1.Release()
	home.CloseAll()
	if c3.n.Load() != 1 || own.n.Load() != 1 {
		t.Errorf("CloseAll closed the connections %d and %d times, want 1 and 1", c3.n.Load(), own.n.Load())
	}
	e2.Release()
	e3.Release()
	if home.Len() != 1 || top.counted.Load() != 1 {
		t.Errorf("%d members, %d counted; want the one unreleased member", home.Len(), top.counted.Load())
	}
	if (*Entry)(nil).Move(home) != true || (*Entry)(nil).Begin() != true || !e2.Move(nil) {
		t.Error("Move or Begin failed on a nil entry or group")
	}
}

// TestCloseAllClosesMovingConnections checks that CloseAll on the root closes a
// connection that moves at the same time, and that the counters end at 0.
func TestCloseAllClosesMovingConnections(t *testing.T) {
	t.Parallel()
	for range 200 {
		var top Group
		top.SetLimit(100)
		home, session := NewGroup(&top), NewGroup(&top)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				<-start
				c := closeSignal{make(chan struct{})}
				e, err := home.Add(c)
				if err != nil {
					return
				}
				e.Move(session)
				e.Move(home)
				e.Move(session)
				<-c.closed // blocks forever if CloseAll misses it
				e.Release()
			})
		}
		wg.Go(func() { <-start; session.CloseAll() })
		wg.Go(func() { <-start; top.CloseAll() })
		close(start)
		wg.Wait()
		for name, g := range map[string]*Group{"top": &top, "home": home, "session": session} {
			if g.Len() != 0 || g.counted.Load() != 0 {
				t.Fatalf("%s: %d members, %d counted left", name, g.Len(), g.counted.Load())
			}
		}
	}
}

// TestEvictionUnderContention adds, uses, moves and evicts connections of many
// sessions concurrently. Limits hold, no busy connection is closed, and no
// member is left.
func TestEvictionUnderContention(t *testing.T) {
	t.Parallel()
	const limit = 20
	var top Group
	top.SetLimit(limit)
	shared := NewGroup(&top)
	var sessions []*Group
	for range 4 {
		s := NewGroup(&top)
		s.SetLimit(8)
		sessions = append(sessions, s)
	}
	var wg sync.WaitGroup
	for i := range 8 {
		rng := rand.New(rand.NewPCG(uint64(i), 1))
		wg.Go(func() {
			for range 300 {
				var held []*Entry
				for range 6 {
					g := shared
					if rng.IntN(2) == 0 {
						g = sessions[rng.IntN(len(sessions))]
					}
					c := new(closer)
					e, err := g.Add(c)
					if err != nil {
						continue
					}
					held = append(held, e)
					if n := top.counted.Load(); n > limit+8 { // each goroutine may overcount by one for a moment
						t.Errorf("%d members at the same time, limit %d", n, limit)
					}
					if e.home == shared {
						e.Move(sessions[rng.IntN(len(sessions))])
					}
					e.Idle(time.Now())
					if e.Begin() {
						if c.n.Load() != 0 {
							t.Error("a busy connection was closed")
						}
						e.Idle(time.Now())
					}
				}
				for _, e := range held {
					e.Release()
				}
			}
		})
	}
	wg.Wait()
	for i, g := range append(sessions, shared, &top) {
		if g.Len() != 0 || g.counted.Load() != 0 {
			t.Errorf("group %d: counters end at %d and %d, want 0", i, g.Len(), g.counted.Load())
		}
	}
}

// TestEvictionAgainstModel makes random calls and compares every evicted
// connection with the choice of a model that looks at all members.
func TestEvictionAgainstModel(t *testing.T) {
	t.Parallel()
	type member struct {
		e     *Entry
		c     *closer
		group int
		since int // 0 if busy
	}
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 7))
			limit := 1 + rng.IntN(12)
			var top Group
			top.SetLimit(limit)
			groups := []*Group{NewGroup(&top), NewGroup(&top), NewGroup(&top)}
			var members []*member
			counts := func() (counts [3]int) {
				for _, m := range members {
					counts[m.group]++
				}
				return counts
			}
			for now := 1; now < 400; now++ {
				if n := len(members); n > 0 && rng.IntN(2) == 0 {
					i := rng.IntN(n)
					switch m := members[i]; rng.IntN(4) {
					case 0:
						m.e.Release()
						members = append(members[:i], members[i+1:]...)
					case 1:
						if !m.e.Begin() {
							t.Fatal("a connection other than the evicted one was closed")
						}
						m.since = 0
					default:
						if m.since == 0 {
							m.since = now
						}
						m.e.Idle(at(now))
					}
					continue
				}
				g := rng.IntN(len(groups))
				before := counts()
				c := new(closer)
				e, err := groups[g].Add(c)
				// Find the member that was evicted.
				gone := -1
				for i, m := range members {
					if m.c.n.Load() > 0 {
						if gone >= 0 {
							t.Fatal("two connections were closed to make room for one")
						}
						gone = i
					}
				}
				free := limit - len(members)
				room := free > 0 && before[g] < 3*free
				if room != (err == nil && gone < 0) {
					t.Fatalf("group %d, counts %v of %d: error %v, evicted: %t", g, before, limit, err, gone >= 0)
				}
				if !room {
					want := -1
					for i, m := range members {
						may := m.since > 0 && (m.group == g || before[m.group] > before[g])
						if !may {
							continue
						}
						if want < 0 || before[m.group] > before[members[want].group] ||
							m.group == members[want].group && m.since < members[want].since {
							want = i
						}
					}
					switch {
					case (want >= 0) != (err == nil):
						t.Fatalf("error %v although member %d is idle", err, want)
					case want >= 0 && before[members[want].group] != before[members[gone].group],
						want >= 0 && members[want].group == members[gone].group && want != gone:
						t.Fatalf("member %d was evicted, want %d", gone, want)
					}
				}
				if gone >= 0 {
					members[gone].e.Release()
					members = append(members[:gone], members[gone+1:]...)
				}
				if err == nil {
					members = append(members, &member{e: e, c: c, group: g})
				}
				if int(top.counted.Load()) != len(members) {
					t.Fatalf("%d counted, want %d", top.counted.Load(), len(members))
				}
			}
		})
	}
}

// BenchmarkAddFull measures Add while idle connections hold all places.
func BenchmarkAddFull(b *testing.B) {
	var top Group
	top.SetLimit(4096)
	g := NewGroup(&top)
	add := func() {
		e, err := g.Add(new(closer))
		if err != nil {
			b.Fatal(err)
		}
		e.Idle(time.Now())
	}
	for range 4096 {
		add()
	}
	for b.Loop() {
		add()
	}
}

// BenchmarkBeginIdle measures the cost for each request.
func BenchmarkBeginIdle(b *testing.B) {
	var g Group
	e, _ := g.Add(new(closer))
	now := time.Now()
	for b.Loop() {
		e.Begin()
		e.Idle(now)
	}
}
