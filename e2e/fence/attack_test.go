//go:build e2e && linux

package fence

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/fence"
)

// intruder returns a command that runs an intruder.
func intruder(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	if intruders[name] == nil {
		t.Fatalf("there is no intruder %q", name)
	}
	cmd := command(t, append([]string{"/proc/self/exe"}, args...)...)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = self
	cmd.Env = append(os.Environ(), stageEnv+"="+name)
	return cmd
}

// outside runs an intruder without a room, and expects it to get out: it is a real danger.
func outside(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := intruder(t, name, args...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != "out" {
		t.Errorf("without a room, the intruder %s did not get out: %q, %v", name, out, err)
	}
}

// inside runs an intruder in a room and returns what became of it.
func inside(t *testing.T, config fence.Config, name string, args ...string) string {
	t.Helper()
	return insideWith(t, newHost(), config, intruder(t, name, args...))
}

func insideWith(t *testing.T, h *host, config fence.Config, cmd *exec.Cmd) string {
	t.Helper()
	out, err := tryInRoom(t, h, config, cmd)
	if err != nil {
		t.Errorf("in a room, %s: %v", strings.Join(cmd.Args, " "), err)
	}
	return strings.TrimSpace(out)
}

var addresses atomic.Int32

// address returns an address outside that no other test uses.
func address(family, port int) (addr string) {
	n := addresses.Add(1)
	if family == 6 {
		return fmt.Sprintf("[2001:db8:1::%x]:%d", n, port)
	}
	return fmt.Sprintf("198.51.100.%d:%d", n, port)
}

// nothingCaught checks that no packet has arrived. A packet sent now shows that the catcher
// has seen all before it.
func nothingCaught(t *testing.T, packet string) {
	t.Helper()
	marker := address(4, 9)
	if err := sendUDP([]string{marker}); err != nil {
		t.Fatal(err)
	}
	theCatcher().wait(t, "udp "+marker)
	if theCatcher().has(packet) {
		t.Errorf("a packet came out of the room: %s", packet)
	}
}

// Packets of every protocol leave the machine without a room, and none leaves a room.
func TestPackets(t *testing.T) {
	t.Parallel()
	root := os.Geteuid() == 0
	for _, test := range []struct {
		intruder string
		protocol string
		family   int
		port     int
		rootOnly bool
		want     string // in the room; "out" means captured
		captured bool
	}{
		{"tcp", "tcp", 4, 80, false, "out", true},
		{"tcp", "tcp", 4, 9999, false, "out", true},
		{"tcp", "tcp", 6, 443, false, "out", true},
		{"mptcp", "tcp", 4, 443, false, "out", true},
		{"fastopen", "tcp", 4, 443, false, "out", true},
		{"udp", "udp", 4, 53, false, "out", false},
		{"udp", "udp", 6, 53, false, "out", false},
		{"udp", "udp", 4, 123, false, "out", false},
		{"udp", "udp", 6, 443, false, "out", false},
		{"icmp", "icmp", 4, 0, true, "operation not permitted", false},
	} {
		t.Run(fmt.Sprintf("%s to port %d of IPv%d", test.intruder, test.port, test.family), func(t *testing.T) {
			t.Parallel()
			if test.rootOnly && !root {
				return // the kernel forbids it anyway
			}
			addr := address(test.family, test.port)
			packet := test.protocol + " " + addr
			if test.port == 0 {
				host, _, _ := net.SplitHostPort(addr)
				packet = test.protocol + " " + host
			}
			intruder(t, test.intruder, addr).Run() // may fail, because nobody answers
			theCatcher().wait(t, packet)
			theCatcher().forget(packet)

			addr2 := address(test.family, test.port)
			h := newHost()
			got := insideWith(t, h, fence.Config{}, intruder(t, test.intruder, addr2))
			if !strings.HasSuffix(got, test.want) {
				t.Errorf("in a room, the intruder says %q, want %q", got, test.want)
			}
			packet = strings.Replace(packet, addr, addr2, 1)
			nothingCaught(t, packet)
		})
	}
}

// greet listens on a unix socket of the machine and greets clients.
func greet(t *testing.T, network, path string) {
	t.Helper()
	ln, err := net.Listen(network, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("machine"))
			c.Close()
		}
	}()
}

