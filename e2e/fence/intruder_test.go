//go:build e2e && linux

// This file holds the intruders: programs that try to get out of a room. The test binary
// runs itself as one of them.

package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// intruders are the ways out by name. They return nil if they got out.
var intruders = map[string]func(args []string) error{
	"tcp":               func(a []string) error { return dial("tcp", a[0]) },
	"udp":               sendUDP,
	"mptcp":             dialMPTCP,
	"fastopen":          fastOpen,
	"sctp":              func(a []string) error { return socketAndSend(syscall.SOCK_SEQPACKET, 132, a[0]) },
	"udplite":           func(a []string) error { return socketAndSend(syscall.SOCK_DGRAM, 136, a[0]) },
	"icmp":              func(a []string) error { return socketAndSend(syscall.SOCK_RAW, 1, a[0]) },
	"ping":              func(a []string) error { return socketAndSend(syscall.SOCK_DGRAM, 1, a[0]) },
	"packet":            func([]string) error { return openSocket(syscall.AF_PACKET, syscall.SOCK_RAW, 0) },
	"vsock":             func([]string) error { return openSocket(40, syscall.SOCK_STREAM, 0) },
	"unix":              func(a []string) error { return dialUnix(syscall.SOCK_STREAM, a[0]) },
	"seqpacket":         func(a []string) error { return dialUnix(syscall.SOCK_SEQPACKET, a[0]) },
	"unixgram":          sendUnix,
	"unixgram-pair":     sendUnixFromPair,
	"exchange-address":  exchangeAddress,
	"exchange-socket":   exchangeSocket,
	"exchange-path":     exchangePath,
	"inherited":         useInherited,
	"reconnect-stdin":   reconnectStdin,
	"io_uring":          setupRing,
	"foreign-calls":     foreignCalls,
	"request_key":       requestKey,
	"tiocsti":           typeIntoTerminal,
	"open":              func(a []string) error { return openFile(a[0], syscall.O_RDONLY) },
	"open-for-writing":  func(a []string) error { return openFile(a[0], syscall.O_WRONLY) },
	"ptrace":            attach,
	"pidfd_getfd":       stealDescriptor,
	"process_vm_readv":  readProcess,
	"kill":              func(a []string) error { return syscall.Kill(number(a[0]), 0) },
	"setns":             enterNamespace,
	"gain-by-setuid":    gainBySetuid,
	"take-lo-down":      func([]string) error { return linkDown("lo") },
	"mount":             func(a []string) error { return syscall.Mount("tmpfs", a[0], "tmpfs", 0, "") },
	"unix-made-inside":  unixMadeInside,
	"unix-nested":       func(a []string) error { return inNestedNamespaces("unix", a) },
	"tcp-nested":        func(a []string) error { return inNestedNamespaces("tcp", a) },
	"write-nested":      func(a []string) error { return inNestedNamespaces("open-for-writing", a) },
	"umount-and-write":  umountAndWrite,
	"host":              runHost,
	"container":         runContainer,
	"exchange-target":   exchangeTarget,
	"exchange-in-call":  exchangeInCall,
	"send-anyhow":       sendAnyhow,
	"serve":             serveInbound,
	"fetch":             fetch,
	"session":           runSession,
	"many-rooms":        runManyRooms,
	"mptcp-only":        func([]string) error { return openSocket(syscall.AF_INET, syscall.SOCK_STREAM, 262) },
	"multicast":         joinGroup,
	"listen":            listenUnix,
	"message-queue":     func(a []string) error { return openQueue(number(a[0])) },
	"long-unix-path":    longUnixPath,
	"relative-unixpath": relativeUnixPath,
	"start-many":        startMany,
	"start-missing":     startMissing,
	"in-mounts":         inMounts,
	"start-limited":     startLimited,
	"start-failing":     startFailing,
	"queue-file":        sendToQueueFile,
	"semaphore":         setSemaphore,
	"limit":             limitProcess,
	"replace-socket":    replaceSocket,
	"linger":            lingerInHost,
	"wait-in-calls":     waitInCalls,
	"stalled-host":      runStalledHost,
}

