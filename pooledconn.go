// Connections to targets that outlive a request: those that forwarded
// requests share, and those that a host was given.

package networkproxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// targetConn is a connection to a target.
type targetConn struct{ net.Conn }

// SyscallConn gives access to the socket, so that a connection which the
// other side has closed is recognised before it is used again.
func (c targetConn) SyscallConn() (syscall.RawConn, error) {
	if socket, ok := transportOf(c.Conn).(syscall.Conn); ok {
		return socket.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// CloseWrite ends the stream to the target, and leaves the other one open.
func (c targetConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// errStale says that a pooled connection was cut while it was idle.
var errStale = errors.New("the connection was cut")

// pooledConn is a connection that carries one request after the other, or,
// with HTTP/2, several at a time.
//
// While it carries requests it ends with them. While it carries none it is
// judged as the request that it was made for would be, with the method GET, so
// that what the policy has come to refuse does not stay open.
type pooledConn struct {
	targetConn
	enforcer *enforcer
	to       destination
	idle     liveRequest // active while uses is 0
	uses     int         // guarded by idle.mu
}

// dialPooled connects for a request, to a connection that further requests may
// use. It ends with ctx, the context of the client.
func (e *enforcer) dialPooled(ctx context.Context, first *request, v *ruling, r route) (*pooledConn, error) {
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
func newPooledConn(e *enforcer, conn net.Conn, req *request, v *ruling, to destination) (*pooledConn, error) {
	c := &pooledConn{targetConn: targetConn{conn}, enforcer: e, to: to}
	if err := e.begin(&c.idle, req, v); err != nil {
		conn.Close()
		return nil, err
	}
	c.idle.done() // the grant let a request in, and not what stays in the pool
	if err := e.attach(&c.idle, transportOf(conn), to); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// acquire lets the connection carry a request until release. Closing the
// carrier must end the request; it may be the connection. The error is
// errStale where the connection was cut before.
func (c *pooledConn) acquire(lr *liveRequest, carrier io.Closer) error {
	c.idle.mu.Lock()
	cut := c.idle.refusal != nil
	if !cut {
		c.uses++
		c.idle.active = false
		c.idle.number++ // a verdict on the idle connection must not meet it in use
	}
	c.idle.mu.Unlock()
	if cut {
		return errStale
	}
	to := c.to
	to.generation = c.idle.judged.Load()
	if err := c.enforcer.attach(lr, carrier, to); err != nil {
		c.release(lr)
		return err
	}
	c.idle.judged.Store(lr.judged.Load())
	return nil
}

// release ends a use. It comes before the connection goes back to its pool.
func (c *pooledConn) release(lr *liveRequest) {
	lr.detach()
	c.idle.mu.Lock()
	c.uses--
	c.idle.active = c.uses == 0
	c.idle.mu.Unlock()
	if p := c.enforcer.installed(); p.Generation != c.idle.judged.Load() {
		c.idle.allowedBy(p) // no change of the policy looked at it while it was in use
	}
}

// Close closes the connection.
func (c *pooledConn) Close() error {
	c.idle.leave()
	return c.Conn.Close()
}
