// Memory and caches for the round trips of a Server's request.

package http1

import "context"

// originState belongs to an exchange. Its memory is used for one response
// after another. For a request that no Server serves, the *originState is nil
// and the memory is allocated.
type originState struct {
	ctx      *requestContext
	fairness *fairness
	lastPool *addrPool // the addrPool that the last request used

	fields   []Field // the memory of response.Fields
	response Response
	body     responseBody
}

// cachedPool returns the addrPool that was used last if it is p's addrPool for
// addr, else nil.
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

// takeBound returns a connection that is bound to the client connection, or
// nil.
func (o *originState) takeBound(t *Transport, addr string) *originConn {
	if o == nil || o.ctx.bound == nil || len(o.ctx.bound.conns) == 0 {
		return nil
	}
	return o.ctx.bound.take(t, addr)
}

// yield calls the server's fairness.yield.
func (o *originState) yield() {
	if o != nil {
		o.fairness.yield()
	}
}

// newResponseBody returns the body of the response to a request on c. It
// arranges that the end of the request closes c.
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

// newResponse returns the memory for a response with a header of headerLen
// bytes. A large header gets new memory, because an idle connection must not
// keep it.
func (o *originState) newResponse(headerLen int) *Response {
	if o == nil || headerLen > bufferSize {
		return new(Response)
	}
	o.response = Response{Fields: o.fields[:0]}
	return &o.response
}

// keepFields keeps the memory of a response's fields for the next response,
// unless there are many.
func (o *originState) keepFields(r *Response) {
	if o == nil {
		return
	}
	if r == &o.response && cap(r.Fields) <= 2*usualFields {
		o.fields = r.Fields
	}
}
