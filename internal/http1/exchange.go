// What one request after the other on a connection is served with.

package http1

import (
	"context"
	"net/http"
	"net/url"
)

// usualFields is how many fields the header of a request or an answer may
// have and still be parsed in place.
const usualFields = 48

// exchange is the memory of one request and its answer. The next request of
// the connection has it too, unless somebody may still hold a part of it.
type exchange struct {
	ctx         requestContext
	header      requestHeader
	template    *http.Request // with the context, and nothing else
	request     *http.Request
	url         url.URL
	headerMap   http.Header
	values      []string
	trailer     requestTrailer
	largeHeader bool // the request's head was: what is made of it is not kept while the client says nothing
	writer      responseWriter
}

// Fields returns the field lines of a request that a [Server] serves, but for
// Host, in the order and spelling in which they arrived. They are valid until
// the handler returns and must not be changed. For any other request it
// returns nil.
func Fields(r *http.Request) []Field {
	if ctx, ok := r.Context().(*requestContext); ok {
		return ctx.header.fields
	}
	return nil
}

// emptyRequest is copied, and stays as it is.
var emptyRequest = new(http.Request)

func newExchange(connCtx context.Context, fairness *fairness, bound *boundConns) *exchange {
	x := &exchange{headerMap: make(http.Header)}
	x.ctx.bound = bound
	x.ctx.Context, x.ctx.fairness, x.ctx.header = connCtx, fairness, &x.header
	x.template = emptyRequest.WithContext(&x.ctx)
	x.request = new(http.Request)
	return x
}

// reusable reports whether the exchange, its request being over, is nobody's,
// and no larger than most: a connection has it for as long as it is open.
func (x *exchange) reusable() bool {
	return !x.largeHeader && !x.writer.largeHeader && !x.writer.hijacked && x.writer.body.isEmpty() && !x.ctx.waitedOn()
}

// close ends what the exchange holds on to.
func (x *exchange) close() { x.ctx.close() }
