// The congestion control of a socket.

package testnet

import (
	"strings"
	"syscall"
	"testing"
	"unsafe"
)

// CongestionControl returns the name of the congestion control of a TCP connection
// or listener. Accepted connections inherit that of their listener.
func CongestionControl(t testing.TB, c syscall.Conn) string {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var name [16]byte // TCP_CA_NAME_MAX
	size := uint32(len(name))
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION,
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		t.Fatal(err, errno)
	}
	text, _, _ := strings.Cut(string(name[:size]), "\x00")
	return text
}
