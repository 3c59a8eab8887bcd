//go:build unix

package http1

import (
	"net"
	"syscall"
)

// alive reports whether a pooled connection still seems open: nothing to
// read, not even an end. A request with content cannot be sent again, so it
// is worth a system call.
func (c *upstream) alive() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	alive := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		alive = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && alive
}

var _ syscall.Conn = (*net.TCPConn)(nil)