// Unix sockets of the machine cannot be reached, by any means.
func TestUnixSocketsOfTheMachine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	greet(t, "unix", path("stream"))
	greet(t, "unixpacket", path("seqpacket"))
	greet(t, "unix", "@networkproxy-"+strconv.Itoa(os.Getpid()))
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path("datagrams"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { datagrams.Close() })
	for _, link := range [][2]string{{"stream", "symlink"}, {"stream", "hardlink"}} {
		make := os.Symlink
		if link[1] == "hardlink" {
			make = os.Link
		}
		if err := make(path(link[0]), path(link[1])); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ intruder, name, want string }{
		{"unix", path("stream"), "permission denied"},
		{"unix", path("symlink"), "permission denied"},
		{"unix", path("hardlink"), "permission denied"},
		{"unix", "@networkproxy-" + strconv.Itoa(os.Getpid()), "connection refused"},
		{"seqpacket", path("seqpacket"), "permission denied"},
		{"unixgram", path("datagrams"), "permission denied"},
		{"unixgram-pair", path("datagrams"), "permission denied"},
		{"exchange-address", path("stream"), "no attempt succeeded: "},
		{"exchange-socket", path("stream"), "no attempt succeeded"},
		{"exchange-path", path("stream"), "no attempt succeeded: "},
		{"unix-nested", path("stream"), "permission denied"},
	} {
		t.Run(test.intruder+" "+filepath.Base(test.name), func(t *testing.T) {
			t.Parallel()
			outside(t, test.intruder, test.name)
			if got := inside(t, fence.Config{}, test.intruder, test.name); !strings.HasPrefix(got, test.want) {
				t.Errorf("in a room, the intruder says %q, want %q", got, test.want)
			}
		})
	}
	t.Run("allowed", func(t *testing.T) {
		t.Parallel()
		config := fence.Config{UnixSockets: []string{path("symlink")}}
		if got := inside(t, config, "unix", path("stream")); got != "out" {
			t.Errorf("the allowed socket: %s", got)
		}
		if got := inside(t, config, "seqpacket", path("seqpacket")); got != "permission denied" {
			t.Errorf("the other socket: %s", got)
		}
	})
	t.Run("made after the start", func(t *testing.T) {
		t.Parallel()
		cmd := command(t, "sh", "-c", `read line; exec "$0" "$1"`, intruder(t, "unix").Path, path("later"))
		cmd.Env = intruder(t, "unix").Env
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		cmd.Stdout = &out
		room, err := fence.Start(cmd, fence.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer room.Close()
		greet(t, "unix", path("later"))
		stdin.Write([]byte("\n"))
		if err := cmd.Wait(); err != nil || out.String() != "permission denied\n" {
			t.Errorf("in a room, the intruder says %q, %v", out.String(), err)
		}
	})
}

// A socket of another network namespace of the machine, such as that of a container, is not one
// of the room.
func TestUnixSocketsOfContainers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	container := intruder(t, "listen", path)
	container.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	stdin, err := container.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := container.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	defer container.Wait()
	defer stdin.Close()
	if _, err := stdout.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	outside(t, "unix", path)
	if got := inside(t, fence.Config{}, "unix", path); got != "permission denied" {
		t.Errorf("in a room, the intruder says %q", got)
	}
}

