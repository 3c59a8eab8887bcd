// Error numbers, where the kernel's are those of package syscall.

//go:build !windows

package pindial

import (
	"errors"
	"syscall"
)

// isErrno reports whether err is, or wraps, errno.
func isErrno(err error, errno syscall.Errno) bool { return errors.Is(err, errno) }
