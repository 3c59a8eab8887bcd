// The body of a response, whose end returns the connection to the pool.

package http1

import (
	"io"
	"net/http"
)

// responseBody is the Body of a Response.
type responseBody struct {
	c             *originConn
	origin        *originState // nil if the request is not a Server's
	body          io.ReadCloser
	closesConn    bool // the connection ends with this response
	sender        requestSender
	stopAfterFunc func() bool // stops watching the request's context; nil if origin is set
	done          bool
}

// detach stops closing the connection when the request ends. It reports
// whether the connection was not closed.
func (b *responseBody) detach() bool {
	if b.stopAfterFunc != nil {
		return b.stopAfterFunc()
	}
	return b.origin.ctx.detach()
}

func (b *responseBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	n, err := b.body.Read(p)
	if err != nil {
		b.finish(err == io.EOF)
		err = withoutQuotes(err)
	}
	return n, err
}

// Close ends the response. If the body was not read to its end, the connection
// is closed.
func (b *responseBody) Close() error {
	if !b.done {
		b.finish(b.body == http.NoBody)
	}
	return nil
}

// Buffered reports whether Read returns without waiting.
func (b *responseBody) Buffered() bool { return b.done || b.c.br.Buffered() > 0 }

// finish ends the round trip. The connection is pooled if complete is true and
// it can serve another request, else it is closed.
func (b *responseBody) finish(complete bool) {
	b.done = true
	b.body = http.NoBody
	sent, finished := b.sender.result()
	b.sender.r.Hooks.Release(b.c.Conn)
	if b.detach() && complete && sent && !b.closesConn && b.c.br.Buffered() == 0 {
		if !b.c.bound {
			b.c.transport.pool.put(b.c, b.origin)
			return
		}
		if b.origin != nil && b.origin.ctx.bound != nil {
			b.origin.ctx.bound.put(b.c)
			return
		}
	}
	b.c.discard()
	if finished { // else the sender still uses the buffers
		b.c.releaseBuffers()
	}
}
