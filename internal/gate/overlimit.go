package gate

import (
	"errors"
	"net"
	"time"
)

// OverLimitTimeout is how long a client whose connection is one too many has to say
// what it wants. It is less than track gives such a connection, so that there
// is time for the answer.
const OverLimitTimeout = time.Second

// OverLimitConn is a connection that the limit refuses. Its deadlines can be moved
// forward, but neither beyond until nor cleared: only a few such connections
// are answered at a time.
type OverLimitConn struct {
	net.Conn
	until time.Time
}

func NewOverLimitConn(c net.Conn) *OverLimitConn {
	o := &OverLimitConn{Conn: c, until: time.Now().Add(2 * OverLimitTimeout)}
	o.SetDeadline(o.until)
	return o
}

// bound returns t, or until where t is later or means no deadline.
func (c *OverLimitConn) bound(t time.Time) time.Time {
	if t.IsZero() || t.After(c.until) {
		return c.until
	}
	return t
}

func (c *OverLimitConn) SetDeadline(t time.Time) error     { return c.Conn.SetDeadline(c.bound(t)) }
func (c *OverLimitConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.bound(t)) }
func (c *OverLimitConn) SetWriteDeadline(t time.Time) error {
	return c.Conn.SetWriteDeadline(c.bound(t))
}

// CloseWrite ends the stream to the client, and leaves the other one open.
func (c *OverLimitConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
