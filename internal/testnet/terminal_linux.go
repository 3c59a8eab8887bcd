package testnet

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"
)

// Terminal returns the two ends of a new pseudo-terminal, which are closed at the
// end of the test. The program under test uses terminal. What is written to
// control is typed, and what the program prints is read from it.
func Terminal(t testing.TB) (control, terminal *os.File) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { control.Close() })
	raw, err := control.SyscallConn() // unlike Fd, it leaves control non-blocking
	if err != nil {
		t.Fatal(err)
	}
	var number, unlock int32
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		for request, value := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(unsafe.Pointer(value))); e != 0 {
				errno = e
			}
		}
	})
	if err != nil || errno != 0 {
		t.Fatal("pseudo-terminal:", err, errno)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return control, terminal
}
