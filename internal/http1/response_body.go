package http1

import (
	"io"
	"net/http"
)

// responseBody is an answer's Body. Its end gives the connection back.
type responseBody struct {
	c             *originConn
	origin        *originState
	body          io.ReadCloser
	closesConn    bool // the connection ends with this answer
	sender        requestSender
	stopAfterFunc func() bool // from the request's context; nil where side is there for that
	done          bool
}

// stopReading reports whether the connection has not been closed because the request
// ended, and will not be.
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

// Close ends the answer early: where its content has not been read to its
// end, the connection can carry nothing more.
func (b *responseBody) Close() error {
	if !b.done {
		b.finish(b.body == http.NoBody)
	}
	return nil
}

// Buffered reports whether a Read returns at once.
func (b *responseBody) Buffered() bool { return b.done || b.c.br.Buffered() > 0 }

func (b *responseBody) finish(whole bool) {
	b.done = true
	b.body = http.NoBody
	sent, finished := b.sender.result()
	b.sender.r.Hooks.Release(b.c.Conn)
	if b.detach() && whole && sent && !b.closesConn && b.c.br.Buffered() == 0 {
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
	if finished { // or the upload still has the buffers
		b.c.release()
	}
}
