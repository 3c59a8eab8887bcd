// The pool under concurrent use.

package http1

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// countedConn counts open connections and detects a second user.
type countedConn struct {
	net.Conn
	open *atomic.Int64
	used atomic.Bool
}

func (c *countedConn) Close() error {
	c.open.Add(-1)
	return nil
}

// Goroutines get and put connections while others close and expire them. No
// connection has two users, none is lost, and the counter is right at the end.
func TestPoolUnderLoad(t *testing.T) {
	t.Parallel()
	const users, rounds, limit = 8, 3000, 20
	var open, dials atomic.Int64
	tr := &Transport{MaxIdle: limit, MaxIdlePerAddr: 12, IdleTimeout: time.Hour}
	p := &tr.pool
	var wg sync.WaitGroup
	for user := range users {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(user), 3))
			origin := &originState{}
			var held []*originConn
			for range rounds {
				if len(held) > 0 && r.IntN(2) == 0 {
					c := held[len(held)-1]
					held = held[:len(held)-1]
					c.Conn.(*countedConn).used.Store(false)
					p.put(c, origin)
					continue
				}
				addr := fmt.Sprint(r.IntN(4))
				c := p.get(addr, origin)
				if c == nil {
					open.Add(1)
					dials.Add(1)
					c = &originConn{transport: tr, addr: addr, epoch: p.epoch(), Conn: &countedConn{open: &open}}
				}
				if c.addr != addr || c.Conn.(*countedConn).used.Swap(true) {
					t.Errorf("got a connection to %s for %s, or one that is in use", c.addr, addr)
				}
				held = append(held, c)
				switch r.IntN(200) {
				case 0:
					p.closeAll()
				case 1:
					p.expire(0)
				}
			}
			for _, c := range held {
				c.Conn.(*countedConn).used.Store(false)
				p.put(c, origin)
			}
		})
	}
	wg.Wait()
	inPool := 0
	p.mu.Lock()
	for _, l := range p.byAddr {
		for c := range l.all {
			inPool++
			if c.epoch != p.epoch() {
				t.Error("the pool keeps a connection from before a closeAll")
			}
		}
	}
	p.mu.Unlock()
	if n := open.Load(); n != int64(inPool) || p.idle.Load() != n || inPool > limit {
		t.Errorf("%d connections are open, %d are in the pool, the counter is %d, and the limit is %d", n, inPool, p.idle.Load(), limit)
	}
	if n := dials.Load(); n > users*rounds/4 {
		t.Errorf("%d dials: hardly any connection was reused", n)
	}
	p.closeAll()
	if open.Load() != 0 || p.idle.Load() != 0 {
		t.Errorf("after closeAll %d connections are open and the counter is %d", open.Load(), p.idle.Load())
	}
}

// An addrPool that was removed from the pool keeps no connection.
func TestPoolRemovedAddrPool(t *testing.T) {
	t.Parallel()
	tr := &Transport{}
	var open atomic.Int64
	conn := func() *originConn {
		open.Add(1)
		return &originConn{transport: tr, addr: "a", epoch: tr.pool.epoch(), Conn: &countedConn{open: &open}}
	}
	origin := &originState{}
	tr.pool.put(conn(), origin)
	l := origin.cachedPool(&tr.pool, "a")
	tr.pool.closeAll()
	if l.putSlot(conn(), 8) || tr.pool.putOverflow(l, conn(), 100) {
		t.Error("a removed addrPool accepted a connection")
	}
	if l.takeSlot() != nil {
		t.Error("a removed addrPool returned a connection")
	}
	tr.pool.put(conn(), origin) // origin still refers to the removed addrPool
	if tr.pool.get("a", nil) == nil {
		t.Error("a connection put after closeAll is lost")
	}
}

