// The connections that no request uses at the moment.

package http1

import (
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pool keeps connections by address. Where a client asks for the same address
// again and again, taking one and putting it back takes no lock. The zero
// value is empty; safe for concurrent use.
type pool struct {
	idle   atomic.Int64  // how many there are
	closes atomic.Uint64 // counts closeAll: what was made before it is not kept

	mu     sync.Mutex
	byAddr map[string]*addrPool
	byAge  addrHeap    // the same lines
	expiry *time.Timer // runs while there are lines
}

// addrPool is the connections to one address.
type addrPool struct {
	pool    *pool
	addr    string
	slots   [8]atomic.Pointer[originConn]
	removed atomic.Bool // it is in the pool no more, and nothing may stay in it

	idleSince int64 // no connection here has been idle for longer; the pool's mu is held
	heapIndex int   // in the pool's byAge; the pool's mu is held

	overflowLen atomic.Int32  // len(more)
	overflow    []*originConn // those without a slot, the one used last on top; the pool's mu is held
}

const (
	defaultIdleTimeout = 90 * time.Second
	defaultIdlePerAddr = 256
	defaultIdle        = 512
)

// maxIdle is MaxIdle, or its default.
func (t *Transport) maxIdle() int64 {
	if t.MaxIdle == 0 {
		return defaultIdle
	}
	return int64(t.MaxIdle)
}

func (p *pool) epoch() uint64 { return p.closes.Load() }

// get takes a connection; nil where there is none. near remembers the line
// for the next time.
func (p *pool) get(addr string, origin *originState) *originConn {
	a := origin.cachedPool(p, addr)
	if a == nil || a.removed.Load() {
		p.mu.Lock()
		a = p.byAddr[addr]
		p.mu.Unlock()
		if a == nil {
			return nil
		}
		origin.setPool(a)
	}
	c := a.takeSlot()
	if c == nil && a.overflowLen.Load() > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(a.overflow); n > 0 {
			c = a.overflow[n-1]
			a.overflow[n-1] = nil
			a.setOverflow(a.overflow[:n-1])
		}
	}
	if c != nil {
		p.idle.Add(-1)
	}
	return c
}

// put keeps a connection, or closes it where there is no room.
func (p *pool) put(c *originConn, origin *originState) {
	limit := c.transport.MaxIdlePerAddr
	if limit == 0 {
		limit = defaultIdlePerAddr
	}
	if limit < 0 || c.epoch != p.epoch() {
		c.close()
		return
	}
	c.idleSince.Store(time.Now().UnixNano())
	if !p.reserve(c.transport) {
		c.close()
		return
	}
	a := origin.cachedPool(p, c.addr)
	if a == nil || a.removed.Load() {
		if a = p.addrPool(c); a != nil {
			origin.setPool(a)
		}
	}
	if a != nil {
		c.addrPool = a // before others can take it
	}
	if a == nil || !a.putSlot(c, limit) && !p.putOverflow(a, c, limit) {
		p.idle.Add(-1)
		c.close()
	}
}

// reserve counts one more idle connection, and closes the oldest one if they
// are too many. It reports false if there is none to close.
func (p *pool) reserve(t *Transport) bool {
	if p.idle.Add(1) <= t.maxIdle() {
		return true
	}
	p.mu.Lock()
	closed := p.closeOldest()
	p.mu.Unlock()
	if !closed {
		p.idle.Add(-1)
	}
	return closed
}

// addrPool is the one for c's address, made if it is not there. It is nil where a
// closeAll has come since c was found to be good: it would have closed c.
func (p *pool) addrPool(c *originConn) *addrPool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.epoch != p.epoch() {
		return nil
	}
	a := p.byAddr[c.addr]
	if a != nil {
		return a
	}
	a = &addrPool{pool: p, addr: c.addr, idleSince: c.idleSince.Load()}
	if p.byAddr == nil {
		p.byAddr = make(map[string]*addrPool)
	}
	p.byAddr[c.addr] = a
	heap.Push(&p.byAge, a)
	if p.expiry == nil {
		timeout := c.transport.IdleTimeout
		if timeout == 0 {
			timeout = defaultIdleTimeout
		}
		p.expiry = time.AfterFunc(timeout, func() { p.expire(timeout) })
	}
	return a
}

// takeSlot empties a slot; nil where all are empty.
func (a *addrPool) takeSlot() *originConn {
	for i := range a.slots {
		if c := a.slots[i].Load(); c != nil && a.slots[i].CompareAndSwap(c, nil) {
			return c
		}
	}
	return nil
}

