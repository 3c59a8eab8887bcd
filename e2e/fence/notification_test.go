//go:build e2e && linux

// This file tests rooms where the system forbids user namespaces, as the default profile of
// Docker does.

package fence

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"example.com/networkproxy/internal/fence"
	"example.com/networkproxy/internal/seccomp"
	"example.com/networkproxy/internal/testnet"
)

// runContainer is the stage of a container: it makes kernel settings read-only for the superuser,
// and executes its arguments.
func runContainer(args []string) error {
	runtime.LockOSThread()
	if os.Geteuid() == 0 {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			return err
		}
		for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs", "/sys"} {
			if _, err := os.Stat(path); err != nil {
				continue
			}
			err := syscall.Mount(path, path, "", syscall.MS_BIND|syscall.MS_REC, "")
			if err == nil {
				err = syscall.Mount("", path, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, "")
			}
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, stageEnv+"=") })
	stage := cmp.Or(os.Getenv(inContainerEnv), "host")
	return syscall.Exec(args[0], args, append(env, stageEnv+"="+stage))
}

// inContainerEnv is the environment variable with the stage in a container. Empty means host.
const inContainerEnv = "NETWORKPROXY_FENCE_IN_CONTAINER"

// containerRules refuse what the default profile of Docker refuses: namespaces, and copies of
// descriptors of other processes.
func containerRules() []seccomp.Rule {
	const permission, noCall = uint16(syscall.EPERM), uint16(syscall.ENOSYS)
	var flags []seccomp.Case
	for _, f := range []uint32{syscall.CLONE_NEWUSER, syscall.CLONE_NEWNET, syscall.CLONE_NEWIPC} {
		flags = append(flags, seccomp.Case{When: []seccomp.Condition{{Arg: 0, Mask: f, Value: f}}, Then: seccomp.Refused(permission)})
	}
	return []seccomp.Rule{
		seccomp.Cases("clone", seccomp.Allowed(), flags...),
		seccomp.Refuse("clone3", noCall),
		seccomp.Refuse("unshare", permission),
		seccomp.Refuse("setns", permission),
		seccomp.Refuse("pidfd_getfd", permission),
	}
}

// inContainer starts args in a room of a host in a container, and returns the output of the host.
func inContainer(t *testing.T, config fence.Config, args ...string) string {
	t.Helper()
	return underFilter(t, containerCommand(t, config, args...), false, containerRules()...)
}

func containerCommand(t *testing.T, config fence.Config, args ...string) *exec.Cmd {
	t.Helper()
	cmd := hostCommand(t, config, true, args...)
	cmd.Args = append([]string{cmd.Args[0], cmd.Path}, cmd.Args[1:]...)
	cmd.Env = append(cmd.Env, stageEnv+"=container")
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	}
	return cmd
}

// intrudeInContainer returns what became of an intruder in a room of a host in a container.
func intrudeInContainer(t *testing.T, config fence.Config, name string, args ...string) string {
	t.Helper()
	cmd := intruder(t, name, args...)
	out := inContainer(t, config, append([]string{"env", stageEnv + "=" + name, cmd.Path}, args...)...)
	return said(t, out)
}

// said returns the output of a command without that of its host.
func said(t *testing.T, out string) string {
	t.Helper()
	before, after, ok := strings.Cut(out, containerReport) // the command may say something before it
	if !ok {
		t.Errorf("the host says %q, want a report", out)
	}
	return strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(before+after), "exit"))
}

const containerReport = "notification, all ports true, IPv6 true, unix broker, complete true\n"

