// The context of a request.

package http1

import (
	"context"
	"sync"
)

// requestContext is the context of the requests of one exchange, one after
// another. Most requests end before anything waits for their end, and these
// cost no allocation. The first call of Done creates cancelCtx, and the
// exchange is then not used again.
type requestContext struct {
	context.Context           // the connection's
	fairness        *fairness // the server's
	header          *requestHeader
	bound           *boundConns  // of the client connection
	origin          *originState // used by a Transport; nil before the first use

	mu            sync.Mutex
	cancelCtx     context.Context // nil before the first call of Done
	cancel        context.CancelFunc
	ended         bool
	conn          *originConn // closed when the request ends
	stopAfterFunc func() bool // stops watching the connection's context; nil if not watched
}

// originState returns the origin state and creates it if necessary. Only the
// handler's goroutine may call it.
func (c *requestContext) originState() *originState {
	if c.origin == nil {
		c.origin = &originState{ctx: c, fairness: c.fairness}
	}
	return c.origin
}

// Value implements context.Context. For a derived context it finds the parent.
func (c *requestContext) Value(key any) any {
	c.mu.Lock()
	parent := c.parent()
	c.mu.Unlock()
	return parent.Value(key)
}

// parent returns cancelCtx if it exists, else the connection's context. c.mu
// must be held.
func (c *requestContext) parent() context.Context {
	if c.cancelCtx != nil {
		return c.cancelCtx
	}
	return c.Context
}

// Done implements context.Context. It creates cancelCtx if necessary.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancelCtx == nil {
		c.cancelCtx, c.cancel = context.WithCancel(c.Context)
		if c.ended {
			c.cancel()
		}
	}
	return c.cancelCtx.Done()
}

func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	return c.parent().Err()
}

// waitedOn reports whether Done was called.
func (c *requestContext) waitedOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancelCtx != nil
}

// end ends the current request.
func (c *requestContext) end() {
	c.mu.Lock()
	c.ended = true
	conn, cancel := c.conn, c.cancel
	c.conn = nil
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if conn != nil {
		conn.close()
	}
}

// begin starts the next request of a reusable exchange.
func (c *requestContext) begin() {
	c.mu.Lock()
	c.ended = c.Context.Err() != nil
	c.mu.Unlock()
}

// attach closes o when the request ends, unless detach is called first.
func (c *requestContext) attach(o *originConn) {
	c.mu.Lock()
	if c.stopAfterFunc == nil {
		c.stopAfterFunc = context.AfterFunc(c.Context, c.end)
	}
	ended := c.ended
	if !ended {
		c.conn = o
	}
	c.mu.Unlock()
	if ended {
		o.close()
	}
}

// detach undoes attach. It reports whether the connection was not closed and
// will not be.
func (c *requestContext) detach() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.conn
	c.conn = nil
	return conn != nil
}

// close ends the context for good.
func (c *requestContext) close() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopAfterFunc != nil {
		c.stopAfterFunc()
	}
}
