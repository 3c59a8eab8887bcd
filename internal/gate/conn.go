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
	if socket, ok := BelowTLS(c.Conn).(syscall.Conn); ok {
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
	enforcer *Gate
	To       destination
	Idle     LiveRequest // active while uses is 0
	uses     int         // guarded by idle.mu
}

// DialPooled connects for a request, to a connection that further requests may
// use. It ends with ctx, the context of the client.
func (e *Gate) DialPooled(ctx context.Context, first *Request, v *Ruling, r Route) (*PooledConn, error) {
	req := *first
	req.Method = http.MethodGet // the connection outlives the request
	conn, to, err := withPrincipal(ctx, &req, v, func(ctx context.Context) (net.Conn, destination, error) {
		return e.connect(ctx, &req, &v.Verdict, r)
	})
	if err != nil {
		return nil, err
	}
	return newPooledConn(e, conn, &req, v, to)
}

// newPooledConn puts a new connection among the live ones. The error says why
// it is no longer allowed; the connection is then closed.
func newPooledConn(e *Gate, conn net.Conn, req *Request, v *Ruling, to destination) (*PooledConn, error) {
	c := &PooledConn{TargetConn: TargetConn{conn}, enforcer: e, To: to}
	if err := e.Begin(&c.Idle, req, v); err != nil {
		conn.Close()
		return nil, err
	}
	c.Idle.Done() // the grant let a request in, and not what stays in the pool
	if err := e.Attach(&c.Idle, BelowTLS(conn), to); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Acquire lets the connection carry a request until release. Closing the
// carrier must end the request; it may be the connection. The error is
// errStale where the connection was cut before.
func (c *PooledConn) Acquire(lr *LiveRequest, carrier io.Closer) error {
	c.Idle.mu.Lock()
	cut := c.Idle.refusal != nil
	if !cut {
		c.uses++
		c.Idle.active = false
		c.Idle.number++ // a verdict on the idle connection must not meet it in use
	}
	c.Idle.mu.Unlock()
	if cut {
		return ErrStale
	}
	to := c.To
	to.Generation = c.Idle.Judged.Load()
	if err := c.enforcer.Attach(lr, carrier, to); err != nil {
		c.Release(lr)
		return err
	}
	c.Idle.Judged.Store(lr.Judged.Load())
	return nil
}

// Release ends a use. It comes before the connection goes back to its pool.
func (c *PooledConn) Release(lr *LiveRequest) {
	lr.detach()
	c.Idle.mu.Lock()
	c.uses--
	c.Idle.active = c.uses == 0
	c.Idle.mu.Unlock()
	if p := c.enforcer.Policy(); p.Generation != c.Idle.Judged.Load() {
		c.Idle.allowedBy(p) // no change of the policy looked at it while it was in use
	}
}

// Close closes the connection.
func (c *PooledConn) Close() error {
	c.Idle.Leave()
	return c.Conn.Close()
}