// Clients work by name.
func TestClientsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"curl", []string{"curl", "-sS", "--noproxy", "*", "http://hello.test/"}, "captured hello.test:80"},
		{"curl to a port", []string{"curl", "-sS", "--noproxy", "*", "http://hello.test:8080/"}, "captured hello.test:8080"},
		{"curl over IPv6", []string{"curl", "-6", "-sS", "--noproxy", "*", "http://hello.test/"}, "captured hello.test:80"},
		{"curl over IPv4", []string{"curl", "-4", "-sS", "--noproxy", "*", "http://hello.test/"}, "captured hello.test:80"},
		{"an address", []string{"curl", "-sS", "--noproxy", "*", "http://192.0.2.7:81/"}, "captured 192.0.2.7:81"},
		{"wget", []string{"wget", "-q", "-O-", "http://hello.test/"}, "captured hello.test:80"},
		{"Python", []string{"python3", "-c", `
import socket
s = socket.create_connection(("hello.test", 80), 5)
s.sendall(b"GET / HTTP/1.0\r\n\r\n")
print(b"".join(iter(lambda: s.recv(4096), b"")).split(b"\r\n\r\n")[1].decode().strip())`}, "captured hello.test:80"},
		{"Python asyncio", []string{"python3", "-c", `
import asyncio
async def main():
    r, w = await asyncio.open_connection("hello.test", 80)
    w.write(b"GET / HTTP/1.0\r\n\r\n")
    print((await r.read()).split(b"\r\n\r\n")[1].decode().strip())
asyncio.run(main())`}, "captured hello.test:80"},
		{"Python non-blocking", []string{"python3", "-c", `
import socket, select
s = socket.socket()
s.setblocking(False)
print(s.connect_ex(("192.0.2.8", 80)), s.getblocking())
s.send(b"GET / HTTP/1.0\r\n\r\n")
select.select([s], [], [], 5)
print(s.recv(4096).split(b"\r\n\r\n")[1].decode().strip())`}, "0 False\ncaptured 192.0.2.8:80"},
		{"close-on-exec", []string{"python3", "-c", `
import socket
s = socket.socket()
s.connect(("192.0.2.8", 80))
print(s.get_inheritable())
s = socket.socket()
s.set_inheritable(True)
s.connect(("192.0.2.8", 80))
print(s.get_inheritable())`}, "False\nTrue"},
		{"Node", []string{"node", "-e", `fetch("http://hello.test/").then(r => r.text()).then(t => console.log(t.trim()))`}, "captured hello.test:80"},
		{"a static Go program", []string{"env", stageEnv + "=fetch", intruder(t, "fetch").Path, "http://hello.test/"}, "captured hello.test:80\nout"},
		{"a child of a thread", []string{"python3", "-c", `
import subprocess, threading
t = threading.Thread(target=lambda: subprocess.run(["sh", "-c", "(curl -sS --noproxy '*' http://hello.test/)"]))
t.start()
t.join()`}, "captured hello.test:80"},
		{"a refused name", []string{"sh", "-c", "curl -sS --noproxy '*' http://secret.example/ 2>&1; echo $?"}, "curl: (6) Could not resolve host: secret.example\n6"},
		{"DNS over TCP", []string{"python3", "-c", `
import socket, struct
q = b"\0\1\1\0\0\1\0\0\0\0\0\0\5hello\4test\0\0\1\0\1"
s = socket.create_connection(("192.0.2.53", 53))
s.sendall(struct.pack("!H", len(q)) + q)
print(socket.inet_ntoa(s.recv(4096)[-4:]))`}, "198.18.1.10"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := said(t, inContainer(t, fence.Config{}, test.args...)); got != test.want {
				t.Errorf("in a room without namespaces, %s says %q, want %q", test.name, got, test.want)
			}
		})
	}
}

// fetch gets a URL with the resolver of Go, as static programs do.
func fetch(args []string) error {
	d := net.Dialer{Resolver: &net.Resolver{PreferGo: true}}
	client := http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	res, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = io.Copy(os.Stdout, res.Body)
	return err
}

