package fence

import (
	"os"
	"syscall"
)

// sendNow sends a datagram, unless it would have to wait.
func sendNow(f *os.File, b []byte) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	controlErr := raw.Control(func(fd uintptr) {
		_, err = syscall.SendmsgN(int(fd), b, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
	})
	if controlErr != nil {
		return controlErr
	}
	if err == syscall.EAGAIN || err == syscall.EPIPE || err == syscall.ECONNRESET {
		return nil // it is lost, as datagrams are
	}
	return err
}