// Message queues of the machine cannot be opened.
func TestMessageQueues(t *testing.T) {
	t.Parallel()
	key := 0x6e70000 + os.Geteuid()
	const create = 0o1666 // IPC_CREAT
	id, _, errno := syscall.RawSyscall(syscall.SYS_MSGGET, uintptr(key), create, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer syscall.RawSyscall(syscall.SYS_MSGCTL, id, 0 /* IPC_RMID */, 0)
	outside(t, "message-queue", strconv.Itoa(key))
	if got := inside(t, fence.Config{}, "message-queue", strconv.Itoa(key)); got != "no such file or directory" {
		t.Errorf("in a room, the intruder says %q", got)
	}
}

// Unix sockets that are made in a room work there.
func TestUnixSocketsOfTheRoom(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"long-unix-path", "relative-unixpath"} {
		if got := inside(t, fence.Config{}, name, t.TempDir()); got != "out" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := inside(t, fence.Config{}, "unix-made-inside", filepath.Join(t.TempDir(), "socket")); got != "out" {
		t.Errorf("a socket for a child: %s", got)
	}
	if got := inside(t, fence.Config{}, "unix-made-inside", "@abstract"); got != "out" {
		t.Errorf("an abstract socket for a child: %s", got)
	}
}

// Calls and processes that lead out.
func TestOtherWaysOut(t *testing.T) {
	t.Parallel()
	victim := startVictim(t)
	proc := "/proc/" + victim + "/"
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign")
	if err := os.WriteFile(foreign, foreignProgram(), 0o755); err != nil {
		t.Fatal(err)
	}
	foreignRuns, foreignError := runForeign(t, foreign)
	root := os.Geteuid() == 0
	for _, test := range []struct {
		intruder string
		args     []string
		want     string
		root     bool // only root gets out without a room
	}{
		{"vsock", nil, "address family not supported by protocol", false},
		{"packet", nil, "address family not supported by protocol", true},
		{"io_uring", nil, "function not implemented", false},
		{"foreign-calls", []string{foreign}, foreignError, false},
		{"request_key", nil, "operation not permitted", false},
		{"tiocsti", nil, "operation not permitted", false},
		{"open", []string{proc + "ns/net"}, "permission denied", false},
		{"open", []string{proc + "environ"}, "permission denied", false},
		{"open", []string{proc + "mem"}, "permission denied", false},
		{"open", []string{proc + "root/etc"}, "permission denied", false},
		{"open", []string{proc + "fd/1"}, "permission denied", false},
		{"ptrace", []string{victim}, "operation not permitted", false},
		{"pidfd_getfd", []string{victim}, "operation not permitted", false},
		{"process_vm_readv", []string{victim}, "operation not permitted", false},
		{"kill", []string{victim}, "operation not permitted", false},
		{"setns", []string{victim}, "permission denied", true},
		{"open-for-writing", []string{"/proc/sys/kernel/core_pattern"}, "read-only file system", true},
		{"open-for-writing", []string{"/sys/kernel/mm/transparent_hugepage/enabled"}, "read-only file system", true},
		{"write-nested", []string{"/proc/sys/kernel/core_pattern"}, "read-only file system", true},
		{"mount", []string{dir}, "operation not permitted", true},
		{"take-lo-down", nil, "operation not permitted", true},
		{"umount-and-write", []string{"/proc/sys", "/proc/sys/kernel/core_pattern"}, "read-only file system", true},
	} {
		name := test.intruder
		if len(test.args) > 0 {
			name += " " + filepath.Base(test.args[0])
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.root && !root {
				return // an ordinary user cannot do it anywhere
			}
			switch test.intruder {
			case "mount", "take-lo-down", "umount-and-write": // would change the laboratory
			case "foreign-calls":
				if foreignRuns {
					outside(t, test.intruder, test.args...)
				}
			default:
				outside(t, test.intruder, test.args...)
			}
			if got := inside(t, fence.Config{}, test.intruder, test.args...); got != test.want {
				t.Errorf("in a room, the intruder says %q, want %q", got, test.want)
			}
		})
	}
}

