// The set of requests under way, and what ends several of them at once.

package gate

import (
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/policy"
)

// LiveRequests is the set of requests under way of one proxy. The zero value
// is empty; safe for concurrent use.
type LiveRequests struct {
	closed atomic.Bool

	mu  sync.Mutex
	all map[*LiveRequest]struct{}
}

// add reports false once the set is closed.
func (l *LiveRequests) add(lr *LiveRequest) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed.Load() {
		return false
	}
	if l.all == nil {
		l.all = make(map[*LiveRequest]struct{})
	}
	l.all[lr] = struct{}{}
	lr.requests = l
	return true
}

func (l *LiveRequests) remove(lr *LiveRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, lr)
}

// list returns what is in the set now. Nothing is done to a request while the
// set is locked.
func (l *LiveRequests) list() []*LiveRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*LiveRequest, 0, len(l.all))
	for lr := range l.all {
		list = append(list, lr)
	}
	return list
}

// rejudge cuts what p refuses and returns how many requests that were.
func (l *LiveRequests) rejudge(p *policy.Policy) int {
	n := 0
	for _, lr := range l.list() {
		if v, number, active := lr.judgedBy(p); active && !v.Allowed && lr.cut(v, number) {
			n++
		}
	}
	return n
}

// cutGrant cuts what a grant let in and returns how many requests that were.
func (l *LiveRequests) cutGrant(g *approval.Grant, v policy.Verdict) int {
	n := 0
	for _, lr := range l.list() {
		lr.mu.Lock()
		number, granted := lr.number, lr.active && lr.subject.grant == g
		lr.mu.Unlock()
		if granted && lr.cut(v, number) {
			n++
		}
	}
	return n
}

// ClosePrincipal ends every request of one principal, whose context has ended. A
// request that has no connection yet ends when it gets one: see attach.
func (l *LiveRequests) ClosePrincipal(from *Principal) {
	for _, lr := range l.list() {
		lr.mu.Lock()
		if lr.active && lr.subject.req.Principal == from && lr.carrier != nil {
			lr.carrier.Close()
		}
		lr.mu.Unlock()
	}
}

// CloseAll ends every request at the end of the proxy, and lets no more in.
func (l *LiveRequests) CloseAll() {
	l.mu.Lock()
	l.closed.Store(true)
	l.mu.Unlock()
	for _, lr := range l.list() {
		lr.close()
	}
}

// Connected returns the number of requests that have a connection to a target.
func (l *LiveRequests) Connected() int {
	n := 0
	for _, lr := range l.list() {
		lr.mu.Lock()
		if lr.active && lr.carrier != nil && lr.refusal == nil {
			n++
		}
		lr.mu.Unlock()
	}
	return n
}

// Hide keeps later changes of the policy from finding the requests that are
// under way now. It is for tests of the checks that do not rely on being found.
func (l *LiveRequests) Hide() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = nil
}

// Rejudge applies the policy in force to the open connections. It cuts those
// that the policy refuses and returns their number. Call it after a change,
// without the lock that guards the change.
func (g *Gate) Rejudge() int {
	n := g.Live.rejudge(g.Policy())
	g.Counters.Cut.Add(uint64(n))
	return n
}
