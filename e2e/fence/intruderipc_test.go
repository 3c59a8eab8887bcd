//go:build e2e && linux

// This file holds intruders that reach a process of the machine by other means than a new socket,
// and intruders that try to stop the host.

package fence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"example.com/networkproxy/internal/testnet"
)

// sendToQueueFile sends to a POSIX message queue that it opens as a file.
func sendToQueueFile(args []string) error {
	fd, err := syscall.Open(args[0], syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	message := []byte("x")
	_, _, errno := syscall.RawSyscall6(sysMQTimedSend, uintptr(fd), uintptr(unsafe.Pointer(&message[0])), 1, 0, 0, 0)
	return errorOf(errno)
}

// setSemaphore sets a System V semaphore that exists. Its number shows in /proc/sysvipc/sem.
func setSemaphore(args []string) error {
	const setValue = 16 // SETVAL
	_, _, errno := syscall.RawSyscall6(sysSemctl, uintptr(number(args[0])), 0, setValue, 1, 0, 0)
	return errorOf(errno)
}

// limitProcess changes a resource limit of another process. A limit of processor time would end it.
func limitProcess(args []string) error {
	const core = 4 // RLIMIT_CORE
	_, _, errno := syscall.RawSyscall6(sysPrlimit64, uintptr(number(args[0])), core, uintptr(unsafe.Pointer(&syscall.Rlimit{})), 0, 0, 0)
	return errorOf(errno)
}

func errorOf(errno syscall.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// replaceSocket puts another socket in the place of one that it may connect to.
func replaceSocket(args []string) error {
	how, listed, target := args[0], args[1], args[2]
	replace := map[string]func(from, to string) error{"symlink": os.Symlink, "link": os.Link, "rename": os.Rename}[how]
	if err := os.Remove(listed); err != nil {
		return err
	}
	if err := replace(target, listed); err != nil {
		return err
	}
	return dialUnix(syscall.SOCK_STREAM, listed)
}

// lingerInHost passes sockets to the host whose last descriptor takes a minute to close, because
// the other end does not read what they hold.
func lingerInHost(args []string) error {
	_, sa := sockaddr(args[0])
	queries, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	if err := syscall.Connect(queries, &syscall.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 53}}); err != nil {
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := syscall.Connect(fd, sa); err != nil {
		return err
	}
	if err := syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1, Linger: 60}); err != nil {
		return err
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	for b := make([]byte, 64<<10); err == nil; {
		_, err = syscall.Write(fd, b)
	}
	if err != syscall.EAGAIN {
		return err
	}
	for range 200 { // the host reads these first
		syscall.Write(queries, []byte("x"))
	}
	if err := syscall.Sendmsg(queries, []byte("x"), syscall.UnixRights(fd), nil, 0); err != nil {
		return err
	}
	return syscall.Close(fd) // before the host has read the message
}

// waitInCalls keeps many threads in connect(2) to a socket that accepts nothing.
func waitInCalls(args []string) error {
	want := number(args[0])
	for range want {
		go func() {
			runtime.LockOSThread()
			fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				return
			}
			syscall.Connect(fd, unixSockaddr(args[1]))
		}()
	}
	if !testnet.Poll(timeout, func() bool { return threadsIn(syscall.SYS_CONNECT) >= want }) {
		return fmt.Errorf("%d threads wait in connect, want %d", threadsIn(syscall.SYS_CONNECT), want)
	}
	fmt.Println("waiting")
	return errors.New("end")
}

// threadsIn returns the number of threads of this process that wait in a system call
// (proc_pid_syscall(5)).
func threadsIn(call int) (n int) {
	files, _ := filepath.Glob("/proc/self/task/*/syscall") // threads may end meanwhile
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(b), strconv.Itoa(call)+" ") {
			n++
		}
	}
	return n
}