// Packets of no protocol leave a room without namespaces.
func TestPacketsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		intruder, protocol string
		family, port       int
		want               string
	}{
		{"tcp", "tcp", 4, 9999, "out"}, // captured
		{"tcp", "tcp", 6, 443, "out"},
		{"mptcp", "tcp", 4, 443, "out"}, // the client falls back to TCP
		{"mptcp-only", "tcp", 4, 443, "protocol not supported"},
		{"fastopen", "tcp", 4, 443, "operation not supported"},
		{"udp", "udp", 4, 53, "out"}, // to the host
		{"udp", "udp", 4, 123, "destination address required"},
		{"udp", "udp", 6, 443, "destination address required"},
		{"send-anyhow", "udp", 4, 123, "no way to send"},
		{"send-anyhow", "udp", 6, 123, "no way to send"},
		{"send-anyhow", "udp", 4, 53, "no way to send"},
		{"icmp", "icmp", 4, 0, "protocol not supported"},
		{"ping", "icmp", 4, 0, "protocol not supported"},
		{"sctp", "sctp", 4, 99, "protocol not supported"},
		{"udplite", "udplite", 4, 99, "protocol not supported"},
		{"exchange-target", "tcp", 4, 9999, "no attempt succeeded"},
		{"exchange-target", "tcp", 6, 9999, "no attempt succeeded"},
		{"exchange-in-call", "udp", 4, 9999, "out"},
	} {
		t.Run(fmt.Sprintf("%s to port %d of IPv%d", test.intruder, test.port, test.family), func(t *testing.T) {
			t.Parallel()
			addr := address(test.family, test.port)
			packet := test.protocol + " " + addr
			if test.port == 0 {
				host, _, _ := net.SplitHostPort(addr)
				packet = test.protocol + " " + host
			}
			if got := intrudeInContainer(t, fence.Config{}, test.intruder, addr); !strings.HasSuffix(got, test.want) {
				t.Errorf("in a room without namespaces, the intruder says %q, want %q", got, test.want)
			}
			nothingCaught(t, packet)
			if test.intruder == "exchange-target" {
				nothingCaught(t, test.protocol+" "+exchanged(addr))
			}
		})
	}
}

// These send packets from a command that is not in a room: the tests above would see them.
func TestPacketsOfIntruders(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"send-anyhow", "exchange-in-call"} {
		addr := address(4, 9999)
		outside(t, name, addr)
		theCatcher().wait(t, "udp "+addr)
	}
	addr := address(4, 9999)
	intruder(t, "exchange-target", addr).Run() // never connected, because nobody answers
	theCatcher().wait(t, "tcp "+addr, "tcp "+exchanged(addr))
	outside(t, "multicast", "239.1.2.3")
	theCatcher().wait(t, "protocol 2 224.0.0.22")
	theCatcher().forget("protocol 2 224.0.0.22")
}

// Joining a multicast group would send packets.
func TestMulticastWithoutNamespaces(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"239.1.2.4", "ff05::1:3"} {
		if got := intrudeInContainer(t, fence.Config{}, "multicast", group); got != "permission denied" {
			t.Errorf("%s: the intruder says %q", group, got)
		}
	}
}

// Unix sockets of the machine cannot be reached, however they are named.
func TestUnixSocketsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, allowed, packets := filepath.Join(dir, "socket"), filepath.Join(dir, "allowed"), filepath.Join(dir, "packets")
	abstract := "@" + filepath.Join(dir, "abstract")
	greet(t, "unix", path)
	greet(t, "unix", allowed)
	greet(t, "unix", abstract)
	greet(t, "unixpacket", packets)
	config := fence.Config{UnixSockets: []string{allowed}}
	for _, test := range []struct{ intruder, name, want string }{
		{"unix", path, "permission denied"},
		{"unix", abstract, "permission denied"},
		{"unix", allowed, "out"},
		{"unix", filepath.Join(dir, "missing"), "no such file or directory"},
		{"seqpacket", packets, "permission denied"},
		{"unixgram", path, "permission denied"},
		{"unixgram-pair", path, "permission denied"},
		{"exchange-socket", path, "no attempt succeeded"},
	} {
		t.Run(test.intruder+" "+filepath.Base(test.name), func(t *testing.T) {
			t.Parallel()
			if got := intrudeInContainer(t, config, test.intruder, test.name); !strings.HasSuffix(got, test.want) {
				t.Errorf("in a room without namespaces, the intruder says %q, want %q", got, test.want)
			}
		})
	}
}

// An address that another thread exchanges is judged once, and is that of the connection.
func TestExchangedAddressWithoutNamespaces(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "socket")
	greet(t, "unix", path)
	got := intrudeInContainer(t, fence.Config{}, "exchange-address", path)
	if !strings.HasPrefix(got, "no attempt succeeded: ") {
		t.Errorf("in a room without namespaces, the intruder says %q", got)
	}
}

