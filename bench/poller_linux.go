// Epoll without the runtime's poller: a client and an origin that spend little
// next to the proxy between them need no goroutine for each connection.

package main

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// poller waits for many sockets. It is for one goroutine.
type poller struct {
	fd     int
	events [256]syscall.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &poller{fd: fd}, nil
}

// add watches a socket for something to read; wait reports it by its tag.
// Closing the socket ends the watch.
func (p *poller) add(socket, tag int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(tag)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, socket, &event))
}

// wait returns what can be read, or nothing when the time has passed or a
// signal came. The result is good until the next call.
func (p *poller) wait(most time.Duration) ([]syscall.EpollEvent, error) {
	n, err := syscall.EpollWait(p.fd, p.events[:], int(most.Milliseconds()))
	if err == syscall.EINTR {
		return nil, nil
	}
	return p.events[:max(n, 0)], os.NewSyscallError("epoll_wait", err)
}

func (p *poller) close() { syscall.Close(p.fd) }

// pollInterval is how often the loops look whether they are to end.
const pollInterval = 20 * time.Millisecond

// stallTimeout is how long nothing may happen before a measurement has failed.
const stallTimeout = 5 * time.Second

// dialStream connects a socket that does not block afterwards.
func dialStream(to netip.AddrPort) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	limit := syscall.NsecToTimeval(stallTimeout.Nanoseconds())
	syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &limit) // bounds connect
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	if err := connect(fd, to); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func connect(fd int, to netip.AddrPort) error {
	addr := &syscall.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	err := syscall.Connect(fd, addr)
	for err == syscall.EINTR {
		err = syscall.Connect(fd, addr) // goes on waiting
	}
	if err != nil && err != syscall.EISCONN {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	return os.NewSyscallError("fcntl", syscall.SetNonblock(fd, true))
}

// listenStream listens on a free port of loopback.
func listenStream() (int, netip.AddrPort, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, netip.AddrPort{}, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrInet4{Addr: loopback.As4()}))
	if err == nil {
		err = os.NewSyscallError("listen", syscall.Listen(fd, 4096))
	}
	var name syscall.Sockaddr
	if err == nil {
		name, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, netip.AddrPort{}, err
	}
	return fd, netip.AddrPortFrom(loopback, uint16(name.(*syscall.SockaddrInet4).Port)), nil
}

var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