// runForeign runs foreignProgram, which is in the file, without a room. It returns the
// error that the program must end with in a room: a signal, or that of a kernel that runs
// no 32-bit programs, where it cannot run anywhere.
func runForeign(t *testing.T, file string) (runs bool, want string) {
	t.Helper()
	err := foreignCalls([]string{file})
	if errors.Is(err, syscall.ENOEXEC) {
		t.Logf("this kernel runs no 32-bit programs: %v", err)
		return false, err.Error()
	}
	return true, "signal: segmentation fault"
}

// startVictim starts a process of the same user, and returns its id.
func startVictim(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return strconv.Itoa(cmd.Process.Pid)
}

// A program with the set-user-ID bit runs as the user who calls it.
func TestSetuid(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		return // root has nothing to gain
	}
	outside(t, "gain-by-setuid", os.Getenv(setuidEnv))
	if got, want := inside(t, fence.Config{}, "gain-by-setuid", os.Getenv(setuidEnv)), fmt.Sprintf("the program runs as %d", ordinary); got != want {
		t.Errorf("in a room, the intruder says %q, want %q", got, want)
	}
}

// Descriptors that the launcher of the host left open do not reach the room. The test is not
// parallel, because every Start of this process closes the descriptor to other commands.
func TestInheritedDescriptors(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0) // no CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	addr := address(4, 9999)
	outside(t, "inherited", addr)
	theCatcher().wait(t, "udp "+addr)
	theCatcher().forget("udp " + addr)
	if got := inside(t, fence.Config{}, "inherited", addr); got != "no socket was inherited" {
		t.Errorf("in a room, the intruder says %q", got)
	}
	nothingCaught(t, "udp "+addr)
}

// A socket that is the standard input of the host is replaced by a pipe.
func TestSocketAsStandardInput(t *testing.T) {
	t.Parallel()
	addr := address(4, 9999)
	ours, theirs := tcpPair(t)
	cmd := intruder(t, "reconnect-stdin", addr)
	cmd.Stdin = theirs
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "out\n" {
		t.Errorf("without a room, the intruder did not get out: %q, %v", out, err)
	}
	theCatcher().wait(t, "tcp "+addr)
	theCatcher().forget("tcp " + addr)
	ours.Close()

	ours, theirs = tcpPair(t)
	cmd = intruder(t, "reconnect-stdin", addr)
	cmd.Stdin = theirs
	if got := insideWith(t, newHost(), fence.Config{}, cmd); got != "socket operation on non-socket" {
		t.Errorf("in a room, the intruder says %q", got)
	}
	nothingCaught(t, "tcp "+addr)
	ours.Close()
}

// tcpPair returns a connection and its other end as a file.
func tcpPair(t *testing.T) (ours *net.TCPConn, theirs *os.File) {
	t.Helper()
	// From a loopback address, a socket cannot be connected to one outside.
	ln, err := net.Listen("tcp", netip.AddrPortFrom(outsideAddr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	theirs, err = accepted.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		theirs.Close()
	})
	return c.(*net.TCPConn), theirs
}

// Sockets as standard streams work as without a room.
func TestSocketsAsStandardStreams(t *testing.T) {
	t.Parallel()
	ours, theirs := tcpPair(t)
	cmd := command(t, "sh", "-c", "cat; echo error >&2; head -c 300000 /dev/zero")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	if _, err := ours.Write([]byte("input\n")); err != nil {
		t.Fatal(err)
	}
	if err := ours.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got := make(chan []byte)
	go func() {
		b, err := io.ReadAll(ours)
		if err != nil {
			t.Error(err)
		}
		got <- b
	}()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := room.Close(); err != nil {
		t.Error(err)
	}
	b := <-got
	if want := "input\nerror\n"; len(b) != len(want)+300000 || string(b[:len(want)]) != want {
		t.Errorf("the other end got %d bytes, which begin with %q", len(b), b[:min(len(b), 20)])
	}
}
