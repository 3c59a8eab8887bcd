// The origin's side of a request that a Server serves: the memory of its
// answer, and where the connections to the origin are.

package http1

import "context"

// originState belongs to an exchange. nil is for a request that is not a
// Server's: everything is made for it alone.
type originState struct {
	ctx      *requestContext
	fairness *fairness
	lastPool *addrPool // of the pool that the last request used

	fields   []Field // the memory of answer.Fields
	response Response
	body     responseBody
}

// cachedPool is the line that was used last, if it is that of an address.
func (o *originState) cachedPool(p *pool, addr string) *addrPool {
	if o == nil || o.lastPool == nil || o.lastPool.pool != p || o.lastPool.addr != addr {
		return nil
	}
	return o.lastPool
}

func (o *originState) setPool(a *addrPool) {
	if o != nil {
		o.lastPool = a
	}
}

// takeBound returns a connection that belongs to the client; nil if there is
// none.
func (o *originState) takeBound(t *Transport, addr string) *originConn {
	if o == nil || o.ctx.bound == nil || len(o.ctx.bound.conns) == 0 {
		return nil
	}
	return o.ctx.bound.take(t, addr)
}

// yield is that of the server's turns.
func (o *originState) yield() {
	if o != nil {
		o.fairness.yield()
	}
}

// newResponseBody is the body of the answer to a request on c. The request's end
// closes c.
func (o *originState) newResponseBody(c *originConn, r *Request) *responseBody {
	if o == nil {
		b := &responseBody{c: c}
		b.sender.init(c, r)
		b.stopAfterFunc = context.AfterFunc(r.Context, c.close)
		return b
	}
	o.body = responseBody{c: c, origin: o}
	o.body.sender.init(c, r)
	o.ctx.attach(c)
	return &o.body
}

// newResponse returns the memory of a response with a head of n bytes, which is
// that of the one before. A large head is not kept while the client says
// nothing.
func (o *originState) newResponse(headerLen int) *Response {
	if o == nil || headerLen > bufferSize {
		return new(Response)
	}
	o.response = Response{Fields: o.fields[:0]}
	return &o.response
}

// keepFields keeps the memory of a response's fields for the next one, unless
// there are many.
func (o *originState) keepFields(r *Response) {
	if o == nil {
		return
	}
	if r == &o.response && cap(r.Fields) <= 2*usualFields {
		o.fields = r.Fields
	}
}
