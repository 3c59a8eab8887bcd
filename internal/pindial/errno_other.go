//go:build !windows

// Error numbers on systems where package syscall has the kernel's.

package pindial

import (
	"errors"
	"syscall"
)

// isErrno reports whether err is, or wraps, errno.
func isErrno(err error, errno syscall.Errno) bool { return errors.Is(err, errno) }
