//go:build unix

// Whether a pooled connection can still be used, by a look into its socket.

package http1

import (
	"net"
	"syscall"
)

// livenessCheck looks into the socket of a connection. The zero value has not looked.
type livenessCheck struct {
	raw  syscall.RawConn
	peek func(fd uintptr) bool // made once: it is called for every request
	open bool                  // what it found
}

// alive reports whether a pooled connection still seems open: nothing to
// read, not even an end. It is worth a system call: a request with content
// cannot be sent again, and what has come without a request must not be taken
// for the answer to the next one (RFC 9112 section 9.2).
func (c *originConn) alive() bool {
	p := &c.liveness
	if p.peek == nil {
		sc, ok := c.Conn.(syscall.Conn)
		if !ok {
			return true
		}
		var err error
		if p.raw, err = sc.SyscallConn(); err != nil {
			return false
		}
		p.peek = func(fd uintptr) bool {
			var b [1]byte
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			p.open = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
			return true
		}
	}
	return p.raw.Read(p.peek) == nil && p.open
}

var _ syscall.Conn = (*net.TCPConn)(nil)
