//go:build unix

package trust

import "syscall"

// openNonblock keeps the opening of a FIFO from waiting for another process.
const openNonblock = syscall.O_NONBLOCK
