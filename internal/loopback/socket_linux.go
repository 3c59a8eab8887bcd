// Socket options on Linux.

package loopback

import (
	"net/netip"
	"syscall"
)

// disablePacing makes a socket use Reno (tcp(7), TCP_CONGESTION). Reno does not
// pace, every kernel has it, and every user may choose it. Set it before
// connecting, because BBR leaves pacing enabled on a socket that it once
// controlled.
func disablePacing(fd uintptr) {
	syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}

// connect calls connect(2) on a non-blocking socket of the address's family, so
// it never returns the outcome. The next connect call on the socket does, and
// getpeername(2) shows whether it is connected already.
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
