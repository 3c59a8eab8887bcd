// Polling a socket on Linux.

package hangup

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// Events of poll(2).
const (
	pollErr   = 0x8
	pollHup   = 0x10
	pollRdHup = 0x2000
)

// pollFD is struct pollfd.
type pollFD struct {
	fd              int32
	events, revents int16
}

// poll returns the events of a socket without waiting. It uses ppoll(2), because
// package syscall does not have poll(2) on every architecture.
func poll(fd uintptr) int16 {
	p := pollFD{fd: int32(fd), events: pollRdHup}
	var now syscall.Timespec
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		switch errno {
		case 0:
			return p.revents
		case syscall.EINTR:
		default:
			return 0
		}
	}
}

// waitSocket implements Wait for sockets. For other connections, ok is false.
// The runtime's poller wakes it at every event, including new data.
func waitSocket(c net.Conn) (err error, ok bool) {
	raw := rawConn(c)
	if raw == nil {
		return nil, false
	}
	var events int16
	if err := raw.Read(func(fd uintptr) bool {
		events = poll(fd)
		return events != 0
	}); err != nil {
		return err, true
	}
	if events&(pollErr|pollHup) != 0 {
		return syscall.ECONNRESET, true
	}
	return io.EOF, true
}

func gone(c net.Conn) (gone bool) {
	raw := rawConn(c)
	if raw == nil {
		return false
	}
	err := raw.Control(func(fd uintptr) { gone = poll(fd)&(pollErr|pollHup) != 0 })
	return gone || err != nil
}

func rawConn(c net.Conn) syscall.RawConn {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}
