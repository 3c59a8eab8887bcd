//go:build unix

package filewatch

import "syscall"

// openNonblock keeps the opening of a FIFO or a device from waiting for another
// process.
const openNonblock = syscall.O_NONBLOCK
