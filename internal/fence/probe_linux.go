//go:build linux && (amd64 || arm64)

// This file tries a room with a process that executes a script instead of a program.

package fence

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
)

func probe(ctx context.Context, config Config) (Report, error) {
	targets, err := openProbeTargets()
	if err != nil {
		return Report{}, err
	}
	defer targets.close()
	m, missing := mechanism()
	room := newRoom(m)
	defer room.Close()
	p := &prober{limits: newLimits(config, m), targets: targets, resume: make(chan bool)}
	defer p.closeListener()
	if p.script, err = newScript(); err != nil {
		return Report{}, err
	}
	defer p.script.close()
	stopped := make(chan error)
	onFreshThread(func() { p.run(stopped) })
	if err := <-stopped; err != nil {
		return Report{}, bothProblems(missing, err)
	}
	defer p.process.close()
	killed := make(chan struct{})
	stopKilling := context.AfterFunc(ctx, func() {
		defer close(killed)
		p.process.kill()
	})
	err = room.furnish(&p.limits, p.pid, -1)
	if err != nil {
		p.resume <- false
		p.process.kill()
	} else {
		p.resume <- true
	}
	detachErr := <-stopped
	waitErr := p.script.wait(p.pid)
	if !stopKilling() {
		<-killed
		return Report{}, context.Cause(ctx)
	}
	for _, e := range []error{err, detachErr, waitErr} {
		if e != nil {
			return Report{}, bothProblems(missing, e)
		}
	}
	room.noteMissing(missing)
	report := room.report
	report.Enforced = p.result(report)
	return report, nil
}

// probeTargets are sockets of the host that must not be reached from a room.
type probeTargets struct {
	dir      string // of path; empty if there is none
	tcp      *net.TCPListener
	tcp6     *net.TCPListener // nil if the host has no IPv6
	udp      *net.UDPConn
	path     *net.UnixListener // nil if there is no place for it, such as on a read-only file system
	abstract *net.UnixListener
}

func openProbeTargets() (*probeTargets, error) {
	t := new(probeTargets)
	var err error
	t.tcp, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err == nil {
		t.udp, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	}
	if err == nil {
		t.abstract, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: "@fence-probe-" + rand.Text()})
	}
	if err != nil {
		t.close()
		return nil, fmt.Errorf("fence: sockets for a probe: %w", err)
	}
	if t.tcp6, err = net.ListenTCP("tcp6", &net.TCPAddr{IP: net.IPv6loopback}); err != nil {
		t.tcp6 = nil
	}
	if t.dir, err = os.MkdirTemp("", "fence-probe-"); err != nil {
		return t, nil
	}
	if t.path, err = net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.dir, "socket")}); err != nil {
		t.path = nil
	}
	return t, nil
}

func (t *probeTargets) close() {
	if t.tcp != nil {
		t.tcp.Close()
	}
	if t.tcp6 != nil {
		t.tcp6.Close()
	}
	if t.udp != nil {
		t.udp.Close()
	}
	if t.path != nil {
		t.path.Close()
	}
	if t.abstract != nil {
		t.abstract.Close()
	}
	if t.dir != "" {
		os.RemoveAll(t.dir)
	}
}

// arrived reports whether a connection or a datagram waits at a socket.
func arrived(socket syscall.Conn) bool {
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var events int16
	raw.Control(func(fd uintptr) { events, _ = poll(int(fd), pollIn, 0) })
	return events&pollIn != 0
}

// prober runs the process that tries to get out.
type prober struct {
	limits
	targets *probeTargets
	script  *script
	pid     int
	process *inside
	resume  chan bool

	tcp, tcp6, udp, icmp, path, abstract, vsock, ioUring, ptrace, signal ref
}

// run starts the process. It is like launch.run.
func (p *prober) run(stopped chan<- error) {
	if err := p.restrict(); err != nil {
		stopped <- err
		return
	}
	p.plan()
	flags := uintptr(0)
	if p.mechanism == Namespaces {
		flags = namespaces
	}
	var err error
	if p.pid, err = p.script.start(syscall.CLONE_VM | flags); err != nil {
		stopped <- startError(err)
		return
	}
	if p.process, err = openInside(p.pid); err != nil {
		syscall.Kill(p.pid, syscall.SIGKILL)
		p.script.wait(p.pid)
		stopped <- err
		return
	}
	if err := awaitStop(p.pid); err != nil {
		p.process.kill()
		if failed := (*stepError)(nil); errors.As(p.script.wait(p.pid), &failed) {
			err = startError(failed)
		}
		p.process.close()
		stopped <- err
		return
	}
	stopped <- nil
	if <-p.resume {
		err = syscall.PtraceDetach(p.pid)
	}
	stopped <- err
}

