package approval

import "sync"

// What the tests, which stand above the gate, may look at.

// Pending returns the number of open questions, and of calls of the decider
// that have not returned.
func (a *Asker) Pending() (questions, calls int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.open), a.calls.Len()
}

// Locks returns the locks of questions and grants.
func (a *Asker) Locks() (questions, grants *sync.Mutex) { return &a.mu, &a.Grants.mu }

// Denials returns the numbers of remembered denials by key and in the list.
func (a *Asker) Denials() (byKey, listed int) { return len(a.denials.by), a.denials.list.Len() }

type Question = question

func (q *question) Waiting() int { return q.waiting }

var (
	Join  = (*Asker).join
	Leave = (*Asker).leave
	Issue = (*Grants).issue
)

// IsOpen reports whether requests can still join q.
func (a *Asker) IsOpen(q *Question) bool { return a.open[q.key] == q }

// Len returns the number of grants that are kept, used up or not.
func (t *Grants) Len() int { return len(t.all) }

// Indexed returns the number of grants in the index, and whether each is in
// its place.
func (t *Grants) Indexed() (n int, ok bool) {
	ok = true
	for key, list := range t.usable {
		for _, g := range list {
			n++
			ok = ok && g.usesLeft != 0 && g.key() == key && t.all[g.ID] == g
		}
	}
	return n, ok && t.n.Load() == int64(n)
}