// intrude runs an intruder and prints what became of it.
func intrude(name string) int {
	err := intruders[name](os.Args[1:])
	if err != nil {
		fmt.Println(err)
		return 0
	}
	fmt.Println("out")
	return 0
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

// dial connects.
func dial(network, addr string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	return c.Close()
}

func sendUDP(args []string) error {
	c, err := net.Dial("udp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("secret"))
	return err
}

func dialMPTCP(args []string) error {
	d := net.Dialer{Timeout: time.Second}
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", args[0])
	if err != nil {
		return err
	}
	return c.Close()
}

// sockaddr returns an address of IPv4 or IPv6.
func sockaddr(addr string) (family int, sa syscall.Sockaddr) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		panic(err)
	}
	if ip := a.IP.To4(); ip != nil {
		return syscall.AF_INET, &syscall.SockaddrInet4{Port: a.Port, Addr: [4]byte(ip)}
	}
	return syscall.AF_INET6, &syscall.SockaddrInet6{Port: a.Port, Addr: [16]byte(a.IP)}
}

// fastOpen sends data with the SYN: a connection without connect(2).
func fastOpen(args []string) error {
	family, sa := sockaddr(args[0])
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	const msgFastOpen = 0x20000000
	tv := syscall.Timeval{Sec: 1}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv); err != nil {
		return err
	}
	return syscall.Sendto(fd, []byte("secret"), msgFastOpen, sa)
}

func socketAndSend(kind, protocol int, addr string) error {
	family, sa := sockaddr(addr)
	fd, err := syscall.Socket(family, kind, protocol)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	echo := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0} // ICMP echo request
	return syscall.Sendto(fd, echo, 0, sa)
}

func openSocket(family, kind, protocol int) error {
	fd, err := syscall.Socket(family, kind, protocol)
	if err == nil {
		syscall.Close(fd)
	}
	return err
}

// unixSockaddr takes names that begin with @ for abstract.
func unixSockaddr(name string) syscall.Sockaddr { return &syscall.SockaddrUnix{Name: name} }

func dialUnix(kind int, name string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, kind, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Connect(fd, unixSockaddr(name))
}

func sendUnix(args []string) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Sendto(fd, []byte("secret"), 0, unixSockaddr(args[0]))
}

// sendUnixFromPair sends from a socket that is connected to another one.
func sendUnixFromPair(args []string) error {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return syscall.Sendto(fds[0], []byte("secret"), 0, unixSockaddr(args[0]))
}

// raceTime is how long a race is run.
const raceTime = 2 * time.Second

// exchangeAddress connects with an address that another thread exchanges all the time.
func exchangeAddress(args []string) error {
	var buf [110]byte
	copy(buf[2:], args[0])
	family := (*uint16)(unsafe.Pointer(&buf[0]))
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		runtime.LockOSThread()
		for i := 0; !stop.Load(); i++ {
			*family = uint16(syscall.AF_INET + i%2*(syscall.AF_UNIX-syscall.AF_INET))
		}
	}()
	return race(func() error {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(2+len(args[0])+1))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

// race repeats an attempt until it succeeds or the time is over.
func race(attempt func() error) error {
	end := time.Now().Add(raceTime)
	var err error
	for time.Now().Before(end) {
		if err = attempt(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("no attempt succeeded: %w", err)
}

// exchangeSocket connects a descriptor that another thread exchanges all the time: a TCP socket
// and a unix socket.
func exchangeSocket(args []string) error {
	tcp, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	unix, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	const fd = 100
	if err := syscall.Dup3(tcp, fd, 0); err != nil {
		return err
	}
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		runtime.LockOSThread()
		for i := 0; !stop.Load(); i++ {
			syscall.Dup3([]int{tcp, unix}[i%2], fd, 0)
		}
	}()
	err = race(func() error {
		err := syscall.Connect(fd, unixSockaddr(args[0]))
		if _, peerErr := syscall.Getpeername(unix); peerErr == nil {
			return nil
		}
		return errors.Join(err, errors.New("not connected"))
	})
	if err != nil {
		return errors.New("no attempt succeeded")
	}
	return nil
}

// exchangePath connects to a link that leads to a socket made here and to the target by turns.
func exchangePath(args []string) error {
	dir, err := os.MkdirTemp("", "exchange")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	own, link := dir+"/own", dir+"/link"
	ln, err := net.Listen("unix", own)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("own"))
			c.Close()
		}
	}()
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		for i := 0; !stop.Load(); i++ {
			tmp := dir + "/tmp"
			os.Symlink([]string{own, args[0]}[i%2], tmp)
			os.Rename(tmp, link)
		}
	}()
	return race(func() error {
		c, err := net.Dial("unix", link)
		if err != nil {
			return err
		}
		defer c.Close()
		b := make([]byte, 16)
		n, _ := c.Read(b)
		if string(b[:n]) == "own" || n == 0 {
			return errors.New("connected to the own socket")
		}
		return nil // the target greets with something else
	})
}

