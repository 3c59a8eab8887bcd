//go:build linux && (amd64 || arm64)

// This file makes the connections of a room's processes for them, so that it can refuse
// unix sockets that were not made in the room.
//
// A seccomp filter hands every connect(2) to the broker. The broker copies the address and
// the socket of the caller, decides, and connects the socket itself. It never lets the call
// go on, because the caller could exchange the address or the socket meanwhile.

package fence

import (
	"encoding/binary"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"example.com/networkproxy/internal/seccomp"
)

// maxConnects is the number of connects of a room that the broker makes at once. Each holds a
// descriptor of the host.
const maxConnects = 64

// broker answers the calls of one room that a seccomp filter hands to the host.
type broker struct {
	listener *os.File // notifications
	answer   func(*call) (value int64, errno syscall.Errno)
	release  func()
	slots    chan struct{}
	tasks    sync.WaitGroup // the loop and the answers
}

// call is a call that waits for its answer.
type call struct {
	seccomp.Notification
	control func(func(listener uintptr)) error
}

// waiting reports whether the caller still waits. Its thread id was then its own until now.
func (c *call) waiting() (ok bool) {
	c.control(func(listener uintptr) { ok = seccomp.Waiting(listener, c.ID) })
	return ok
}

// addFD gives the caller a descriptor; see [seccomp.AddFD].
func (c *call) addFD(fd, at int, closeOnExec bool) (number int, err error) {
	closed := c.control(func(listener uintptr) { number, err = seccomp.AddFD(listener, c.ID, fd, at, closeOnExec) })
	if closed != nil {
		return -1, syscall.ENOENT
	}
	return number, err
}

// newBroker starts a broker for unix sockets. It owns the listener and the sockets.
func newBroker(listener int, sockets *unixSockets) *broker {
	return startBroker(listener, func(c *call) (int64, syscall.Errno) {
		return 0, connectCaller(c, sockets)
	}, sockets.close)
}

// startBroker starts a broker that calls answer, by several goroutines at once. It owns the
// listener, and calls release at its end.
func startBroker(listener int, answer func(*call) (int64, syscall.Errno), release func()) *broker {
	syscall.SetNonblock(listener, true) // lets the runtime wait for it without a thread
	b := &broker{
		listener: os.NewFile(uintptr(listener), "seccomp listener"),
		answer:   answer,
		release:  release,
		slots:    make(chan struct{}, maxConnects),
	}
	b.tasks.Go(b.run)
	return b
}

// close ends the broker. Calls of processes that still run in the room fail with ENOSYS. The lookup of
// a path can take forever, because the room may have a file system of its own that does not
// respond. So close waits for a limited time; a connect that takes longer releases the rest.
func (b *broker) close() {
	b.listener.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.tasks.Wait()
		b.release()
	}()
	limit := time.NewTimer(closeTime)
	defer limit.Stop()
	select {
	case <-done:
	case <-limit.C:
	}
}

// run reads notifications until the last process of the room has ended, or close.
func (b *broker) run() {
	defer b.listener.Close()
	raw, err := b.listener.SyscallConn()
	if err != nil {
		return
	}
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			var ended bool
			ended, err = b.receive(fd)
			return ended
		})
	}
}

// receive handles notifications until there is none. It reports whether the loop ends.
func (b *broker) receive(fd uintptr) (ended bool, err error) {
	for {
		events, err := poll(int(fd), pollIn, 0)
		switch {
		case err != nil:
			return true, err
		case events&pollIn == 0 && events != 0: // POLLHUP: there are no callers any more
			return true, io.EOF
		case events == 0:
			return false, nil
		}
		var n seccomp.Notification
		if err := seccomp.Receive(fd, &n); err == syscall.ENOENT {
			continue // the caller has gone
		} else if err != nil {
			return true, err
		}
		select {
		case b.slots <- struct{}{}:
			b.tasks.Go(func() { b.serve(n) })
		default:
			b.tasks.Go(func() {
				b.slots <- struct{}{}
				b.serve(n)
			})
		}
	}
}

// serve answers one call.
func (b *broker) serve(n seccomp.Notification) {
	defer func() { <-b.slots }()
	raw, err := b.listener.SyscallConn()
	if err != nil {
		return
	}
	value, errno := b.answer(&call{n, raw.Control})
	raw.Control(func(fd uintptr) {
		if errno != 0 {
			seccomp.Respond(fd, n.ID, errno)
		} else {
			seccomp.RespondValue(fd, n.ID, value)
		}
	})
}

// maxSockaddr is the size of struct sockaddr_storage.
const maxSockaddr = 128

// connectCaller does what connect(2) would do for the caller, or refuses it.
func connectCaller(n *call, sockets *unixSockets) syscall.Errno {
	waiting := n.waiting
	tid, length := int(n.PID), int(int32(n.Args[2]))
	if length < 0 || length > maxSockaddr {
		return syscall.EINVAL
	}
	addr := make([]byte, length)
	if err := readMemory(tid, n.Args[1], addr); err != nil {
		return syscall.EFAULT
	}
	fd, errno := copyDescriptor(tid, int(int32(n.Args[0])))
	if errno != 0 {
		return errno
	}
	defer syscall.Close(fd)
	// The thread id was that of the caller until here if the caller still waits.
	if !waiting() {
		return syscall.EINTR
	}
	family, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, soDomain)
	if err != nil {
		return err.(syscall.Errno)
	}
	if family == syscall.AF_UNIX {
		target, errno := sockets.target(tid, addr)
		if errno != 0 {
			return errno
		}
		if target != nil {
			defer syscall.Close(target.fd)
			addr = target.addr
			if !waiting() { // the path was that of the caller
				return syscall.EINTR
			}
		}
	}
	return connectSocket(fd, addr, waiting)
}

