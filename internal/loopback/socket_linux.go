// What is done to a socket on Linux.

package loopback

import (
	"net/netip"
	"syscall"
)

// unpace has a socket use Reno (tcp(7), TCP_CONGESTION), which does not pace, and
// which every kernel has and every user may choose. It has to come before the
// connection is made: BBR leaves its pacing behind on a socket that it has once
// controlled.
func disablePacing(fd uintptr) {
	syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}

// connect is connect(2) on a socket of the address's own family that does not
// block, which is why it never tells what becomes of it. The next call on the same
// socket does, and getpeername(2) whether it is connected by now.
func connect(fd uintptr, addr netip.AddrPort) (connected bool) {
	var to syscall.Sockaddr
	if a := addr.Addr(); a.Is4() {
		to = &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: a.As4()}
	} else {
		to = &syscall.SockaddrInet6{Port: int(addr.Port()), Addr: a.As16()}
	}
	if syscall.Connect(int(fd), to) != syscall.EINPROGRESS {
		return false
	}
	_, err := syscall.Getpeername(int(fd))
	return err == nil
}
