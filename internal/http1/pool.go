// The pool of idle connections.

package http1

import (
	"container/heap"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pool keeps idle connections by address. Taking and returning a connection to
// the same address again and again takes no lock. The zero value is empty. It
// is safe for concurrent use.
type pool struct {
	idle   atomic.Int64  // number of idle connections, including bound ones
	closes atomic.Uint64 // number of closeAll calls; connections made before the last one are not kept

	mu     sync.Mutex
	byAddr map[string]*addrPool
	byAge  addrHeap    // the same addrPools as byAddr
	expiry *time.Timer // runs while byAddr is not empty
}

// addrPool holds the idle connections to one address. The slots are used
// without a lock.
type addrPool struct {
	pool    *pool
	addr    string
	slots   [8]atomic.Pointer[originConn]
	removed atomic.Bool // it is no longer in the pool and must hold no connection

	idleSince int64 // no connection here has been idle for longer; guarded by pool.mu
	heapIndex int   // index in pool.byAge; guarded by pool.mu

	overflowLen atomic.Int32  // len(overflow)
	overflow    []*originConn // connections without a slot, the last used one at the end; guarded by pool.mu
}

const (
	defaultIdleTimeout = 90 * time.Second
	defaultIdlePerAddr = 256
	defaultIdle        = 512
)

// maxIdle returns MaxIdle or its default.
func (t *Transport) maxIdle() int64 {
	if t.MaxIdle == 0 {
		return defaultIdle
	}
	return int64(t.MaxIdle)
}

// epoch returns a number that changes with each closeAll.
func (p *pool) epoch() uint64 { return p.closes.Load() }

// get takes a connection out of the pool, or returns nil if there is none.
// origin, which may be nil, caches the addrPool for the next call.
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

// put keeps a connection, or closes it if there is no room.
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
		c.addrPool = a // before another goroutine can take c
	}
	if a == nil || !a.putSlot(c, limit) && !p.putOverflow(a, c, limit) {
		p.idle.Add(-1)
		c.close()
	}
}

// reserve counts one more idle connection. If that exceeds the limit, it
// closes the oldest one. It reports false if there is none to close.
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

// addrPool returns the addrPool for c's address and creates it if necessary.
// It returns nil if closeAll was called after c was made, because closeAll
// would have closed c.
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

// takeSlot takes a connection out of a slot. It returns nil if all slots are
// empty.
func (a *addrPool) takeSlot() *originConn {
	for i := range a.slots {
		if c := a.slots[i].Load(); c != nil && a.slots[i].CompareAndSwap(c, nil) {
			return c
		}
	}
	return nil
}

// putSlot puts c into one of the first slots and reports whether it stays
// there. remove sets removed before it empties the slots, and putSlot checks
// removed after it fills one. One of the two therefore notices the other.
func (a *addrPool) putSlot(c *originConn, slots int) bool {
	for i := range min(slots, len(a.slots)) {
		if a.slots[i].CompareAndSwap(nil, c) {
			return !a.removed.Load() || !a.slots[i].CompareAndSwap(c, nil)
		}
	}
	return false
}

// putOverflow adds c to a's overflow, for an addrPool whose slots are full. It
// reports whether c was added.
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

// closeOldest closes the connection that has been idle for longest.
// Descriptors are scarce, and a client may visit hosts faster than their
// connections expire. It reports false if there is none. p.mu must be held.
//
// Using a connection again does not move its addrPool within byAge, because
// that would take the lock. An addrPool that has reached the top too early is
// moved here.
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
			if a.remove(c) { // else it was taken meanwhile
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

// removeIfEmpty removes the addrPool of a closed connection if no other
// connection is left there.
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
// when. It returns nil if there is none. pool.mu must be held.
func (a *addrPool) oldest() (oldest *originConn, since int64) {
	for c := range a.all {
		if idle := c.idleSince.Load(); oldest == nil || idle < since {
			oldest, since = c, idle
		}
	}
	return oldest, since
}

// addrHeap is a container/heap of addrPools, ordered by idleSince.
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

// all iterates over the connections. pool.mu must be held.
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

// remove takes c out and reports whether it was still there. pool.mu must be
// held.
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

// expire closes the connections that have been idle for longer than timeout.
// It runs again while any are left.
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

// snapshot is all for loops that remove connections. pool.mu must be held.
func (a *addrPool) snapshot() func(yield func(*originConn) bool) {
	return slices.Values(slices.Collect(a.all))
}

// remove takes a out of the pool and closes its connections. p.mu must be
// held.
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

// closeAll closes all idle connections, and makes put close those that are in
// use now.
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
