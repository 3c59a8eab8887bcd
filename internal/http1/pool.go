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
	idle atomic.Int64  // how many there are
	made atomic.Uint64 // counts closeAll: what was made before it is not kept

	mu     sync.Mutex
	lines  map[string]*line
	byAge  lineHeap    // the same lines
	expiry *time.Timer // runs while there are lines
}

// line is the connections to one address.
type line struct {
	pool  *pool
	addr  string
	slots [8]atomic.Pointer[upstream]
	gone  atomic.Bool // it is in the pool no more, and nothing may stay in it

	since int64 // no connection here has been idle for longer; the pool's mu is held
	place int   // in the pool's byAge; the pool's mu is held

	beyond atomic.Int32 // len(more)
	more   []*upstream  // those without a slot, the one used last on top; the pool's mu is held
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

func (p *pool) epoch() uint64 { return p.made.Load() }

// get takes a connection; nil where there is none. near remembers the line
// for the next time.
func (p *pool) get(addr string, near *originSide) *upstream {
	l := near.nearLine(p, addr)
	if l == nil || l.gone.Load() {
		p.mu.Lock()
		l = p.lines[addr]
		p.mu.Unlock()
		if l == nil {
			return nil
		}
		near.setLine(l)
	}
	c := l.take()
	if c == nil && l.beyond.Load() > 0 {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n := len(l.more); n > 0 {
			c = l.more[n-1]
			l.more[n-1] = nil
			l.setMore(l.more[:n-1])
		}
	}
	if c != nil {
		p.idle.Add(-1)
	}
	return c
}

// put keeps a connection, or closes it where there is no room.
func (p *pool) put(c *upstream, near *originSide) {
	most := c.transport.MaxIdlePerAddr
	if most == 0 {
		most = defaultIdlePerAddr
	}
	if most < 0 || c.epoch != p.epoch() {
		c.close()
		return
	}
	c.idle.Store(time.Now().UnixNano())
	if !p.reserve(c.transport) {
		c.close()
		return
	}
	l := near.nearLine(p, c.addr)
	if l == nil || l.gone.Load() {
		if l = p.line(c); l != nil {
			near.setLine(l)
		}
	}
	if l != nil {
		c.line = l // before others can take it
	}
	if l == nil || !l.keep(c, most) && !p.keepMore(l, c, most) {
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
	dropped := p.dropOldest()
	p.mu.Unlock()
	if !dropped {
		p.idle.Add(-1)
	}
	return dropped
}

// line is the one for c's address, made if it is not there. It is nil where a
// closeAll has come since c was found to be good: it would have closed c.
func (p *pool) line(c *upstream) *line {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.epoch != p.epoch() {
		return nil
	}
	l := p.lines[c.addr]
	if l != nil {
		return l
	}
	l = &line{pool: p, addr: c.addr, since: c.idle.Load()}
	if p.lines == nil {
		p.lines = make(map[string]*line)
	}
	p.lines[c.addr] = l
	heap.Push(&p.byAge, l)
	if p.expiry == nil {
		timeout := c.transport.IdleTimeout
		if timeout == 0 {
			timeout = defaultIdleTimeout
		}
		p.expiry = time.AfterFunc(timeout, func() { p.expire(timeout) })
	}
	return l
}

// take empties a slot; nil where all are empty.
func (l *line) take() *upstream {
	for i := range l.slots {
		if c := l.slots[i].Load(); c != nil && l.slots[i].CompareAndSwap(c, nil) {
			return c
		}
	}
	return nil
}

// keep puts c into one of the first slots and reports whether it stays there.
// Who takes a line out of the pool says so first and empties it then; who
// fills a slot looks afterwards: one of them sees the other.
func (l *line) keep(c *upstream, slots int) bool {
	for i := range min(slots, len(l.slots)) {
		if l.slots[i].CompareAndSwap(nil, c) {
			return !l.gone.Load() || !l.slots[i].CompareAndSwap(c, nil)
		}
	}
	return false
}

// keepMore is keep for a line whose slots are full.
func (p *pool) keepMore(l *line, c *upstream, most int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.gone.Load() || len(l.more)+len(l.slots) >= most {
		return false
	}
	l.setMore(append(l.more, c))
	return true
}

func (l *line) setMore(more []*upstream) {
	l.more = more
	l.beyond.Store(int32(len(more)))
}

// dropOldest closes the connection that has been idle for longest, because
// descriptors are few and a client may go through hosts faster than their
// connections expire. It reports false if there is none. p.mu is held.
//
// Using a connection again moves no line in byAge, because that would take the
// lock: the lines that have come to the top too early are moved here.
func (p *pool) dropOldest() bool {
	for len(p.byAge) > 0 {
		l := p.byAge[0]
		c, since := l.oldest()
		switch {
		case c == nil:
			p.end(l)
		case since > l.since:
			l.since = since
			heap.Fix(&p.byAge, 0)
		default:
			if l.remove(c) { // or it has been taken meanwhile
				c.close()
				p.idle.Add(-1)
			}
			if c, _ := l.oldest(); c == nil {
				p.end(l)
			}
			return true
		}
	}
	return false
}

// forget ends the line of a connection that is closed, if it was the last one
// there.
func (p *pool) forget(c *upstream) {
	if c.line == nil || c.line.gone.Load() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if left, _ := c.line.oldest(); left == nil && !c.line.gone.Load() {
		p.end(c.line)
	}
}

// oldest returns the connection that has been idle for longest, and since
// when; nil if the line is empty. The pool's mu is held.
func (l *line) oldest() (oldest *upstream, since int64) {
	for c := range l.all {
		if idle := c.idle.Load(); oldest == nil || idle < since {
			oldest, since = c, idle
		}
	}
	return oldest, since
}

// lineHeap is a container/heap of lines by since.
type lineHeap []*line

func (h lineHeap) Len() int           { return len(h) }
func (h lineHeap) Less(i, j int) bool { return h[i].since < h[j].since }

func (h lineHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *lineHeap) Push(l any) {
	l.(*line).place = len(*h)
	*h = append(*h, l.(*line))
}

func (h *lineHeap) Pop() any {
	n := len(*h) - 1
	l := (*h)[n]
	(*h)[n] = nil
	*h = (*h)[:n]
	return l
}

// all are the connections of a line. The pool's mu is held.
func (l *line) all(yield func(*upstream) bool) {
	for i := range l.slots {
		if c := l.slots[i].Load(); c != nil && !yield(c) {
			return
		}
	}
	for _, c := range l.more {
		if !yield(c) {
			return
		}
	}
}

// remove takes c out of the line, if it is still there. The pool's mu is held.
func (l *line) remove(c *upstream) bool {
	for i := range l.slots {
		if l.slots[i].CompareAndSwap(c, nil) {
			return true
		}
	}
	i := slices.Index(l.more, c)
	if i >= 0 {
		l.setMore(slices.Delete(l.more, i, i+1))
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
	for _, l := range p.lines {
		left := false
		for c := range l.clone() {
			switch {
			case c.idle.Load() > old:
				left = true
			case l.remove(c):
				c.close()
				p.idle.Add(-1)
			}
		}
		if !left {
			p.end(l)
		}
	}
	if len(p.lines) == 0 {
		p.expiry = nil
		return
	}
	p.expiry.Reset(timeout / 2)
}

// clone is all, for a loop that removes. The pool's mu is held.
func (l *line) clone() func(yield func(*upstream) bool) {
	return slices.Values(slices.Collect(l.all))
}

// end takes a line out of the pool and closes what is in it. p.mu is held.
func (p *pool) end(l *line) {
	l.gone.Store(true)
	delete(p.lines, l.addr)
	heap.Remove(&p.byAge, l.place)
	for c := range l.clone() {
		if l.remove(c) {
			c.close()
			p.idle.Add(-1)
		}
	}
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made.Add(1)
	for _, l := range p.lines {
		p.end(l)
	}
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}