// Calls and processes that lead out.
func TestOtherWaysOutWithoutNamespaces(t *testing.T) {
	t.Parallel()
	victim := startVictim(t)
	proc := "/proc/" + victim + "/"
	foreign := filepath.Join(t.TempDir(), "foreign")
	if err := os.WriteFile(foreign, foreignProgram(), 0o755); err != nil {
		t.Fatal(err)
	}
	_, foreignError := runForeign(t, foreign)
	for _, test := range []struct {
		intruder string
		args     []string
		want     string
	}{
		{"vsock", nil, "address family not supported by protocol"},
		{"packet", nil, "address family not supported by protocol"},
		{"io_uring", nil, "function not implemented"},
		{"foreign-calls", []string{foreign}, foreignError},
		{"request_key", nil, "operation not permitted"},
		{"tiocsti", nil, "operation not permitted"},
		{"open", []string{proc + "ns/net"}, "permission denied"},
		{"open", []string{proc + "environ"}, "permission denied"},
		{"open", []string{proc + "mem"}, "permission denied"},
		{"open", []string{proc + "root/etc"}, "permission denied"},
		{"open", []string{proc + "fd/1"}, "permission denied"},
		{"ptrace", []string{victim}, "operation not permitted"},
		{"pidfd_getfd", []string{victim}, "operation not permitted"},
		{"process_vm_readv", []string{victim}, "operation not permitted"},
		{"kill", []string{victim}, "operation not permitted"},
		{"take-lo-down", nil, "operation not permitted"},
		{"serve", []string{"0.0.0.0:0"}, "permission denied"},
		{"serve", []string{"127.0.0.1:0"}, "permission denied"},
		{"serve", nil, "permission denied"}, // listen binds to all addresses
	} {
		t.Run(test.intruder+" "+strings.Join(test.args, " "), func(t *testing.T) {
			t.Parallel()
			if got := intrudeInContainer(t, fence.Config{}, test.intruder, test.args...); got != test.want {
				t.Errorf("in a room without namespaces, the intruder says %q, want %q", got, test.want)
			}
		})
	}
	key := fmt.Sprint(0x6e80000 + os.Geteuid())
	id, _, errno := syscall.RawSyscall(syscall.SYS_MSGGET, uintptr(number(key)), 0o1666, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	defer syscall.RawSyscall(syscall.SYS_MSGCTL, id, 0 /* IPC_RMID */, 0)
	if got := intrudeInContainer(t, fence.Config{}, "message-queue", key); got != "function not implemented" {
		t.Errorf("a message queue: the intruder says %q", got)
	}
	if os.Geteuid() == 0 {
		got := intrudeInContainer(t, fence.Config{}, "open-for-writing", "/proc/sys/kernel/core_pattern")
		if got != "read-only file system" {
			t.Errorf("a kernel setting: the intruder says %q", got)
		}
		got = said(t, inContainer(t, fence.Config{}, "sh", "-c", "grep CapPrm /proc/self/status"))
		if want := "CapPrm:\t00000000800405fb"; got != want {
			t.Errorf("the command of the superuser has %q, want %q", got, want)
		}
	}
}

// A socket that the launcher of the host left open does not reach the command.
func TestInheritedDescriptorsWithoutNamespaces(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "udp")
	defer f.Close()
	addr := address(4, 9999)
	inherited := intruder(t, "inherited", addr)
	cmd := containerCommand(t, fence.Config{}, "env", stageEnv+"=inherited", inherited.Path, addr)
	cmd.ExtraFiles = []*os.File{f}
	if got := said(t, underFilter(t, cmd, false, containerRules()...)); got != "no socket was inherited" {
		t.Errorf("in a room without namespaces, the intruder says %q", got)
	}
	nothingCaught(t, "udp "+addr)
}

