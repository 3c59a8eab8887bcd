// The open connections to targets, each with what was asked when it was
// allowed, so that a change of the policy reaches what is already open.

package networkproxy

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/upstream"
)

// liveConn is one open connection to a target: a tunnel's far side, or a
// pooled connection for forwarding.
type liveConn struct {
	query    query
	approval Source          // who let an allowlist miss through; empty when none did
	addrs    []netip.Addr    // what its target resolved to, all of it: a new request would be judged by that
	via      *upstream.Proxy // that it goes through; nil: none
	conn     net.Conn
	from     *entrance
	grant    *grant // that let it through; nil when none did
	done     func() // ends its being under way for the grant
	of       *liveConns
	judged   atomic.Uint64                // the generation that was last found to allow it
	refusal  atomic.Pointer[RefusedError] // why it was cut; nil while it was not
}

// liveConns is the set of them. The zero value is empty; safe for concurrent
// use.
type liveConns struct {
	mu     sync.Mutex
	conns  map[*liveConn]struct{}
	closed bool
}

// add reports false once the set is closed; the caller then closes c.
//
// The grant's lock comes before l.mu and is not held with it: the two locks
// have no order.
func (l *liveConns) add(c *liveConn) bool {
	c.done = c.grant.hold()
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

// rejudge cuts what p refuses and returns how many that were.
func (l *liveConns) rejudge(p *policy) int {
	refused := make(map[*liveConn]Verdict)
	l.mu.Lock()
	for c := range l.conns {
		if v := c.judge(p); !v.Allowed {
			refused[c] = v
		}
	}
	l.mu.Unlock()
	n := 0
	for c, v := range refused {
		if _, first := c.cut(v); first {
			n++
		}
	}
	return n
}

// under are the connections that a grant let in.
func (l *liveConns) under(g *grant) []*liveConn {
	var list []*liveConn
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if c.grant == g {
			list = append(list, c)
		}
	}
	return list
}

// closeAll ends every connection, at the end of the proxy, and lets no more in.
func (l *liveConns) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.conns {
		transportOf(c.conn).Close()
	}
}

// approvalOf is who let an allowed request through, where no list did.
func approvalOf(v *Verdict) Source {
	if v.Source == SourceBaselinePolicy {
		return ""
	}
	return v.Source
}

// closeFrom ends every connection of one entrance. Those that it had under
// way are not seen: see enforcer.dial.
func (l *liveConns) closeFrom(from *entrance) {
	var ending []*liveConn
	l.mu.Lock()
	for c := range l.conns {
		if c.from == from {
			ending = append(ending, c)
		}
	}
	l.mu.Unlock()
	for _, c := range ending {
		c.close()
	}
}

// judge applies a policy to a connection that is open.
func (c *liveConn) judge(p *policy) Verdict {
	v, _ := p.judge(&c.query, c.approval, nil)
	if v.Allowed {
		v = p.judgeAddrs(&c.query, v, c.addrs, nil)
	}
	if v.Allowed && c.via != nil {
		v = p.judgeUpstream(v)
	}
	return v
}

// cut ends the connection because a policy refuses it, or because the grant that
// let it in was revoked, and returns that as an error. first is false when it
// was cut before.
func (c *liveConn) cut(v Verdict) (refusal *RefusedError, first bool) {
	refusal = &RefusedError{Host: c.query.target.Host.String(), Port: c.query.target.Port, Verdict: v}
	first = c.refusal.CompareAndSwap(nil, refusal)
	c.close()
	return refusal, first
}

// close ends the connection and takes it out of the set.
func (c *liveConn) close() {
	c.release()
	transportOf(c.conn).Close()
}

// because replaces an error of the connection by the refusal that caused it,
// if one did.
func (c *liveConn) because(err error) error {
	if refusal := c.refusal.Load(); err != nil && refusal != nil {
		return refusal
	}
	return err
}

// release takes the connection, about to be closed, out of the set. It may
// be called more than once.
func (c *liveConn) release() {
	c.done()
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	delete(c.of.conns, c)
}