// plan adds the steps of the process. It begins as a command does: without capabilities, and
// stopped. Each attempt is optional, because it should fail.
func (p *prober) plan() {
	s := p.script
	header := binary.NativeEndian.AppendUint64(nil, 0x20080522) // version 3, this thread
	s.add("drop the capabilities", syscall.SYS_CAPSET, s.bytes(header), s.bytes(make([]byte, 24)))
	s.add("let the host trace the process", syscall.SYS_PTRACE, syscall.PTRACE_TRACEME)
	self := s.add("find the process id", syscall.SYS_GETPID)
	s.on(self, "stop", syscall.SYS_KILL, uintptr(syscall.SIGSTOP))

	const stream, datagram = syscall.SOCK_STREAM | syscall.SOCK_CLOEXEC, syscall.SOCK_DGRAM | syscall.SOCK_CLOEXEC
	attempt := func(call uintptr, args ...uintptr) ref { return s.optional(s.add("attempt", call, args...)) }
	connect := func(family, kind uintptr, addr []byte) ref {
		fd := attempt(syscall.SYS_SOCKET, family, kind, 0)
		r := s.optional(s.on(fd, "attempt", syscall.SYS_CONNECT, s.bytes(addr), uintptr(len(addr))))
		if kind == datagram {
			// The error of a datagram comes with the second call.
			s.optional(s.on(fd, "attempt", syscall.SYS_SENDTO, s.bytes([]byte("x")), 1, 0, 0, 0))
			r = s.optional(s.on(fd, "attempt", syscall.SYS_SENDTO, s.bytes([]byte("x")), 1, 0, 0, 0))
		}
		return r
	}
	local := func(a net.Addr) []byte { return encodeSockaddr(netip.MustParseAddrPort(a.String())) }
	unix := func(name string) []byte {
		b := append(binary.NativeEndian.AppendUint16(nil, syscall.AF_UNIX), name...)
		if name[0] == '@' {
			b[2] = 0
			return b
		}
		return append(b, 0)
	}
	p.tcp = connect(syscall.AF_INET, stream, local(p.targets.tcp.Addr()))
	if p.targets.tcp6 != nil {
		p.tcp6 = connect(syscall.AF_INET6, stream, local(p.targets.tcp6.Addr()))
	}
	p.udp = connect(syscall.AF_INET, datagram, local(p.targets.udp.LocalAddr()))
	if p.targets.path != nil {
		p.path = connect(syscall.AF_UNIX, stream, unix(p.targets.path.Addr().String()))
	}
	p.abstract = connect(syscall.AF_UNIX, stream, unix(p.targets.abstract.Addr().String()))
	p.icmp = attempt(syscall.SYS_SOCKET, syscall.AF_INET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.IPPROTO_ICMP)
	const afVSock = 40
	p.vsock = attempt(syscall.SYS_SOCKET, afVSock, stream, 0)
	p.ioUring = attempt(sysIOUringSetup, 1, s.bytes(make([]byte, 120)))
	pidfd := attempt(sysPidfdOpen, uintptr(os.Getpid()), 0)
	p.ptrace = s.optional(s.on(pidfd, "attempt", sysPidfdGetfd, 0, 0))
	p.signal = attempt(syscall.SYS_KILL, uintptr(os.Getpid()), 0)
}

// result returns what the process could not do.
func (p *prober) result(r Report) Enforced {
	failed := func(step ref) bool {
		_, errno := p.script.result(step)
		return errno != 0
	}
	// Without namespaces, a connection of TCP succeeds, and leads to the host.
	connects := r.Mechanism == Notification
	tcp, udp := (failed(p.tcp) || connects) && !arrived(p.targets.tcp), !arrived(p.targets.udp)
	ipv6 := tcp && udp
	if p.targets.tcp6 != nil {
		ipv6 = ipv6 && (failed(p.tcp6) || connects) && !arrived(p.targets.tcp6)
	}
	unixPath := r.Enforced.UnixPath
	if p.targets.path != nil {
		unixPath = unixPath && failed(p.path)
	}
	return Enforced{
		TCP: tcp, UDP: udp, IPv6: ipv6, ICMP: failed(p.icmp),
		UnixPath: unixPath, UnixAbstract: failed(p.abstract),
		VSock: failed(p.vsock), IOUring: failed(p.ioUring), Ptrace: failed(p.ptrace), Signals: failed(p.signal),
	}
}
