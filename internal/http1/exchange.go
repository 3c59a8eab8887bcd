// What one request after the other on a connection is served with.

package http1

import (
	"context"
	"net/http"
	"net/url"
	"sync"
)

// plainFields is how many fields the header of a request or an answer may
// have and still be parsed in place.
const plainFields = 48

// exchange is the memory of one request and its answer. The next request of
// the connection has it too, unless somebody may still hold a part of it.
type exchange struct {
	ctx      requestContext
	head     requestHead
	blank    *http.Request // with the context, and nothing else
	request  *http.Request
	url      url.URL
	header   http.Header
	values   []string
	large    bool // the request's head was: what is made of it is not kept while the client says nothing
	response response
}

// Fields returns the field lines of a request that a [Server] serves, but for
// Host, in the order and spelling in which they arrived. They are valid until
// the handler returns and must not be changed. For any other request it
// returns nil.
func Fields(r *http.Request) []Field {
	if ctx, ok := r.Context().(*requestContext); ok {
		return ctx.head.fields
	}
	return nil
}

// noRequest is copied, and stays as it is.
var noRequest = new(http.Request)

func newExchange(conn context.Context, turns *turns, bound *boundConns) *exchange {
	x := &exchange{header: make(http.Header)}
	x.ctx.bound = bound
	x.ctx.Context, x.ctx.turns, x.ctx.head = conn, turns, &x.head
	x.blank = noRequest.WithContext(&x.ctx)
	x.request = new(http.Request)
	return x
}

// reusable reports whether the exchange, its request being over, is nobody's,
// and no larger than most: a connection has it for as long as it is open.
func (x *exchange) reusable() bool {
	return !x.large && !x.response.large && !x.response.hijacked && x.response.body.none() && !x.ctx.shared()
}

// drop ends what the exchange holds on to.
func (x *exchange) drop() { x.ctx.drop() }

// requestContext is the context of one request after the other. Most of them
// are over before anybody asks for more than a value: those cost nothing. The
// first who waits for a request's end makes it a real one.
type requestContext struct {
	context.Context        // the connection's
	turns           *turns // the server's
	head            *requestHead
	bound           *boundConns // those of the client's connection
	origin          *originSide // what a Transport has for the request's answer; nil before the first

	mu     sync.Mutex
	real   context.Context
	cancel context.CancelFunc
	ended  bool
	held   *upstream   // to be closed when the request ends
	unbind func() bool // ends the watch for the end of the connection's context; nil: there is none
}

// originSide makes it. It is for the goroutine of the handler.
func (c *requestContext) originSide() *originSide {
	if c.origin == nil {
		c.origin = &originSide{ctx: c, turns: c.turns}
	}
	return c.origin
}

// Value finds a value, and for a child of the context the context above it.
func (c *requestContext) Value(key any) any {
	c.mu.Lock()
	above := c.above()
	c.mu.Unlock()
	return above.Value(key)
}

// above is the context that the request's is below, or stands for. c.mu is held.
func (c *requestContext) above() context.Context {
	if c.real != nil {
		return c.real
	}
	return c.Context
}

// Done makes the context a real one.
func (c *requestContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil {
		c.real, c.cancel = context.WithCancel(c.Context)
		if c.ended {
			c.cancel()
		}
	}
	return c.real.Done()
}

func (c *requestContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return context.Canceled
	}
	return c.above().Err()
}

// shared reports whether somebody waits, or has waited, for the end.
func (c *requestContext) shared() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.real != nil
}

// end ends the request.
func (c *requestContext) end() {
	c.mu.Lock()
	c.ended = true
	held, cancel := c.held, c.cancel
	c.held = nil
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	if held != nil {
		held.close()
	}
}

// begin starts the next request, of an exchange that can be used again.
func (c *requestContext) begin() {
	c.mu.Lock()
	c.ended = c.Context.Err() != nil
	c.mu.Unlock()
}

// hold has a connection closed when the request ends before letGo.
func (c *requestContext) hold(u *upstream) {
	c.mu.Lock()
	if c.unbind == nil {
		c.unbind = context.AfterFunc(c.Context, c.end)
	}
	over := c.ended
	if !over {
		c.held = u
	}
	c.mu.Unlock()
	if over {
		u.close()
	}
}

// letGo reports whether what was held has not been closed, and will not be.
func (c *requestContext) letGo() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held
	c.held = nil
	return held != nil
}

// drop is for a context that no further request will have.
func (c *requestContext) drop() {
	c.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unbind != nil {
		c.unbind()
	}
}
