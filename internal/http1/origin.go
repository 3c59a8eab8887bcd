// The origin's side of a request that a Server serves: the memory of its
// answer, and where the connections to the origin are.

package http1

import "context"

// originSide belongs to an exchange. nil is for a request that is not a
// Server's: everything is made for it alone.
type originSide struct {
	ctx   *requestContext
	turns *turns
	near  *line // of the pool that the last request used

	fields []Field // the memory of answer.Fields
	answer Response
	body   answerBody
}

// nearLine is the line that was used last, if it is that of an address.
func (o *originSide) nearLine(p *pool, addr string) *line {
	if o == nil || o.near == nil || o.near.pool != p || o.near.addr != addr {
		return nil
	}
	return o.near
}

func (o *originSide) setLine(l *line) {
	if o != nil {
		o.near = l
	}
}

// takeBound returns a connection that belongs to the client; nil if there is
// none.
func (o *originSide) takeBound(t *Transport, addr string) *upstream {
	if o == nil || o.ctx.bound == nil || len(o.ctx.bound.conns) == 0 {
		return nil
	}
	return o.ctx.bound.take(t, addr)
}

// yield is that of the server's turns.
func (o *originSide) yield() {
	if o != nil {
		o.turns.yield()
	}
}

// newBody is the body of the answer to a request on c. The request's end
// closes c.
func (o *originSide) newBody(c *upstream, r *Request) *answerBody {
	if o == nil {
		b := &answerBody{c: c}
		b.upload.init(c, r)
		b.unbind = context.AfterFunc(r.Context, c.close)
		return b
	}
	o.body = answerBody{c: c, side: o}
	o.body.upload.init(c, r)
	o.ctx.hold(c)
	return &o.body
}

// newAnswer returns the memory of a response with a head of n bytes, which is
// that of the one before. A large head is not kept while the client says
// nothing.
func (o *originSide) newAnswer(n int) *Response {
	if o == nil || n > bufferSize {
		return new(Response)
	}
	o.answer = Response{Fields: o.fields[:0]}
	return &o.answer
}

// keepFields keeps the memory of a response's fields for the next one, unless
// there are many.
func (o *originSide) keepFields(a *Response) {
	if o == nil {
		return
	}
	if a == &o.answer && cap(a.Fields) <= 2*plainFields {
		o.fields = a.Fields
	}
}
