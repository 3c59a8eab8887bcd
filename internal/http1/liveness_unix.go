//go:build unix

// Checking whether a pooled connection is still usable, on systems with Unix
// sockets.

package http1

import (
	"net"
	"syscall"
)

// livenessCheck peeks into the socket of a connection. The zero value is ready
// to use.
type livenessCheck struct {
	raw  syscall.RawConn
	peek func(fd uintptr) bool // allocated once, because it is called for every request
	open bool                  // the result of peek
}

// alive reports whether a pooled connection seems usable: still open and with
// nothing to read. It costs a system call. That is worthwhile because a request
// with a body cannot be repeated, and because unsolicited data must not be
// taken for the next response (RFC 9112 section 9.2).
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