// The addresses of Config.Listen lead to the host.
func TestListenWithoutNamespaces(t *testing.T) {
	t.Parallel()
	config := fence.Config{Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3128")}}
	for _, url := range []string{"http://127.0.0.1:3128/", "http://0.0.0.0:3128/"} {
		if got := said(t, inContainer(t, config, "curl", "-sS", "--noproxy", "*", url)); got != "listener 0" {
			t.Errorf("%s says %q", url, got)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	// Other services of the machine are captured, like every address.
	url := "http://" + ln.Addr().String() + "/"
	if got, want := said(t, inContainer(t, config, "curl", "-sS", "--noproxy", "*", url)), "captured "+ln.Addr().String(); got != want {
		t.Errorf("%s says %q, want %q", url, got, want)
	}
}

// With another supervisor of system calls, there is no room.
func TestSupervisorWithoutNamespaces(t *testing.T) {
	t.Parallel()
	rules := append(containerRules(), seccomp.Notify("request_key")) // nobody calls it
	got := underFilter(t, containerCommand(t, fence.Config{}, "echo", "the command has run"), true, rules...)
	if want := "fence: namespaces: fork/exec"; !strings.Contains(got, "fence: namespaces: ") || strings.Contains(got, "the command has run") ||
		!strings.Contains(got, "without namespaces: seccomp notification: device or resource busy; another program supervises the system calls of this one") {
		t.Errorf("the host says %q, want %q and the reason without namespaces", got, want)
	}
}

// The superuser needs read-only kernel settings.
func TestKernelSettingsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // nobody else can write them
	}
	got := underFilter(t, hostCommand(t, fence.Config{}, true, "echo", "the command has run"), false, containerRules()...)
	if want := "without namespaces: /proc/sys: the superuser can write to it; run as an ordinary user"; !strings.Contains(got, want) {
		t.Errorf("the host says %q, want %q", got, want)
	}
}

// A probe tries the room that a command would get.
func TestProbeWithoutNamespaces(t *testing.T) {
	t.Parallel()
	cmd := containerCommand(t, fence.Config{})
	got := underFilter(t, cmd, false, containerRules()...)
	if want := "mechanism notification, complete true, enforced {true true true true true true true true true true}, problem namespaces"; !strings.HasPrefix(got, want) {
		t.Errorf("the probe says %q, want %q", got, want)
	}
}

// exchangeTarget connects with an address that another thread exchanges all the time for one that
// is not judged, while a third one exchanges the descriptor.
func exchangeTarget(args []string) error {
	family, sa := sockaddr(args[0])
	var buf [28]byte
	size := encodeSockaddr(&buf, sa)
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	spare, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	syscall.SetNonblock(fd, true)
	syscall.SetNonblock(spare, true)
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		runtime.LockOSThread()
		for i := 0; !stop.Load(); i++ {
			buf[3] = byte(portOf(sa) + i%2)
		}
	}()
	go func() {
		runtime.LockOSThread()
		for !stop.Load() {
			syscall.Dup3(spare, fd, 0)
		}
	}()
	err = race(func() error {
		_, _, errno := syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&buf)), uintptr(size))
		if peer, err := syscall.Getpeername(spare); err == nil {
			return fmt.Errorf("the spare socket is connected to %v", peer)
		}
		return fmt.Errorf("connect: %v: %w", errno, errors.New("not out"))
	})
	if err != nil && strings.Contains(err.Error(), "spare") {
		return nil
	}
	return errors.New("no attempt succeeded")
}

// exchanged returns the other address that exchangeTarget tries: that of the next port.
func exchanged(addr string) string {
	target := netip.MustParseAddrPort(addr)
	return netip.AddrPortFrom(target.Addr(), target.Port()+1).String()
}

func portOf(sa syscall.Sockaddr) int {
	if sa, ok := sa.(*syscall.SockaddrInet6); ok {
		return sa.Port
	}
	return sa.(*syscall.SockaddrInet4).Port
}

// exchangeInCall sends from a descriptor that another thread connects all the time. It ends
// after a few datagrams, because more would only fill the queue of the catcher.
func exchangeInCall(args []string) error {
	family, sa := sockaddr(args[0])
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	server := &syscall.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 53}}
	var stop atomic.Bool
	defer stop.Store(true)
	go func() {
		runtime.LockOSThread()
		for !stop.Load() {
			fresh, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
			if err != nil {
				continue
			}
			syscall.Connect(fresh, server)
			syscall.Dup3(fresh, fd, 0)
			syscall.Close(fresh)
		}
	}()
	sent := 0
	for end := time.Now().Add(raceTime); sent < 100 && time.Now().Before(end); {
		if syscall.Sendto(fd, []byte("secret"), 0, sa) == nil {
			sent++
		}
	}
	return nil // whether a datagram has left shows at the catcher
}

