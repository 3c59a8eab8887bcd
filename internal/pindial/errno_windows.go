// Error numbers on Windows. Package syscall's names stand for invented numbers
// there, which Winsock never returns.

package pindial

import (
	"errors"
	"syscall"
)

// isErrno reports whether err is or wraps errno, or the Winsock error of the
// same name.
func isErrno(err error, errno syscall.Errno) bool {
	if errors.Is(err, errno) {
		return true
	}
	var wsa syscall.Errno
	switch errno {
	case syscall.EMFILE:
		wsa = 10024
	case syscall.EAFNOSUPPORT:
		wsa = 10047
	case syscall.EADDRNOTAVAIL:
		wsa = 10049
	case syscall.ENETUNREACH:
		wsa = 10051
	case syscall.ECONNRESET:
		wsa = 10054
	case syscall.ETIMEDOUT:
		wsa = 10060
	case syscall.ECONNREFUSED:
		wsa = 10061
	case syscall.EHOSTUNREACH:
		wsa = 10065
	default:
		return false
	}
	return errors.Is(err, wsa)
}
