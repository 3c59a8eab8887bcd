//go:build unix

package networkproxy

import "syscall"

// openNonblock keeps the opening of a FIFO, or of a device, from waiting for
// its other side.
const openNonblock = syscall.O_NONBLOCK