// sendAnyhow sends a datagram in every way that the kernel knows.
func sendAnyhow(args []string) error {
	family, sa := sockaddr(args[0])
	payload := []byte("secret")
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	var raw [28]byte
	size := encodeSockaddr(&raw, sa)
	const cork, segment, recvErr, freebind = 1, 103, 11, 15
	attempts := []func() error{
		func() error { return syscall.Sendto(fd, payload, 0, sa) },
		func() error { return syscall.Sendto(fd, payload, 0x800 /* MSG_CONFIRM */, sa) },
		func() error { return syscall.Sendto(fd, payload, 0x8000 /* MSG_MORE */, sa) },
		func() error { return syscall.Sendto(fd, nil, 0, sa) },
		func() error { return syscall.Sendmsg(fd, payload, nil, sa, 0) },
		func() error { return syscall.Sendmsg(fd, payload, packetInfo(2), sa, 0) },
		func() error { return sendMany(fd, payload, raw[:size]) },
		func() error {
			if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_UDP, cork, 1); err != nil {
				return err
			}
			err := syscall.Sendto(fd, payload, 0, sa)
			return errors.Join(err, syscall.SetsockoptInt(fd, syscall.IPPROTO_UDP, cork, 0))
		},
		func() error {
			syscall.SetsockoptInt(fd, syscall.IPPROTO_UDP, segment, 3)
			defer syscall.SetsockoptInt(fd, syscall.IPPROTO_UDP, segment, 0)
			return syscall.Sendto(fd, payload, 0, sa)
		},
		func() error {
			syscall.Bind(fd, &syscall.SockaddrInet4{})
			return syscall.Sendto(fd, payload, 0, sa)
		},
		func() error {
			unspecified := [16]byte{}
			syscall.RawSyscall(syscall.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspecified)), 16)
			return syscall.Sendto(fd, payload, 0, sa)
		},
		func() error {
			syscall.Shutdown(fd, syscall.SHUT_RDWR)
			return syscall.Sendto(fd, payload, 0, sa)
		},
		func() error {
			if err := syscall.Connect(fd, sa); err != nil {
				return err
			}
			if isPair(fd) {
				return errors.New("the socket leads to the host")
			}
			_, err := syscall.Write(fd, payload)
			return err
		},
	}
	var out bool
	for _, attempt := range attempts {
		if attempt() == nil {
			out = true
		}
	}
	if out {
		return nil
	}
	return errors.New("no way to send")
}

func isPair(fd int) bool {
	family, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, 39)
	return err == nil && family == syscall.AF_UNIX
}

