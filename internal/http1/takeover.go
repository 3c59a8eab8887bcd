// Handing a client connection over to the handler.

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
)

// Hijack implements http.Hijacker. No deadline is set on the returned
// connection.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.hijacked {
		return nil, nil, http.ErrHijacked
	}
	if w.begun {
		return nil, nil, errors.New("http1: cannot take over the connection, because the response has begun")
	}
	c := w.conn
	c.watcher.end()
	c.clearDeadline()
	if w.probed > 0 {
		return nil, nil, errors.New("http1: the status line was begun for a half-closed client; use Detach")
	}
	w.hijacked = true
	rw := bufio.NewReadWriter(c.br, c.bw)
	c.br, c.bw = nil, nil // a tunnel must not keep them alive
	return c.Conn, rw, nil
}

// Detacher is implemented by the ResponseWriter of a [Server].
type Detacher interface {
	// Detach takes over the connection like Hijack, but returns no buffers.
	// early holds the bytes that the client sent after the request. Detach
	// first sends header, a response header that must begin with "HTTP/1.1 ";
	// it may be empty. If sending it fails, the connection is closed. The
	// buffers of a request with a body are not used again.
	Detach(header []byte) (c net.Conn, early []byte, err error)
}

// Detach implements Detacher.
func (w *responseWriter) Detach(header []byte) (net.Conn, []byte, error) {
	var probed int
	if len(header) > 0 && !w.hijacked && !w.begun {
		w.conn.watcher.end() // no probe is sent from here on
		probed, w.probed = w.probed, 0
	}
	netConn, rw, err := w.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Peek(rw.Reader.Buffered()) // cannot fail
	if err != nil {
		netConn.Close()
		return nil, nil, err
	}
	early = bytes.Clone(early)
	c := w.conn
	if w.body.isEmpty() {
		c.br, c.bw = rw.Reader, rw.Writer
		c.releaseBuffers()
	}
	c.server.fairness.yield() // before the write
	if len(header) > 0 {
		if _, err := netConn.Write(header[probed:]); err != nil {
			netConn.Close()
			return nil, nil, err
		}
	}
	return netConn, early, nil
}
