// Package hangup detects that the peer of a connection has disconnected, while
// nothing reads from the connection.
//
// The end of the peer's stream is no proof that the peer has disconnected: a client
// may end its stream after its request and wait for the response (RFC 9112 section
// 9.6). To the receiver, both look the same. Sending something tells them apart,
// because the system of a peer that has closed the connection responds with a reset
// (RFC 9293 section 3.10.7.1).
package hangup

import (
	"bufio"
	"net"
)

// Wait blocks until one of these happens:
//
//   - the peer ends its stream: it returns io.EOF
//   - the connection fails: it returns the error
//   - the read deadline of c passes: it returns os.ErrDeadlineExceeded
//
// Nothing else may read from c or from its reader br meanwhile.
//
// On Linux it polls the socket and reads nothing. On other systems, and for a
// connection that is not a socket, it reads into the buffer of br, and returns
// nil if the buffer is full.
func Wait(c net.Conn, br *bufio.Reader) error {
	if err, ok := waitSocket(c); ok {
		return err
	}
	for n := br.Buffered(); n < br.Size(); n = br.Buffered() {
		if _, err := br.Peek(n + 1); err != nil {
			return err
		}
	}
	return nil
}

// Gone reports whether the connection has failed, for example by a reset. It
// does not block. It returns false if the socket cannot be checked; only a write
// then shows the failure.
func Gone(c net.Conn) bool { return gone(c) }
