// One connection to an origin server.

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

// noResponseError means that a connection ended before the first byte of a
// response. On a pooled connection the origin server had probably closed it
// before the request arrived.
type noResponseError struct{ err error }

func (e *noResponseError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return "the origin closed the connection without a response"
	}
	return e.err.Error()
}

func (e *noResponseError) Unwrap() error { return e.err }

// originConn is a connection to an origin server. One request uses it at a
// time.
type originConn struct {
	transport *Transport
	addr      string
	epoch     uint64 // of the pool when the connection was made
	net.Conn
	br        *bufio.Reader
	bw        *bufio.Writer
	closeOnce sync.Once
	bound     bool          // it belongs to one client connection; see boundConns
	addrPool  *addrPool     // where it was last put; nil if it was never pooled
	liveness  livenessCheck // used by alive
	idleSince atomic.Int64  // in nanoseconds since 1970; set while it is pooled
}

func (c *originConn) close() { c.closeOnce.Do(func() { c.Conn.Close() }) }

// discard closes a connection that is not in the pool.
func (c *originConn) discard() {
	c.close()
	c.transport.pool.removeIfEmpty(c)
}

// roundTrip sends a request and reads the header of its response.
func (c *originConn) roundTrip(r *Request, origin *originState) (*Response, error) {
	body := origin.newResponseBody(c, r)
	origin.yield()
	sendErr := body.sender.start()
	// Even if sending failed, the origin server may have responded and closed
	// the connection without reading the rest.
	resp, err := c.readResponse(r, origin, &body.sender)
	if err == nil && resp.Status == http.StatusSwitchingProtocols {
		err = errors.New("the origin switched protocols, but the client had not asked for it")
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

// readResponse reads response headers up to the final one or one that switches
// protocols.
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

// setBody sets the Body of a response that has one.
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

// bindIfAuthenticated binds the connection to its client if a field shows that
// the connection is authenticated.
func (c *originConn) bindIfAuthenticated(fields []Field) {
	for i := range fields {
		if authenticatesConn(fields[i]) {
			c.bound = true
		}
	}
}

// release returns the buffers of a closed connection to the transport's pools.
func (c *originConn) releaseBuffers() {
	c.br.Reset(nil)
	c.bw.Reset(nil)
	c.transport.readers.Put(c.br)
	c.transport.writers.Put(c.bw)
	c.br, c.bw = nil, nil
}
