// The open connections to targets, each with what was asked when it was
// allowed, so that a change of the policy reaches what is already open.

package networkproxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

// liveConn is one open connection to a target: a tunnel's far side, or a
// pooled connection for forwarding.
type liveConn struct {
	query    query
	approval Source     // who let an allowlist miss through; empty when none did
	addr     netip.Addr // what it is connected to
	conn     net.Conn
	from     *entrance
	of       *liveConns
	wasCut   atomic.Bool
}

// liveConns is the set of them. The zero value is empty; safe for concurrent
// use.
type liveConns struct {
	mu     sync.Mutex
	conns  map[*liveConn]struct{}
	closed bool
}

// add reports false once the set is closed; the caller then closes c.
func (l *liveConns) add(c *liveConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	if l.conns == nil {
		l.conns = make(map[*liveConn]struct{})
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *liveConns) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// rejudge cuts what p refuses and returns how many that were.
func (l *liveConns) rejudge(p *policy) int {
	var refused []*liveConn
	l.mu.Lock()
	for c := range l.conns {
		if !c.judge(p).Allowed {
			refused = append(refused, c)
		}
	}
	l.mu.Unlock()
	for _, c := range refused {
		c.cut()
	}
	return len(refused)
}

// closeAll ends every connection, at the end of the proxy, and lets no more in.
func (l *liveConns) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		c.conn.Close()
	}
}

// approvalOf is who let an allowed request through, where no list did.
func approvalOf(v Verdict) Source {
	if v.Source == SourceBaselinePolicy {
		return ""
	}
	return v.Source
}

// judge applies a policy to a connection that is open.
func (c *liveConn) judge(p *policy) Verdict {
	v, _ := p.judge(&c.query, c.approval, nil)
	if v.Allowed {
		v = p.judgeAddrs(&c.query, v, []netip.Addr{c.addr}, nil)
	}
	return v
}

// cut ends the connection because the policy now refuses it.
func (c *liveConn) cut() {
	c.wasCut.Store(true)
	c.release()
	c.conn.Close()
}

// release takes the connection, about to be closed, out of the set. It may
// be called more than once.
func (c *liveConn) release() {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	delete(c.of.conns, c)
}
