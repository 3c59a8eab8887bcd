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
func unpace(fd uintptr) {
	syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}

// connect is connect(2) on a socket of the address's own family that does not
// block. Its result is that of the next call on the same socket.
func connect(fd uintptr, addr netip.AddrPort) {
	if a := addr.Addr(); a.Is4() {
		syscall.Connect(int(fd), &syscall.SockaddrInet4{Port: int(addr.Port()), Addr: a.As4()})
	} else {
		syscall.Connect(int(fd), &syscall.SockaddrInet6{Port: int(addr.Port()), Addr: a.As16()})
	}
}
