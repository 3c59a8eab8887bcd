//go:build unix && !linux

// Reading the error of a socket on Unix systems other than Linux.

package hangup

import (
	"net"
	"syscall"
)

func waitSocket(net.Conn) (err error, ok bool) { return nil, false }

func gone(c net.Conn) (gone bool) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	err = raw.Control(func(fd uintptr) {
		code, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR)
		gone = err == nil && code != 0
	})
	return gone || err != nil
}
