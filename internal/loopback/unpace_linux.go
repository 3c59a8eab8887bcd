// Congestion control of a socket on Linux (tcp(7), TCP_CONGESTION).

package loopback

import "syscall"

// unpace has a socket use Reno, which does not pace, and which every kernel has
// and every user may choose. It has to come before the connection is made: BBR
// leaves its pacing behind on a socket that it has once controlled.
func unpace(fd uintptr) {
	syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CONGESTION, "reno")
}