// A closeAll during a put closes that connection.
func TestPoolCloseAllDuringPut(t *testing.T) {
	t.Parallel()
	tr := &Transport{}
	var open atomic.Int64
	conn := func() *originConn {
		open.Add(1)
		return &originConn{transport: tr, addr: "a", epoch: tr.pool.epoch(), Conn: &countedConn{open: &open}}
	}
	before := conn()
	tr.pool.closeAll()
	if tr.pool.addrPool(before) != nil {
		t.Error("a connection from before closeAll got a new addrPool")
	}
	tr.pool.put(conn(), nil)
	if tr.pool.addrPool(before) != nil {
		t.Error("a connection from before closeAll got the addrPool of newer ones")
	}
}

// The pool holds nothing for a host without connections, so the cost of a
// request does not depend on the number of previous hosts.
func TestPoolForgetsHosts(t *testing.T) {
	t.Parallel()
	const limit, hosts = 16, 5000
	var open atomic.Int64
	tr := &Transport{MaxIdle: limit}
	p := &tr.pool
	held := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.byAddr) != len(p.byAge) {
			t.Fatalf("byAddr has %d hosts, byAge has %d", len(p.byAddr), len(p.byAge))
		}
		return len(p.byAddr)
	}
	conn := func(addr string) *originConn {
		open.Add(1)
		return &originConn{transport: tr, addr: addr, epoch: p.epoch(), Conn: &countedConn{open: &open}}
	}
	for i := range hosts {
		p.put(conn(fmt.Sprint(i)), nil)
		if n := held(); n > limit {
			t.Fatalf("after %d hosts the pool holds %d, more than its limit", i+1, n)
		}
	}
	// Closing the last connection of a host, which is in use, removes the host.
	for i := hosts - limit; i < hosts; i++ {
		c := p.get(fmt.Sprint(i), nil)
		if c == nil {
			t.Fatalf("the connection to host %d, one of the last %d, is missing", i, limit)
		}
		c.discard()
	}
	if n := held(); n != 0 || open.Load() != 0 {
		t.Errorf("%d hosts are left and %d connections are open, want none", n, open.Load())
	}
	// The host stays while it has another connection.
	p.put(conn("a"), nil)
	p.put(conn("a"), nil)
	p.get("a", nil).discard()
	if p.get("a", nil) == nil {
		t.Error("the other connection to the host is missing")
	}
}

// At the limit, the connection that has been idle for longest is closed, even
// if other connections to its host were used since.
func TestPoolDropsTheOldest(t *testing.T) {
	t.Parallel()
	const limit = 12
	tr := &Transport{MaxIdle: limit}
	p := &tr.pool
	var open atomic.Int64
	r := rand.New(rand.NewPCG(1, 2))
	origin := &originState{}
	for round := range 3000 {
		addr := fmt.Sprint(r.IntN(20))
		c := p.get(addr, origin)
		if c == nil {
			open.Add(1)
			c = &originConn{transport: tr, addr: addr, epoch: p.epoch(), Conn: &countedConn{open: &open}}
		}
		var oldest []*originConn // several if the clock is coarse
		p.mu.Lock()
		for _, l := range p.byAddr {
			for c := range l.all {
				switch {
				case len(oldest) == 0 || c.idleSince.Load() < oldest[0].idleSince.Load():
					oldest = []*originConn{c}
				case c.idleSince.Load() == oldest[0].idleSince.Load():
					oldest = append(oldest, c)
				}
			}
		}
		p.mu.Unlock()
		full := p.idle.Load() == limit
		p.put(c, origin)
		if !full {
			continue
		}
		kept := 0
		p.mu.Lock()
		for _, l := range p.byAddr {
			for c := range l.all {
				if slices.Contains(oldest, c) {
					kept++
				}
			}
		}
		p.mu.Unlock()
		if kept != len(oldest)-1 {
			t.Fatalf("round %d: the oldest connection was kept", round)
		}
		if n := p.idle.Load(); n != limit || open.Load() != n {
			t.Fatalf("round %d: %d connections are idle and %d open, want the limit", round, n, open.Load())
		}
	}
}
