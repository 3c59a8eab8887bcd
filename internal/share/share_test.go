// Random calls on both types, compared with models that look at every item.

package share

import (
	"fmt"
	"slices"
	"testing"
)

func TestAllows(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		used, free int
		want       bool
	}{
		{0, 0, false}, {0, 1, true}, {2, 1, true}, {3, 1, false}, {5, 2, true}, {6, 2, false}, {0, -1, false},
	} {
		if got := Allows(test.used, test.free); got != test.want {
			t.Errorf("Allows(%d, %d) = %t", test.used, test.free, got)
		}
	}
}

// TestCounterShares checks that greedy users get the promised parts, and that a
// user without places gets one.
func TestCounterShares(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 3, 4, 256, 500, 4096} {
		for _, greedy := range []int{1, 2, 5, 40} {
			t.Run(fmt.Sprintf("limit %d, %d users", limit, greedy), func(t *testing.T) {
				t.Parallel()
				c := Counter[int]{Limit: limit}
				for more := true; more; {
					more = false
					for u := range greedy {
						more = c.Acquire(u) || more
					}
				}
				if c.Len() > limit {
					t.Fatalf("%d places in use", c.Len())
				}
				least, most := limit, 0
				for u := range greedy {
					least, most = min(least, c.users[u]), max(most, c.users[u])
				}
				if most-least > 1 {
					t.Errorf("one user has %d, another %d", least, most)
				}
				free := limit - c.Len()
				if want := limit / (3*greedy + 1); free < want {
					t.Errorf("%d places are free, want %d", free, want)
				}
				if got := c.Acquire(-1); got != (free > 0) {
					t.Errorf("a new user got a place: %t, with %d free", got, free)
				}
				// Releasing everything leaves no entry.
				for u, n := range c.users {
					for range n {
						c.Release(u)
					}
				}
				if c.Len() != 0 || len(c.users) != 0 {
					t.Errorf("%d places and %d users left", c.Len(), len(c.users))
				}
				c.Acquire(1)
				c.Reset()
				if c.Len() != 0 || !c.Acquire(1) {
					t.Error("Reset left places or users")
				}
			})
		}
	}
}

// model is a List that searches all items.
type model struct {
	limit int
	items []modelItem // the one unused for longest first
}

type modelItem struct{ user, id int }

func (m *model) counts() (counts map[int]int, most int) {
	counts = make(map[int]int)
	for _, i := range m.items {
		counts[i.user]++
		most = max(most, counts[i.user])
	}
	return counts, most
}

// mayEvict reports whether an item may make room for one of user.
func (m *model) mayEvict(item modelItem, user int) bool {
	counts, most := m.counts()
	if counts[item.user] != most || counts[user] == most && item.user != user {
		return false
	}
	first := slices.IndexFunc(m.items, func(i modelItem) bool { return i.user == item.user })
	return m.items[first] == item
}

func (m *model) without(id int) {
	m.items = slices.DeleteFunc(m.items, func(i modelItem) bool { return i.id == id })
}

func FuzzList(f *testing.F) {
	f.Add([]byte{3, 0, 0, 0, 1, 0, 4, 0, 0})
	f.Add([]byte{1, 0, 8, 16, 24, 32})
	f.Add([]byte{16, 0, 0, 0, 8, 8, 8, 8, 1, 1, 2, 2, 9, 10, 3, 11, 19, 0, 8})
	f.Add(slices.Repeat([]byte{7, 0, 8, 16, 1, 9, 2, 0, 40, 48, 3, 56}, 20))
	f.Fuzz(func(t *testing.T, calls []byte) {
		if len(calls) == 0 {
			return
		}
		l := List[int, int]{Limit: int(calls[0]%16) + 1}
		m := &model{limit: l.Limit}
		items := make(map[int]*Item[int, int])
		for id, call := range calls[1:] {
			user := int(call >> 3 % 8)
			pick := func() (modelItem, bool) {
				if len(m.items) == 0 {
					return modelItem{}, false
				}
				return m.items[int(call>>3)%len(m.items)], true
			}
			switch call % 8 {
			case 1: // remove an item
				if i, ok := pick(); ok {
					l.Remove(items[i.id])
					l.Remove(items[i.id]) // does nothing
					l.Touch(items[i.id])  // does nothing
					if items[i.id].Listed() {
						t.Fatal("Listed() = true for a removed item")
					}
					m.without(i.id)
				}
			case 2: // use an item
				if i, ok := pick(); ok {
					l.Touch(items[i.id])
					m.without(i.id)
					m.items = append(m.items, i)
				}
			case 3: // remove all items of a user
				for item := range l.Of(user) {
					l.Remove(item)
				}
				m.items = slices.DeleteFunc(m.items, func(i modelItem) bool { return i.user == user })
			default: // add an item
				old := l.Victim(user)
				if (old != nil) != (len(m.items) == m.limit) {
					t.Fatalf("victim %v with %d of %d items", old, len(m.items), m.limit)
				}
				item := &Item[int, int]{}
				if old != nil {
					if i := (modelItem{l.UserOf(old), old.Value}); !m.mayEvict(i, user) {
						t.Fatalf("Victim returned %v for user %d; items %v", i, user, m.items)
					}
					m.without(old.Value)
					l.Remove(old)
					item = old // reuse the item
				}
				item.Value = id
				items[id] = item
				l.Push(user, item)
				m.items = append(m.items, modelItem{user, id})
			}
			check(t, &l, m)
		}
	})
}

// check compares the whole list with the model.
func check(t *testing.T, l *List[int, int], m *model) {
	t.Helper()
	counts, _ := m.counts()
	if l.Len() != len(m.items) || len(l.users) != len(counts) {
		t.Fatalf("%d items of %d users, want %d of %d", l.Len(), len(l.users), len(m.items), len(counts))
	}
	var got, want []modelItem
	for item := range l.All() {
		got = append(got, modelItem{l.UserOf(item), item.Value})
	}
	want = slices.Clone(m.items)
	// Compare the order within each user.
	byUser := func(a, b modelItem) int { return a.user - b.user }
	slices.SortStableFunc(got, byUser)
	slices.SortStableFunc(want, byUser)
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// TestListSharesEvenly checks that a single user may have all places, and loses
// them to others only down to an equal part.
func TestListSharesEvenly(t *testing.T) {
	t.Parallel()
	l := List[string, int]{Limit: 12}
	add := func(u string) {
		if old := l.Victim(u); old != nil {
			l.Remove(old)
		}
		l.Push(u, new(Item[string, int]))
	}
	held := func(u string) (n int) {
		for range l.Of(u) {
			n++
		}
		return n
	}
	for range 100 {
		add("greedy")
	}
	if n := held("greedy"); n != 12 {
		t.Errorf("a single user has %d of 12 places", n)
	}
	add("modest")
	for range 100 {
		add("greedy")
	}
	if n := held("modest"); n != 1 {
		t.Errorf("a modest user has %d items, want its one", n)
	}
	for range 100 {
		add("modest")
	}
	if a, b := held("greedy"), held("modest"); a != 6 || b != 6 {
		t.Errorf("%d and %d items, want equal parts", a, b)
	}
}

func BenchmarkListFull(b *testing.B) {
	l := List[int, int]{Limit: 200}
	for i := range 200 {
		l.Push(i%3, new(Item[int, int]))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		item := l.Victim(i % 3)
		l.Remove(item)
		l.Push(i%3, item)
	}
}