// useInherited sends a datagram to an address from every descriptor that is open.
func useInherited(args []string) error {
	_, sa := sockaddr(args[0])
	err := errors.New("no socket was inherited")
	for fd := 3; fd < 20; fd++ {
		if _, domainErr := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, 39); domainErr != nil {
			continue
		}
		if err = syscall.Sendto(fd, []byte("secret"), 0, sa); err == nil {
			return nil
		}
	}
	return err
}

// reconnectStdin connects a socket that is the standard input to another address.
func reconnectStdin(args []string) error {
	_, sa := sockaddr(args[0])
	unspecified := [16]byte{} // AF_UNSPEC: end the connection
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, 0, uintptr(unsafe.Pointer(&unspecified)), 16); errno != 0 {
		return errno
	}
	tv := syscall.Timeval{Usec: 100_000}
	syscall.SetsockoptTimeval(0, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &tv)
	err := syscall.Connect(0, sa)
	if err == syscall.EINPROGRESS {
		return nil // the SYN is out
	}
	return err
}

func setupRing([]string) error {
	var params [120]byte
	fd, _, errno := syscall.RawSyscall(425, 4, uintptr(unsafe.Pointer(&params)), 0)
	if errno != 0 {
		return errno
	}
	syscall.Close(int(fd))
	return nil
}

// foreignCalls runs a program of another architecture: 32-bit x86 that exits with 7.
func foreignCalls(args []string) error {
	err := exec.Command(args[0]).Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 7 {
		return nil
	}
	return err
}

// foreignProgram is a program for Linux on 32-bit x86: mov $1, %eax; mov $7, %ebx; int $0x80; hlt.
func foreignProgram() []byte {
	code := []byte{0xb8, 1, 0, 0, 0, 0xbb, 7, 0, 0, 0, 0xcd, 0x80, 0xf4}
	const base, headers = 0x8048000, 52 + 32
	b := append([]byte("\x7fELF\x01\x01\x01"), make([]byte, 9)...)
	le := binary.LittleEndian
	for _, v := range []uint16{2, 3} { // executable, x86
		b = le.AppendUint16(b, v)
	}
	for _, v := range []uint32{1, base + headers, 52, 0, 0} {
		b = le.AppendUint32(b, v)
	}
	for _, v := range []uint16{52, 32, 1, 0, 0, 0} {
		b = le.AppendUint16(b, v)
	}
	size := uint32(headers + len(code))
	for _, v := range []uint32{1, 0, base, base, size, size, 5, 0x1000} {
		b = le.AppendUint32(b, v)
	}
	return append(b, code...)
}

// requestKey asks for a key that a program outside provides (request-key(8)).
func requestKey([]string) error {
	typ, name, none := []byte("user\x00"), []byte("secret.example\x00"), []byte("\x00")
	_, _, errno := syscall.RawSyscall6(sysRequestKey, uintptr(unsafe.Pointer(&typ[0])), uintptr(unsafe.Pointer(&name[0])),
		uintptr(unsafe.Pointer(&none[0])), 0, 0, 0)
	if errno == syscall.ENOKEY || errno == syscall.ENOENT || errno == 0 {
		return nil // the kernel has tried to run the program, which may not exist
	}
	return errno
}

// typeIntoTerminal puts a character into the input of the controlling terminal.
func typeIntoTerminal([]string) error {
	c := byte('x')
	_, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, 0, syscall.TIOCSTI, uintptr(unsafe.Pointer(&c)))
	if errno == syscall.ENOTTY || errno == syscall.EIO {
		return nil // the kernel has tried
	}
	if errno != 0 {
		return errno
	}
	return nil
}

