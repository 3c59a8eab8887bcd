// Package hangup tells when the other end of a connection has hung up, while
// nobody reads from the connection and whatever has been sent on it.
//
// The end of a stream alone does not say that: a client that has sent all of
// its request may end its stream and wait for the response (RFC 9112 section
// 9.6), and to the receiver that looks the same as a client that has closed.
// Only what is sent to it tells the two apart: a closed connection answers
// with a reset (RFC 9293 section 3.10.7.1).
package hangup

import (
	"bufio"
	"net"
)

// Wait blocks until the peer has ended its stream, and then returns io.EOF;
// until the connection fails, and then returns the error; or until the read
// deadline of c has passed, and then returns os.ErrDeadlineExceeded. Nobody
// else may read from c or br, its reader, meanwhile.
//
// On Linux it asks the socket and reads nothing. Elsewhere, and for what is no
// socket, it reads into the buffer of br, and returns nil when that is full.
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

// Gone reports whether the connection has failed, by a reset for instance. It
// does not block. Where sockets cannot be looked into it reports false; there,
// writing fails.
func Gone(c net.Conn) bool { return gone(c) }
