//go:build linux && (amd64 || arm64)

// This file makes the connections of a command that has no network namespace of its own.

package fence

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"
)

// connect does what connect(2) would do, or refuses it.
func (n *notifier) connect(c *call) syscall.Errno {
	length := int(int32(c.Args[2]))
	if length < 0 || length > maxSockaddr {
		return syscall.EINVAL
	}
	addr := make([]byte, length)
	if err := readMemory(int(c.PID), c.Args[1], addr); err != nil {
		return syscall.EFAULT
	}
	d, errno := describeDescriptor(int(c.PID), int(int32(c.Args[0])))
	if errno != 0 {
		return errno
	}
	family, ok := addressFamily(addr)
	if !ok {
		return syscall.EINVAL
	}
	n.mu.Lock()
	kind, ours := n.sockets[d.inode]
	n.mu.Unlock()
	switch {
	case !c.waiting(): // what was read is that of the caller if it still waits
		return syscall.EINTR
	case !ours && family == syscall.AF_UNIX:
		return n.connectUnix(c, d, addr)
	case !ours:
		return syscall.EAFNOSUPPORT
	case family == syscall.AF_UNSPEC && !kind.stream:
		return 0 // UDP sockets are never connected, so that there is nothing to undo
	case kind.stream && kind.connected:
		return syscall.EISCONN
	}
	target, errno := decodeTarget(kind.family, addr)
	switch {
	case errno != 0:
		return errno
	case kind.stream:
		return n.connectTCP(c, d, kind.family, target)
	case kind.connected || target.Port() != dnsPort:
		return 0 // resolvers connect UDP sockets to sort addresses, and send nothing
	}
	return n.connectQueries(c, d, kind.family, target)
}

// decodeTarget returns the address of a connect of a socket.
func decodeTarget(family int, addr []byte) (netip.AddrPort, syscall.Errno) {
	const size4, size6 = 16, 24
	f, _ := addressFamily(addr)
	port := func() uint16 { return binary.BigEndian.Uint16(addr[2:]) }
	var target netip.AddrPort
	switch {
	case int(f) != family:
		return target, syscall.EAFNOSUPPORT
	case family == syscall.AF_INET && len(addr) >= size4:
		target = netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[4:])), port())
	case family == syscall.AF_INET6 && len(addr) >= size6:
		target = netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr[8:])).Unmap(), port())
	default:
		return target, syscall.EINVAL
	}
	switch { // the kernel takes the unspecified addresses for loopback addresses
	case target.Addr() == netip.IPv4Unspecified():
		target = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), target.Port())
	case target.Addr() == netip.IPv6Unspecified():
		target = netip.AddrPortFrom(netip.IPv6Loopback(), target.Port())
	}
	if target.Port() == 0 {
		return target, syscall.ECONNREFUSED
	}
	return target, 0
}

// connectTCP gives the caller a socket that is connected to the entry.
func (n *notifier) connectTCP(c *call, d descriptor, family int, target netip.AddrPort) syscall.Errno {
	fd, err := newTCP(family, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer syscall.Close(fd)
	if err := syscall.Bind(fd, loopbackSockaddr(family, 0)); err != nil {
		return errnoOf(err)
	}
	self, err := localAddress(fd)
	if err != nil {
		return errnoOf(err)
	}
	a := arrival{to: n.tcp, target: target}
	if i := slices.Index(n.listen, target); i >= 0 {
		a.to = n.handed[i]
	} else if target.Port() == dnsPort {
		a.to = n.dns
	}
	n.expect(self, a)
	// A call that blocks would keep a thread while the entry has no room.
	syscall.SetNonblock(fd, true)
	err = syscall.Connect(fd, loopbackSockaddr(family, n.entry.Addr().(*net.TCPAddr).Port))
	errno := errnoOf(err)
	if errno == syscall.EINPROGRESS {
		errno = awaitConnect(fd, c.waiting, time.Time{})
	}
	if errno != 0 {
		n.forget(self)
		if errno == syscall.EINPROGRESS {
			errno = syscall.EINTR
		}
		return errno
	}
	return n.exchange(c, d, fd, socketKind{family: family, stream: true, connected: true})
}

// localAddress returns the address that a socket is bound to.
func localAddress(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	switch sa := sa.(type) {
	case *syscall.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *syscall.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	if err == nil {
		err = syscall.EAFNOSUPPORT
	}
	return netip.AddrPort{}, err
}

// connectQueries gives the caller a socket that leads to the host's DNS.
func (n *notifier) connectQueries(c *call, d descriptor, family int, server netip.AddrPort) syscall.Errno {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return errnoOf(err)
	}
	defer syscall.Close(pair[1])
	refuseDescriptors(pair[0])
	syscall.SetNonblock(pair[0], true) // lets the runtime wait for it without a thread
	if !n.names.add(os.NewFile(uintptr(pair[0]), "socket for DNS queries"), server) {
		return syscall.ENOBUFS
	}
	return n.exchange(c, d, pair[1], socketKind{family: family, connected: true})
}

// refuseDescriptors keeps the other end of a pair from passing descriptors to this one (since Linux
// 6.16). They would be closed unseen, which may take as long as the command likes: a TCP socket
// lingers. On older kernels, that keeps a thread of this process each.
func refuseDescriptors(fd int) {
	const passRights = 83 // SO_PASSRIGHTS
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, passRights, 0)
}

// connectUnix gives the caller a socket that is connected to an allowed path.
func (n *notifier) connectUnix(c *call, d descriptor, addr []byte) syscall.Errno {
	path, ok := unixPath(addr)
	if !ok {
		return syscall.EACCES // an abstract address
	}
	file, errno := openPath(int(c.PID), path)
	if errno != 0 {
		return errno
	}
	defer syscall.Close(file)
	var st syscall.Stat_t
	if err := syscall.Fstat(file, &st); err != nil {
		return errnoOf(err)
	}
	if !n.listed.contains(&st) {
		if st.Mode&syscall.S_IFMT == syscall.S_IFSOCK && n.refused != nil {
			n.refused(path)
		}
		return syscall.EACCES
	}
	if !c.waiting() { // the path was that of the caller
		return syscall.EINTR
	}
	for _, kind := range []int{syscall.SOCK_STREAM, syscall.SOCK_SEQPACKET} {
		fd, err := syscall.Socket(syscall.AF_UNIX, kind|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			return errnoOf(err)
		}
		syscall.SetNonblock(fd, d.flags&syscall.O_NONBLOCK != 0)
		errno = connectSocket(fd, fileSockaddr(file), c.waiting)
		if errno == 0 {
			errno = n.exchange(c, d, fd, socketKind{})
		}
		syscall.Close(fd)
		if errno != syscall.EPROTOTYPE {
			break
		}
	}
	return errno
}

// exchange puts a socket of this process over the descriptor of the caller.
func (n *notifier) exchange(c *call, d descriptor, fd int, k socketKind) syscall.Errno {
	if err := syscall.SetNonblock(fd, d.flags&syscall.O_NONBLOCK != 0); err != nil {
		return errnoOf(err)
	}
	if k.family != 0 {
		if err := n.remember(fd, k); err != nil {
			return errnoOf(err)
		}
	}
	_, err := c.addFD(fd, d.number, d.flags&syscall.O_CLOEXEC != 0)
	return errnoOf(err)
}