func openFile(path string, flags int) error {
	fd, err := syscall.Open(path, flags|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return syscall.Close(fd)
}

func attach(args []string) error {
	runtime.LockOSThread()
	const seize = 0x4206 // PTRACE_SEIZE
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, seize, uintptr(number(args[0])), 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func stealDescriptor(args []string) error {
	pidfd, _, errno := syscall.RawSyscall(434, uintptr(number(args[0])), 0, 0)
	if errno != 0 {
		return errno
	}
	if _, _, errno = syscall.RawSyscall(438, pidfd, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// readProcess reads memory at an address that does not exist, so that EFAULT is success.
func readProcess(args []string) error {
	var b [8]byte
	local := [2]uintptr{uintptr(unsafe.Pointer(&b)), 8}
	remote := [2]uintptr{8, 8}
	_, _, errno := syscall.RawSyscall6(sysProcessVMReadv, uintptr(number(args[0])), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if errno == syscall.EFAULT || errno == 0 {
		return nil
	}
	return errno
}

// enterNamespace joins the network namespace of a process.
func enterNamespace(args []string) error {
	runtime.LockOSThread()
	fd, err := syscall.Open("/proc/"+args[0]+"/ns/net", syscall.O_RDONLY, 0)
	if err != nil {
		return err
	}
	if _, _, errno := syscall.RawSyscall(sysSetns, uintptr(fd), syscall.CLONE_NEWNET, 0); errno != 0 {
		return errno
	}
	return nil
}

// gainBySetuid runs a program with the set-user-ID bit that prints its effective user.
func gainBySetuid(args []string) error {
	out, err := exec.Command(args[0], "-u").Output()
	if err != nil {
		return err
	}
	if id := strings.TrimSpace(string(out)); id != "0" {
		return fmt.Errorf("the program runs as %s", id)
	}
	return nil
}

func linkDown(name string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	var request [40]byte // struct ifreq with no flags
	copy(request[:], name)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return errno
	}
	return nil
}

// inNestedNamespaces runs an intruder in namespaces of its own, with all capabilities there.
func inNestedNamespaces(name string, args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), stageEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.Output()
	if err != nil {
		return err
	}
	if s := strings.TrimSpace(string(out)); s != "out" {
		return errors.New(s)
	}
	return nil
}

// umountAndWrite removes what covers a directory, then opens a file below it.
func umountAndWrite(args []string) error {
	for syscall.Unmount(args[0], syscall.MNT_DETACH) == nil {
	}
	return openFile(args[1], syscall.O_WRONLY)
}

// unixMadeInside listens on a socket and connects a child process to it.
func unixMadeInside(args []string) error {
	ln, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	defer ln.Close()
	cmd := exec.Command("/proc/self/exe", args[0])
	cmd.Env = append(os.Environ(), stageEnv+"=unix")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return err
	}
	if s := strings.TrimSpace(string(out)); s != "out" {
		return errors.New(s)
	}
	return nil
}

// longUnixPath connects to a socket made here by a path that leads through /proc/self/fd.
func longUnixPath(args []string) error {
	dir, err := os.Open(args[0])
	if err != nil {
		return err
	}
	name := fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())
	ln, err := net.Listen("unix", args[0]+"/socket")
	if err != nil {
		return err
	}
	defer ln.Close()
	return dialUnix(syscall.SOCK_STREAM, name)
}

// relativeUnixPath connects to a socket made here by a relative path.
func relativeUnixPath(args []string) error {
	if err := os.Chdir(args[0]); err != nil {
		return err
	}
	ln, err := net.Listen("unix", args[0]+"/socket")
	if err != nil {
		return err
	}
	defer ln.Close()
	return dialUnix(syscall.SOCK_STREAM, "socket")
}

// listenUnix listens on a socket until its standard input ends.
func listenUnix(args []string) error {
	ln, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	defer ln.Close()
	fmt.Println("listening")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// openQueue opens a System V message queue that exists.
func openQueue(key int) error {
	_, _, errno := syscall.RawSyscall(syscall.SYS_MSGGET, uintptr(key), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
