package http1

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"sync"
	"sync/atomic"
)

// noResponseError is the end of a connection before the first byte of an
// answer. On a pooled connection it probably means that the origin had closed
// it before the request came.
type noResponseError struct{ err error }

func (e *noResponseError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return "the origin closed the connection without an answer"
	}
	return e.err.Error()
}

func (e *noResponseError) Unwrap() error { return e.err }

// originConn is one connection to an origin. It is used by one request at a
// time.
type originConn struct {
	transport *Transport
	addr      string
	epoch     uint64 // of the pool it was made under
	net.Conn
	br        *bufio.Reader
	bw        *bufio.Writer
	closeOnce sync.Once
	bound     bool          // it belongs to the client connection whose request it carried
	addrPool  *addrPool     // that it was last put into; nil: none
	liveness  livenessCheck // for alive
	idleSince atomic.Int64  // since when, in nanoseconds since 1970, while it is pooled
}

func (c *originConn) close() { c.closeOnce.Do(func() { c.Conn.Close() }) }

// discard closes a connection that is not in the pool, for good.
func (c *originConn) discard() {
	c.close()
	c.transport.pool.removeIfEmpty(c)
}

// roundTrip sends a request and reads the head of its response.
func (c *originConn) roundTrip(r *Request, origin *originState) (*Response, error) {
	body := origin.newResponseBody(c, r)
	origin.yield()
	sendErr := body.sender.start()
	// Even if sending failed the origin may have responded, and closed without
	// reading on.
	resp, err := c.readResponse(r, origin, &body.sender)
	if err == nil && resp.Status == http.StatusSwitchingProtocols {
		err = errors.New("the origin switched protocols, which the client had not asked for")
	}
	if err != nil {
		body.detach()
		c.close()
		if sendErr != nil {
			err = &noResponseError{sendErr}
		}
		return nil, body.sender.cause(err)
	}
	body.sender.reportStatus(resp.Status)
	body.body, body.closesConn = resp.Body, resp.closes || sendErr != nil
	resp.Body = body
	return resp, nil
}

// response reads heads up to the final one, or that of a switch of protocols.
func (c *originConn) readResponse(r *Request, origin *originState, sender *requestSender) (*Response, error) {
	t := c.transport
	remaining := t.maxHeaderBytes()
	for first := true; ; first = false {
		origin.yield()
		if _, err := c.br.Peek(1); err != nil {
			if first {
				err = &noResponseError{err}
			}
			return nil, err
		}
		header, err := c.readHeader(&remaining)
		if err != nil {
			return nil, err
		}
		resp := origin.newResponse(len(header))
		if err := resp.parse(header, r.Method, t.maxHeaderFields()); err != nil {
			return nil, err
		}
		origin.keepFields(resp)
		c.bindIfAuthenticated(resp.Fields)
		switch {
		case resp.Status >= 200:
			c.setBody(resp)
			return resp, nil
		case resp.Status == http.StatusSwitchingProtocols:
			return resp, nil
		case resp.Status == http.StatusContinue && sender != nil:
			sender.reportStatus(http.StatusContinue)
		}
		if r.Hooks != nil {
			r.Hooks.Informational(resp)
		}
	}
}

// setBody makes the body of a response that has content.
func (c *originConn) setBody(resp *Response) {
	switch {
	case resp.Body != nil:
	case resp.chunked:
		resp.Body = &chunkedBody{
			br: c.br, chunks: httputil.NewChunkedReader(c.br), trailer: resp,
			maxFields: c.transport.maxHeaderFields(), maxBytes: c.transport.maxHeaderBytes(),
		}
	case resp.ContentLength > 0:
		resp.Body = &lengthBody{br: c.br, remaining: resp.ContentLength}
	default:
		resp.Body = closeDelimitedBody{c.br}
	}
}

// bindIfAuthenticated binds the connection to its client if a header says so.
func (c *originConn) bindIfAuthenticated(fields []Field) {
	for i := range fields {
		if authenticatesConn(fields[i]) {
			c.bound = true
		}
	}
}

// releaseBuffers gives the buffers of a closed connection back.
func (c *originConn) release() {
	c.br.Reset(nil)
	c.bw.Reset(nil)
	c.transport.readers.Put(c.br)
	c.transport.writers.Put(c.bw)
	c.br, c.bw = nil, nil
}
