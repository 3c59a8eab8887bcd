package http1

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/http"
)

// Hijack is http.Hijacker's. The connection then belongs to the handler, with
// no deadline set.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	if w.hijacked {
		return nil, nil, http.ErrHijacked
	}
	if w.begun {
		return nil, nil, errors.New("http1: an answer has begun; the connection cannot be taken over")
	}
	c := w.conn
	c.watcher.end()
	c.clearDeadline()
	if w.probed > 0 {
		return nil, nil, errors.New("http1: a client that has ended its stream was sent the begin of a response; take the connection over with Detach")
	}
	w.hijacked = true
	rw := bufio.NewReadWriter(c.br, c.bw)
	c.br, c.bw = nil, nil // a tunnel outlives its need of them
	return c.Conn, rw, nil
}

// Detacher is what the ResponseWriter of a [Server] can do beyond those of
// net/http.
type Detacher interface {
	// Detach is Hijack without buffers: early is what the client has sent
	// beyond the head of its request. It first sends head, the head of a
	// response, which must begin with "HTTP/1.1 " unless it is empty. After an
	// error the connection is closed. A request with content keeps its buffers
	// from being used again.
	Detach(head []byte) (c net.Conn, early []byte, err error)
}

// Detach implements Detacher.
func (w *responseWriter) Detach(header []byte) (net.Conn, []byte, error) {
	var probed int
	if len(header) > 0 && !w.hijacked && !w.begun {
		w.conn.watcher.end() // which sends no more
		probed, w.probed = w.probed, 0
	}
	netConn, rw, err := w.Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, err := rw.Peek(rw.Reader.Buffered()) // what is buffered can be peeked at
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
	c.server.fairness.yield() // what follows is a write
	if len(header) > 0 {
		if _, err := netConn.Write(header[probed:]); err != nil {
			netConn.Close()
			return nil, nil, err
		}
	}
	return netConn, early, nil
}
