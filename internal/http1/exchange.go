// The memory of a request and its response, which the next request of the
// connection uses again.

package http1

import (
	"context"
	"net/http"
	"net/url"
)

// usualFields is the number of header fields up to which the memory of a
// request or a response is kept for the next one.
const usualFields = 48

// exchange is the memory of one request and its response. The next request of
// the connection uses it again if nothing else can still refer to it.
type exchange struct {
	ctx         requestContext
	header      requestHeader
	template    *http.Request // an empty request with the context; copied for each request
	request     *http.Request
	url         url.URL
	headerMap   http.Header    // the request's Header
	values      []string       // the memory of the values in headerMap
	trailer     requestTrailer // of a request with a chunked body
	largeHeader bool           // the request header was large; an idle connection must not keep its memory
	writer      responseWriter
}

// Fields returns the field lines of a request served by a [Server], except
// Host, in the order and spelling in which they arrived. They are valid until
// the handler returns and must not be changed. For other requests it returns
// nil.
func Fields(r *http.Request) []Field {
	if ctx, ok := r.Context().(*requestContext); ok {
		return ctx.header.fields
	}
	return nil
}

// emptyRequest is only copied, never changed.
var emptyRequest = new(http.Request)

func newExchange(connCtx context.Context, fairness *fairness, bound *boundConns) *exchange {
	x := &exchange{headerMap: make(http.Header)}
	x.ctx.bound = bound
	x.ctx.Context, x.ctx.fairness, x.ctx.header = connCtx, fairness, &x.header
	x.template = emptyRequest.WithContext(&x.ctx)
	x.request = new(http.Request)
	return x
}

// reusable reports whether nothing can still refer to the exchange of a
// finished request and whether it has not grown beyond the usual size. An open
// connection keeps its exchange.
func (x *exchange) reusable() bool {
	return !x.largeHeader && !x.writer.largeHeader && !x.writer.hijacked && x.writer.body.isEmpty() && !x.ctx.waitedOn()
}

// close ends the context and releases the resources of the exchange.
func (x *exchange) close() { x.ctx.close() }