// connectSocket connects a socket that belongs to a waiting caller, too. It behaves as the socket
// is set, blocking or not, but never blocks a thread of this process.
func connectSocket(fd int, addr []byte, waiting func() bool) syscall.Errno {
	flags, errno := fcntl(fd, syscall.F_GETFL, 0)
	if errno != 0 {
		return errno
	}
	if flags&syscall.O_NONBLOCK != 0 {
		return rawConnect(fd, addr)
	}
	if _, errno := fcntl(fd, syscall.F_SETFL, flags|syscall.O_NONBLOCK); errno != 0 {
		return errno
	}
	defer fcntl(fd, syscall.F_SETFL, flags)
	deadline := sendDeadline(fd)
	pause := time.Millisecond
	for {
		switch errno := rawConnect(fd, addr); errno {
		case syscall.EINPROGRESS:
			return awaitConnect(fd, waiting, deadline)
		case syscall.EAGAIN: // the listener has no room
			if !waiting() || expired(deadline) {
				return syscall.EAGAIN
			}
			time.Sleep(pause)
			pause = min(2*pause, 50*time.Millisecond)
		default:
			return errno
		}
	}
}

// awaitConnect waits for the end of a connect.
func awaitConnect(fd int, waiting func() bool, deadline time.Time) syscall.Errno {
	const look = 100 // milliseconds between looks at the caller
	for {
		events, err := poll(fd, pollOut, look)
		if err != nil {
			return syscall.EIO
		}
		if events != 0 {
			v, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
			if err != nil {
				return err.(syscall.Errno)
			}
			return syscall.Errno(v)
		}
		if !waiting() || expired(deadline) {
			return syscall.EINPROGRESS
		}
	}
}

// sendDeadline returns when a blocking connect must end, from SO_SNDTIMEO. Zero: never.
func sendDeadline(fd int) time.Time {
	var tv syscall.Timeval
	size := uint32(unsafe.Sizeof(tv))
	_, _, errno := syscall.RawSyscall6(syscall.SYS_GETSOCKOPT, uintptr(fd), syscall.SOL_SOCKET, syscall.SO_SNDTIMEO,
		uintptr(unsafe.Pointer(&tv)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 || tv.Nano() == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(tv.Nano()))
}

func expired(deadline time.Time) bool { return !deadline.IsZero() && time.Now().After(deadline) }

func rawConnect(fd int, addr []byte) syscall.Errno {
	var p unsafe.Pointer
	if len(addr) > 0 {
		p = unsafe.Pointer(&addr[0])
	}
	_, _, errno := syscall.Syscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(p), uintptr(len(addr)))
	return errno
}

func fcntl(fd, command, arg int) (int, syscall.Errno) {
	r, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), uintptr(command), uintptr(arg))
	return int(r), errno
}

// Events of poll(2).
const (
	pollIn  = 0x1
	pollOut = 0x4
)

// pollFD is struct pollfd.
type pollFD struct {
	fd              int32
	events, revents int16
}

// poll waits for events of a descriptor. A negative timeout means forever.
func poll(fd int, events int16, milliseconds int) (int16, error) {
	set := []pollFD{{fd: int32(fd), events: events}}
	err := pollAll(set, milliseconds)
	return set[0].revents, err
}

// pollAll waits for events of several descriptors.
func pollAll(set []pollFD, milliseconds int) error {
	var timeout *syscall.Timespec
	if milliseconds >= 0 {
		t := syscall.NsecToTimespec(int64(milliseconds) * 1e6)
		timeout = &t
	}
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&set[0])), uintptr(len(set)), uintptr(unsafe.Pointer(timeout)), 0, 0, 0)
		switch errno {
		case 0:
			return nil
		case syscall.EINTR:
		default:
			return errno
		}
	}
}

// readMemory copies memory of another process.
func readMemory(tid int, at uint64, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	local := [2]uintptr{uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))} // struct iovec
	remote := [2]uintptr{uintptr(at), uintptr(len(b))}
	n, _, errno := syscall.Syscall6(sysProcessVMReadv, uintptr(tid), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	switch {
	case errno != 0:
		return errno
	case int(n) != len(b):
		return io.ErrUnexpectedEOF
	}
	return nil
}

// copyDescriptor returns a copy of a descriptor of another thread.
func copyDescriptor(tid, fd int) (int, syscall.Errno) {
	pidfd, errno := openThread(tid)
	if errno != 0 {
		return -1, errno
	}
	defer syscall.Close(pidfd)
	copied, _, errno := syscall.Syscall(sysPidfdGetfd, uintptr(pidfd), uintptr(fd), 0)
	return int(copied), errno
}

// openThread returns a descriptor of the process of a thread.
func openThread(tid int) (int, syscall.Errno) {
	const anyThread = syscall.O_EXCL // PIDFD_THREAD, since Linux 6.9
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(tid), anyThread, 0)
	if errno != syscall.EINVAL {
		return int(fd), errno
	}
	fd, _, errno = syscall.Syscall(sysPidfdOpen, uintptr(tid), 0, 0)
	if errno == 0 {
		return int(fd), 0
	}
	leader, err := threadGroup(tid)
	if err != nil {
		return -1, syscall.ESRCH
	}
	fd, _, errno = syscall.Syscall(sysPidfdOpen, uintptr(leader), 0, 0)
	return int(fd), errno
}

// addressFamily returns the family of an encoded address.
func addressFamily(addr []byte) (uint16, bool) {
	if len(addr) < 2 {
		return 0, false
	}
	return binary.NativeEndian.Uint16(addr), true
}
