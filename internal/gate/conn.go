// Connections to targets that outlive a request: those that forwarded
// requests share, and those that a host was given.

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

// SyscallConn gives access to the socket, so that a connection which the
// other side has closed is recognised before it is used again.
func (c TargetConn) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := UnderlyingConn(c.Conn).(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite ends the stream to the target, and leaves the other one open.
func (c TargetConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// ErrStale says that a pooled connection was cut while it was idle.
var ErrStale = errors.New("the connection was cut")

// PooledConn is a connection that carries one request after the other, or,
// with HTTP/2, several at a time.
//
// While it carries requests it ends with them. While it carries none it is
// judged as the request that it was made for would be, with the method GET, so
// that what the policy has come to refuse does not stay open.
type PooledConn struct {
	TargetConn
	gate *Gate
	to   Destination
	idle LiveRequest // active while uses is 0
	uses int         // guarded by idle.mu
}

// DialPooled connects for a request, to a connection that further requests may
// use. It ends with ctx, the context of the client.
func (g *Gate) DialPooled(ctx context.Context, first *Request, v *Ruling, r Route) (*PooledConn, error) {
	req := *first
	req.Method = http.MethodGet // the connection outlives the request
	conn, to, err := withPrincipal(ctx, &req, v, func(ctx context.Context) (net.Conn, Destination, error) {
		return g.connect(ctx, &req, &v.Verdict, r)
	})
	if err != nil {
		return nil, err
	}
	return newPooledConn(g, conn, &req, v, to)
}

// newPooledConn puts a new connection among the live ones. The error says why
// it is no longer allowed; the connection is then closed.
func newPooledConn(g *Gate, conn net.Conn, req *Request, v *Ruling, to Destination) (*PooledConn, error) {
	c := &PooledConn{TargetConn: TargetConn{conn}, gate: g, to: to}
	if err := g.Begin(&c.idle, req, v); err != nil {
		conn.Close()
		return nil, err
	}
	c.idle.Done() // the grant let a request in, and not what stays in the pool
	if err := g.Attach(&c.idle, UnderlyingConn(conn), to); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Acquire lets the connection carry a request until release. Closing the
// carrier must end the request; it may be the connection. The error is
// errStale where the connection was cut before.
func (c *PooledConn) Acquire(lr *LiveRequest, carrier io.Closer) error {
	c.idle.mu.Lock()
	cut := c.idle.refusal != nil
	if !cut {
		c.uses++
		c.idle.active = false
		c.idle.number++ // a verdict on the idle connection must not meet it in use
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

// Release ends a use. It comes before the connection goes back to its pool.
func (c *PooledConn) Release(lr *LiveRequest) {
	lr.detach()
	c.idle.mu.Lock()
	c.uses--
	c.idle.active = c.uses == 0
	c.idle.mu.Unlock()
	if p := c.gate.Policy(); p.Generation != c.idle.judged.Load() {
		c.idle.allowedBy(p) // no change of the policy looked at it while it was in use
	}
}

// Close closes the connection.
func (c *PooledConn) Close() error {
	c.idle.Leave()
	return c.Conn.Close()
}
