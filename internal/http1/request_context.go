package http1

import (
	"context"
	"sync"
)

// requestContext is the context of one request after the other. Most of them
// are over before anybody asks for more than a value: those cost nothing. The
// first who waits for a request's end makes it a real one.
type requestContext struct {
	context.Context           // the connection's
	fairness        *fairness // the server's
	header          *requestHeader
	bound           *boundConns  // those of the client's connection
	origin          *originState // what a Transport has for the request's answer; nil before the first

	mu            sync.Mutex
	cancelCtx     context.Context
	cancel        context.CancelFunc
	ended         bool
	conn          *originConn // to be closed when the request ends
	stopAfterFunc func() bool // ends the watch for the end of the connection's context; nil: there is none
}

// originState makes it. It is for the goroutine of the handler.
func (c *requestContext) originState() *originState {
	if c.origin == nil {
		c.origin = &originState{ctx: c, fairness: c.fairness}
	}
	return c.origin
}

// Value finds a value, and for a child of the context the context above it.
func (c *requestContext) Value(key any) any {
	c.mu.Lock()
	parent := c.parent()
	c.mu.Unlock()
	return parent.Value(key)
}

// parent is the context that the request's is below, or stands for. c.mu is held.
func (c *requestContext) parent() context.Context {
	if c.cancelCtx != nil {
		return c.cancelCtx
	}
	return c.Context
}

// Done makes the context a real one.
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

// waitedOn reports whether somebody waits, or has waited, for the end.
func (c *requestContext) waitedOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cancelCtx != nil
}

// remove ends the request.
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

// start starts the next request, of an exchange that can be used again.
func (c *requestContext) begin() {
	c.mu.Lock()
	c.ended = c.Context.Err() != nil
	c.mu.Unlock()
}

// attach has a connection closed when the request ends before letGo.
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

// detach reports whether what was held has not been closed, and will not be.
func (c *requestContext) detach() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	conn := c.conn
	c.conn = nil
	return conn != nil
}

// close is for a context that no further request will have.
func (c *requestContext) close() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopAfterFunc != nil {
		c.stopAfterFunc()
	}
}