// packetInfo is a control message that names a device.
func packetInfo(device int) []byte {
	b := make([]byte, syscall.CmsgSpace(12))
	h := (*syscall.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = syscall.IPPROTO_IP, 8
	h.SetLen(syscall.CmsgLen(12))
	*(*int32)(unsafe.Pointer(&b[syscall.CmsgLen(0)])) = int32(device)
	return b
}

// sendMany calls sendmmsg(2).
func sendMany(fd int, payload, addr []byte) error {
	iov := syscall.Iovec{Base: &payload[0], Len: uint64(len(payload))}
	m := struct {
		syscall.Msghdr
		n uint32
		_ uint32
	}{Msghdr: syscall.Msghdr{Name: &addr[0], Namelen: uint32(len(addr)), Iov: &iov, Iovlen: 1}}
	if _, _, errno := syscall.RawSyscall6(sysSendmmsg, uintptr(fd), uintptr(unsafe.Pointer(&m)), 1, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// encodeSockaddr writes an address in the form of the kernel, and returns its size.
func encodeSockaddr(b *[28]byte, sa syscall.Sockaddr) int {
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		b[0], b[2], b[3] = syscall.AF_INET, byte(sa.Port>>8), byte(sa.Port)
		copy(b[4:], sa.Addr[:])
		return 16
	case *syscall.SockaddrInet6:
		b[0], b[2], b[3] = syscall.AF_INET6, byte(sa.Port>>8), byte(sa.Port)
		copy(b[8:], sa.Addr[:])
		return 28
	}
	panic("no IP address")
}

// serveInbound listens at an address, or at all without arguments.
func serveInbound(args []string) error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	if len(args) > 0 {
		_, sa := sockaddr(args[0])
		if err := syscall.Bind(fd, sa); err != nil {
			return err
		}
	}
	return syscall.Listen(fd, 1)
}

// joinGroup joins a multicast group, which sends a packet.
func joinGroup(args []string) error {
	ip := net.ParseIP(args[0])
	c, err := net.ListenPacket("udp", map[bool]string{true: "127.0.0.1:0", false: "[::1]:0"}[ip.To4() != nil])
	if err == nil {
		defer c.Close()
	}
	dev, devErr := net.InterfaceByName("out0")
	if devErr != nil {
		dev = &net.Interface{Index: 2}
	}
	if ip4 := ip.To4(); ip4 != nil {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
		if err != nil {
			return err
		}
		err = syscall.SetsockoptIPMreqn(fd, syscall.IPPROTO_IP, syscall.IP_ADD_MEMBERSHIP, &syscall.IPMreqn{Multiaddr: [4]byte(ip4), Ifindex: int32(dev.Index)})
		return err
	}
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	return syscall.SetsockoptIPv6Mreq(fd, syscall.IPPROTO_IPV6, syscall.IPV6_JOIN_GROUP, &syscall.IPv6Mreq{Multiaddr: [16]byte(ip.To16()), Interface: uint32(dev.Index)})
}

// Many connections and lookups at once work, and leave nothing in the host.
func TestManyConnectionsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	got := said(t, inContainer(t, fence.Config{}, "python3", "-c", `
import socket, threading
failed = []
def run():
    for i in range(100):
        try:
            with socket.create_connection(("hello.test", 80), 10) as s:
                s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                if not s.recv(4096).startswith(b"HTTP/1.0 200"):
                    failed.append("response")
        except Exception as e:
            failed.append(repr(e))
threads = [threading.Thread(target=run) for _ in range(16)]
for t in threads: t.start()
for t in threads: t.join()
print(len(failed), failed[:3])
`))
	if got != "0 []" {
		t.Errorf("the command says %q", got)
	}
}

// Rooms leave no descriptors, goroutines or processes in the host. The host prints what is left.
func TestNothingLeftWithoutNamespaces(t *testing.T) {
	t.Parallel()
	cmd := containerCommand(t, fence.Config{})
	cmd.Env = append(cmd.Env, inContainerEnv+"=many-rooms")
	if got := underFilter(t, cmd, false, containerRules()...); got != "nothing left\n" {
		t.Errorf("the host says %q", got)
	}
}

// runManyRooms is the stage of a host that starts rooms, several at a time.
func runManyRooms([]string) error {
	start := func() error {
		cmd := exec.Command("curl", "-sS", "--noproxy", "*", "http://hello.test/")
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		room, err := fence.Start(cmd, fence.Config{})
		if err != nil {
			return err
		}
		newHost().serve(room)
		err = cmd.Wait()
		room.Close()
		if out.String() != "captured hello.test:80\n" {
			return fmt.Errorf("curl says %q, %v", out.String(), err)
		}
		return nil
	}
	if err := start(); err != nil {
		return err
	}
	descriptors := func() int {
		entries, _ := os.ReadDir("/proc/self/fd")
		return len(entries)
	}
	before := descriptors()
	errs := make(chan error)
	for range 4 {
		go func() {
			for range 10 {
				if err := start(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			return err
		}
	}
	// Connections of HTTP servers that were closed end soon.
	if testnet.Poll(timeout, func() bool { return descriptors() <= before && runtime.NumGoroutine() < 10 }) {
		return errors.New("nothing left")
	}
	return fmt.Errorf("%d descriptors, before %d; %d goroutines", descriptors(), before, runtime.NumGoroutine())
}
