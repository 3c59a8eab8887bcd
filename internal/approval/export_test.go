package approval

import "sync"

// Internals for the tests, which are an external package because they use gate.

// Pending returns the number of pending questions, and of calls of the decider
// that have not returned.
func (a *Asker) Pending() (questions, calls int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.pending), a.calls.Len()
}

// Locks returns the locks of questions and grants.
func (a *Asker) Locks() (questions, grants *sync.Mutex) { return &a.mu, &a.Grants.mu }

// Denials returns the numbers of remembered denials by key and in the list.
func (a *Asker) Denials() (byKey, listed int) { return len(a.denials.byKey), a.denials.list.Len() }

// LastingDenials is Denials for the denials that last.
func (a *Asker) LastingDenials() (byKey, listed int) {
	for _, list := range a.lasting.byKey {
		byKey += len(list)
	}
	return byKey, a.lasting.list.Len()
}

type Question = question

func (q *question) Waiting() int { return q.waiting }

var (
	Join  = (*Asker).join
	Leave = (*Asker).leave
	Issue = (*Grants).issue
)

// IsPending reports whether requests can still join q.
func (a *Asker) IsPending(q *Question) bool { return a.pending[q.key] == q }

// Len returns the number of kept grants, including those with open requests only.
func (t *Grants) Len() int { return len(t.all) }

// Indexed returns the number of grants in the index, and whether every one is
// consistent with it.
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