// putSlot puts c into one of the first slots and reports whether it stays there.
// Who takes a line out of the pool says so first and empties it then; who
// fills a slot looks afterwards: one of them sees the other.
func (a *addrPool) putSlot(c *originConn, slots int) bool {
	for i := range min(slots, len(a.slots)) {
		if a.slots[i].CompareAndSwap(nil, c) {
			return !a.removed.Load() || !a.slots[i].CompareAndSwap(c, nil)
		}
	}
	return false
}

// putOverflow is keep for a line whose slots are full.
func (p *pool) putOverflow(a *addrPool, c *originConn, limit int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a.removed.Load() || len(a.overflow)+len(a.slots) >= limit {
		return false
	}
	a.setOverflow(append(a.overflow, c))
	return true
}

func (a *addrPool) setOverflow(conns []*originConn) {
	a.overflow = conns
	a.overflowLen.Store(int32(len(conns)))
}

// closeOldest closes the connection that has been idle for longest, because
// descriptors are few and a client may go through hosts faster than their
// connections expire. It reports false if there is none. p.mu is held.
//
// Using a connection again moves no line in byAge, because that would take the
// lock: the lines that have come to the top too early are moved here.
func (p *pool) closeOldest() bool {
	for len(p.byAge) > 0 {
		a := p.byAge[0]
		c, since := a.oldest()
		switch {
		case c == nil:
			p.remove(a)
		case since > a.idleSince:
			a.idleSince = since
			heap.Fix(&p.byAge, 0)
		default:
			if a.remove(c) { // or it has been taken meanwhile
				c.close()
				p.idle.Add(-1)
			}
			if c, _ := a.oldest(); c == nil {
				p.remove(a)
			}
			return true
		}
	}
	return false
}

// removeIfEmpty ends the line of a connection that is closed, if it was the last one
// there.
func (p *pool) removeIfEmpty(c *originConn) {
	if c.addrPool == nil || c.addrPool.removed.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if rest, _ := c.addrPool.oldest(); rest == nil && !c.addrPool.removed.Load() {
		p.remove(c.addrPool)
	}
}

// oldest returns the connection that has been idle for longest, and since
// when; nil if the line is empty. The pool's mu is held.
func (a *addrPool) oldest() (oldest *originConn, since int64) {
	for c := range a.all {
		if idle := c.idleSince.Load(); oldest == nil || idle < since {
			oldest, since = c, idle
		}
	}
	return oldest, since
}

// addrHeap is a container/heap of lines by since.
type addrHeap []*addrPool

func (h addrHeap) Len() int           { return len(h) }
func (h addrHeap) Less(i, j int) bool { return h[i].idleSince < h[j].idleSince }

func (h addrHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

func (h *addrHeap) Push(a any) {
	a.(*addrPool).heapIndex = len(*h)
	*h = append(*h, a.(*addrPool))
}

func (h *addrHeap) Pop() any {
	n := len(*h) - 1
	a := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return a
}

// all are the connections of a line. The pool's mu is held.
func (a *addrPool) all(yield func(*originConn) bool) {
	for i := range a.slots {
		if c := a.slots[i].Load(); c != nil && !yield(c) {
			return
		}
	}
	for _, c := range a.overflow {
		if !yield(c) {
			return
		}
	}
}

// remove takes c out of the line, if it is still there. The pool's mu is held.
func (a *addrPool) remove(c *originConn) bool {
	for i := range a.slots {
		if a.slots[i].CompareAndSwap(c, nil) {
			return true
		}
	}
	i := slices.Index(a.overflow, c)
	if i >= 0 {
		a.setOverflow(slices.Delete(a.overflow, i, i+1))
	}
	return i >= 0
}

// expire closes what has been idle for too long. It runs again while
// anything is left.
func (p *pool) expire(timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expiry == nil {
		return
	}
	old := time.Now().Add(-timeout).UnixNano()
	for _, a := range p.byAddr {
		kept := false
		for c := range a.snapshot() {
			switch {
			case c.idleSince.Load() > old:
				kept = true
			case a.remove(c):
				c.close()
				p.idle.Add(-1)
			}
		}
		if !kept {
			p.remove(a)
		}
	}
	if len(p.byAddr) == 0 {
		p.expiry = nil
		return
	}
	p.expiry.Reset(timeout / 2)
}

// snapshot is all, for a loop that removes. The pool's mu is held.
func (a *addrPool) snapshot() func(yield func(*originConn) bool) {
	return slices.Values(slices.Collect(a.all))
}

// remove takes a line out of the pool and closes what is in it. p.mu is held.
func (p *pool) remove(a *addrPool) {
	a.removed.Store(true)
	delete(p.byAddr, a.addr)
	heap.Remove(&p.byAge, a.heapIndex)
	for c := range a.snapshot() {
		if a.remove(c) {
			c.close()
			p.idle.Add(-1)
		}
	}
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closes.Add(1)
	for _, a := range p.byAddr {
		p.remove(a)
	}
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}
