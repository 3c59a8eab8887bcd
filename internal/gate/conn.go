// Connections to targets, and connections that several requests share.

package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// TargetConn is a connection to a target.
type TargetConn struct{ net.Conn }

// SyscallConn returns the raw connection. Before a connection is reused, it serves to
// find out whether the peer has closed it.
func (c TargetConn) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := UnderlyingConn(c.Conn).(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite closes the connection for writing.
func (c TargetConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// ErrStale is the error of a pooled connection that was cut while it was idle.
var ErrStale = errors.New("the connection was cut")

// PooledConn is a connection that several requests use, one after the other or, with
// HTTP/2, concurrently.
//
// A cut of a request closes the connection that carries it. An idle connection is
// judged as a GET of the request that it was opened for, so that it does not stay
// open when the policy no longer allows its target.
type PooledConn struct {
	TargetConn
	gate *Gate
	to   Destination
	idle LiveRequest // active while uses is 0
	uses int         // guarded by idle.mu
}

// DialPooled connects to the target of a request. Later requests may use the
// connection as well. ctx limits the dial only.
func (g *Gate) DialPooled(ctx context.Context, first *Request, v *Ruling, r Route) (*PooledConn, error) {
	req := *first
	req.Method, req.HTTP = http.MethodGet, nil // the connection outlives the request
	req.trace = nil
	conn, to, err := withPrincipal(ctx, &req, v, func(ctx context.Context) (net.Conn, Destination, error) {
		return g.connect(ctx, &req, &v.Verdict, r)
	})
	if err != nil {
		return nil, err
	}
	return newPooledConn(g, conn, &req, v, to)
}

// newPooledConn adds a new, idle connection to the open requests. If the connection is
// no longer allowed, newPooledConn closes it and returns the reason.
func newPooledConn(g *Gate, conn net.Conn, req *Request, v *Ruling, to Destination) (*PooledConn, error) {
	c := &PooledConn{TargetConn: TargetConn{conn}, gate: g, to: to}
	if err := g.begin(&c.idle, req, v); err != nil {
		conn.Close()
		return nil, err
	}
	c.idle.Done() // the request counts as a use of the grant, the idle connection does not
	if err := g.Attach(&c.idle, UnderlyingConn(conn), to); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Acquire attaches the connection to a request until Release. Closing the carrier
// must end the request; the carrier may be the connection. The error is ErrStale if
// the connection was cut before.
func (c *PooledConn) Acquire(lr *LiveRequest, carrier io.Closer) error {
	c.idle.mu.Lock()
	cut := c.idle.refusal != nil
	if !cut {
		c.uses++
		c.idle.active = false
		c.idle.number++ // so that a verdict on the idle connection does not cut this request
	}
	c.idle.mu.Unlock()
	if cut {
		return ErrStale
	}
	if err := c.gate.Attach(lr, carrier, c.Destination()); err != nil {
		c.Release(lr)
		return err
	}
	c.idle.judged.Store(lr.judged.Load())
	return nil
}

// Destination returns where the connection leads, with the generation of the
// policy that last judged it.
func (c *PooledConn) Destination() Destination {
	to := c.to
	to.generation = c.idle.judged.Load()
	return to
}

// ViaProxy reports whether the connection is a tunnel through an upstream proxy.
func (c *PooledConn) ViaProxy() bool { return c.to.via != nil }

// Release ends the use by a request. Call it before the connection returns to its
// pool.
func (c *PooledConn) Release(lr *LiveRequest) {
	lr.detach()
	c.idle.mu.Lock()
	c.uses--
	c.idle.active = c.uses == 0
	c.idle.mu.Unlock()
	if p := c.gate.Policy(); p.Generation != c.idle.judged.Load() {
		c.idle.allowedBy(p) // policy changes did not judge it while it was in use
	}
}

// Close closes the connection.
func (c *PooledConn) Close() error {
	c.idle.Leave()
	return c.Conn.Close()
}
