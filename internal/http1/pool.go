// The connections that no request uses at the moment.

package http1

import (
	"slices"
	"sync"
	"time"
)

// pool keeps connections by address, the one used last on top. The zero
// value is empty; safe for concurrent use.
type pool struct {
	mu     sync.Mutex
	conns  map[string][]*upstream
	idle   int         // all of them
	made   uint64      // counts closeAll: what was made before it is not kept
	expiry *time.Timer // runs while there are connections
}

const (
	defaultIdleTimeout = 90 * time.Second
	defaultIdlePerAddr = 256
	defaultIdle        = 512
)

func (p *pool) epoch() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.made
}

func (p *pool) get(addr string) *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.conns[addr]
	if len(list) == 0 {
		return nil
	}
	c := list[len(list)-1]
	list[len(list)-1] = nil
	p.conns[addr] = list[:len(list)-1]
	p.idle--
	return c
}

func (p *pool) put(c *upstream) {
	most, all, timeout := c.transport.MaxIdlePerAddr, c.transport.MaxIdle, c.transport.IdleTimeout
	if most == 0 {
		most = defaultIdlePerAddr
	}
	if all == 0 {
		all = defaultIdle
	}
	if timeout == 0 {
		timeout = defaultIdleTimeout
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.epoch != p.made || len(p.conns[c.addr]) >= most {
		c.close()
		return
	}
	if p.conns == nil {
		p.conns = make(map[string][]*upstream)
	}
	if p.idle >= all {
		p.dropOldest()
	}
	c.idle = time.Now()
	p.idle++
	p.conns[c.addr] = append(p.conns[c.addr], c)
	if p.expiry == nil {
		p.expiry = time.AfterFunc(timeout, func() { p.expire(timeout) })
	}
}

// dropOldest makes room for a connection: descriptors are few, and a client
// may go through hosts faster than their connections expire. p.mu is held.
func (p *pool) dropOldest() {
	var oldest *upstream
	for _, list := range p.conns {
		// The one used longest ago is first.
		if len(list) > 0 && (oldest == nil || list[0].idle.Before(oldest.idle)) {
			oldest = list[0]
		}
	}
	oldest.close()
	p.idle--
	if list := p.conns[oldest.addr]; len(list) > 1 {
		p.conns[oldest.addr] = slices.Delete(list, 0, 1)
	} else {
		delete(p.conns, oldest.addr)
	}
}

// expire closes what has been idle for too long. It runs again while
// anything is left.
func (p *pool) expire(timeout time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.expiry == nil {
		return
	}
	old := time.Now().Add(-timeout)
	for addr, list := range p.conns {
		n := 0 // the ones used longest ago are first
		for n < len(list) && !list[n].idle.After(old) {
			list[n].close()
			p.idle--
			n++
		}
		if list = list[n:]; len(list) == 0 {
			delete(p.conns, addr)
			continue
		}
		p.conns[addr] = list
	}
	if len(p.conns) == 0 {
		p.expiry = nil
		return
	}
	p.expiry.Reset(timeout / 2)
}

func (p *pool) closeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.made++
	for _, list := range p.conns {
		for _, c := range list {
			c.close()
		}
	}
	clear(p.conns)
	p.idle = 0
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
}
