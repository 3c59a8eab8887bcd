//go:build linux && (amd64 || arm64)

package seccomp

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// Native returns the architecture that this program runs on.
func Native() Arch {
	if runtime.GOARCH == "arm64" {
		return ARM64
	}
	return AMD64
}

// Operations and flags of seccomp(2) (linux/seccomp.h).
const (
	setModeFilter    = 1
	flagNewListener  = 1 << 3
	flagWaitKillable = 1 << 5 // since Linux 5.19
)

// Install gives the calling thread a filter, which also holds for the programs that the
// thread starts. The thread must have no_new_privs, and be locked to its goroutine.
func Install(program []Instruction) error {
	_, err := install(program, 0)
	return err
}

// InstallWithListener is like Install for a program with notifications. It returns the
// descriptor that they are read from. EBUSY means that the thread has a filter with
// notifications already.
func InstallWithListener(program []Instruction) (fd int, err error) {
	// With flagWaitKillable, a signal does not make the command repeat a call that the
	// supervisor is about to answer.
	fd, err = install(program, flagNewListener|flagWaitKillable)
	if err == syscall.EINVAL {
		fd, err = install(program, flagNewListener)
	}
	return fd, err
}

func install(program []Instruction, flags uintptr) (fd int, err error) {
	code := Encode(program)
	// struct sock_fprog
	prog := struct {
		length uint16
		filter *byte
	}{uint16(len(program)), &code[0]}
	r, _, errno := syscall.RawSyscall(sysSeccomp, setModeFilter, flags, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// Notification is a call that waits for the supervisor (struct seccomp_notif).
type Notification struct {
	ID    uint64
	PID   uint32 // the thread that made the call
	Flags uint32
	Call  int32
	Arch  uint32
	PC    uint64
	Args  [6]uint64
}

type response struct {
	id    uint64
	value int64
	errno int32
	flags uint32
}

// Numbers of ioctl(2), which are the same on both architectures.
const (
	ioctlReceive = 0xc0502100
	ioctlSend    = 0xc0182101
	ioctlIDValid = 0x40082102
	ioctlAddFD   = 0x40182103
)

// Receive reads the next notification. ENOENT means that the caller has gone meanwhile.
func Receive(listener uintptr, n *Notification) error {
	*n = Notification{} // the kernel wants zeros
	return ioctl(listener, ioctlReceive, unsafe.Pointer(n))
}

// Respond lets the call return 0, or fail with errno. ENOENT means that the caller has
// gone meanwhile.
func Respond(listener uintptr, id uint64, errno syscall.Errno) error {
	r := response{id: id, errno: -int32(errno)}
	return ioctl(listener, ioctlSend, unsafe.Pointer(&r))
}

// RespondValue lets the call return a value.
func RespondValue(listener uintptr, id uint64, value int64) error {
	r := response{id: id, value: value}
	return ioctl(listener, ioctlSend, unsafe.Pointer(&r))
}

// AddFD gives the caller a copy of the descriptor fd of this process (since Linux 5.9), and
// returns its number. If at is not negative, it is that number, and replaces a descriptor that
// the caller has there. ENOENT means that the caller has gone meanwhile.
func AddFD(listener uintptr, id uint64, fd, at int, closeOnExec bool) (int, error) {
	// struct seccomp_notif_addfd
	a := struct {
		id                              uint64
		flags, fd, number, numbersFlags uint32
	}{id: id, fd: uint32(fd)}
	if at >= 0 {
		const setNumber = 1 // SECCOMP_ADDFD_FLAG_SETFD
		a.flags, a.number = setNumber, uint32(at)
	}
	if closeOnExec {
		a.numbersFlags = syscall.O_CLOEXEC
	}
	for {
		r, _, errno := syscall.Syscall(syscall.SYS_IOCTL, listener, ioctlAddFD, uintptr(unsafe.Pointer(&a)))
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return -1, errno
		}
	}
}

// Waiting reports whether the caller still waits, so that its PID is still its own.
func Waiting(listener uintptr, id uint64) bool {
	return ioctl(listener, ioctlIDValid, unsafe.Pointer(&id)) == nil
}

func ioctl(fd, number uintptr, p unsafe.Pointer) error {
	for {
		_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, number, uintptr(p))
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}

// NoNewPrivs keeps the calling thread, and the programs that it starts, from gaining
// privileges by executing a file. It cannot be undone.
func NoNewPrivs() error {
	const prSetNoNewPrivs = 38
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("seccomp: no_new_privs: %w", errno)
	}
	return nil
}
