// The set of open requests, and the operations on several of them.

package gate

import (
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/policy"
)

// LiveRequests is the set of open requests of one proxy. The zero value
// is empty; safe for concurrent use.
type LiveRequests struct {
	closed atomic.Bool

	mu  sync.Mutex
	all map[*LiveRequest]struct{}
}

// add adds lr. It returns false if the set is closed.
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

// remove removes lr if the set contains it.
func (l *LiveRequests) remove(lr *LiveRequest) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, lr)
}

// list returns a snapshot of the set, so that callers handle the requests without
// the lock of the set.
func (l *LiveRequests) list() []*LiveRequest {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]*LiveRequest, 0, len(l.all))
	for lr := range l.all {
		list = append(list, lr)
	}
	return list
}

// cutGrant cuts the requests that a grant has let in and returns their number.
func (g *Gate) cutGrant(grant *approval.Grant, v policy.Verdict) int {
	n := 0
	for _, lr := range g.Live.list() {
		lr.mu.Lock()
		number, granted := lr.number, lr.active && lr.subject.grant == grant
		lr.mu.Unlock()
		if granted && g.cut(lr, v, number) {
			n++
		}
	}
	return n
}

// cut cuts an open request or an idle connection, and accounts for it. It returns
// false if that was cut before or is over.
func (g *Gate) cut(lr *LiveRequest, v policy.Verdict, number uint64) bool {
	return lr.cut(v, number, func(req *Request, v policy.Verdict) {
		g.Counters.Cut.Add(1) // before the client can notice
		g.publishCut(req, v)
	})
}

// ClosePrincipal ends every request of a principal whose context has ended. A request
// without a connection ends when it gets one, in Attach.
func (l *LiveRequests) ClosePrincipal(p *Principal) {
	for _, lr := range l.list() {
		lr.mu.Lock()
		if lr.active && lr.subject.req.Principal == p && lr.carrier != nil {
			lr.carrier.Close()
		}
		lr.mu.Unlock()
	}
}

// CloseAll ends every request and closes the set to new ones.
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

// Len returns the number of open requests and of idle connections to targets.
func (l *LiveRequests) Len() int { return len(l.list()) }

// Rejudge cuts the open requests that the policy in force refuses, and returns their
// number. Call it after a policy change, without the lock that guards the change.
func (g *Gate) Rejudge() int {
	p, n := g.Policy(), 0
	for _, lr := range g.Live.list() {
		if v, number, active := lr.judgedBy(p); active && !v.Allowed && g.cut(lr, v, number) {
			n++
		}
	}
	return n
}
