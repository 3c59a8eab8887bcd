// Epoll without the runtime's poller. Without a goroutine per connection, the client
// and the origin use little CPU time compared with the proxy.

package main

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// poller waits for many sockets. It is not safe for concurrent use.
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

// add watches a socket for readable data. wait reports it with its tag until
// closeSocket.
func (p *poller) add(socket, tag int) error {
	event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(tag)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_ADD, socket, &event))
}

// wait returns the readable sockets. It returns none after the timeout or a signal.
// The result is valid until the next call.
func (p *poller) wait(timeout time.Duration) ([]syscall.EpollEvent, error) {
	n, err := syscall.EpollWait(p.fd, p.events[:], int(timeout.Milliseconds()))
	if err == syscall.EINTR {
		return nil, nil
	}
	return p.events[:max(n, 0)], os.NewSyscallError("epoll_wait", err)
}

// closeSocket closes a socket that add has added. A close alone would not end the events
// while a new process still has the socket, between fork and exec. They would be taken
// for those of another socket that has got the same descriptor.
func (p *poller) closeSocket(socket int) {
	syscall.EpollCtl(p.fd, syscall.EPOLL_CTL_DEL, socket, nil)
	syscall.Close(socket)
}

func (p *poller) close() { syscall.Close(p.fd) }

// pollInterval is the interval at which the event loops check for their end.
const pollInterval = 20 * time.Millisecond

// stallTimeout is the time without progress after which a measurement fails.
const stallTimeout = 5 * time.Second

// dialStream returns a connected, non-blocking socket.
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
		err = syscall.Connect(fd, addr) // continues to wait
	}
	if err != nil && err != syscall.EISCONN {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	return os.NewSyscallError("fcntl", syscall.SetNonblock(fd, true))
}

// listenStream returns a non-blocking listener on a free loopback port.
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
