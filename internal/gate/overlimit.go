// Connections over the limit, which get a refusal.

package gate

import (
	"errors"
	"net"
	"time"
)

// OverLimitTimeout is the time for the request on a connection over the limit. It is
// less than track allows such a connection in total, so that there is time for the
// response.
const OverLimitTimeout = time.Second

// OverLimitConn is a connection over the limit. Its deadlines can be set, but neither
// cleared nor moved beyond a fixed time, because only a few such connections are
// served at a time.
type OverLimitConn struct {
	net.Conn
	until time.Time
}

// NewOverLimitConn returns c with a fixed last deadline.
func NewOverLimitConn(c net.Conn) *OverLimitConn {
	o := &OverLimitConn{Conn: c, until: time.Now().Add(2 * OverLimitTimeout)}
	o.SetDeadline(o.until)
	return o
}

// bound returns t, or c.until if t is later or zero.
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

// CloseWrite closes the connection for writing.
func (c *OverLimitConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
