//go:build linux && (amd64 || arm64)

// This file makes the sockets and connections of a command that has no network namespace of its
// own. A seccomp filter hands socket(2) of IP families and connect(2) to the notifier, which never
// lets such a call go on: it acts on a copy of the arguments, and gives the command a socket.
//
// The command must not get a socket that leads out, whatever it exchanges meanwhile: the address
// in its memory, or the descriptor that the socket is put over. So every IP socket that it has is
// one of these, all made by the host:
//
//   - a TCP socket that is not connected. The kernel refuses connect, bind and listen on it, and
//     data with the SYN.
//   - a TCP socket that is connected to a listener of the host, which knows the target.
//   - a UDP socket that can send nothing, because it is shut down for writing, and that receives
//     from loopback addresses only, because it is bound to one. Only connect(2) could undo that.
//   - one end of a socket pair, in the place of a UDP socket that was connected to a name server.

package fence

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"example.com/networkproxy/internal/seccomp"
)

// notifier makes the sockets of one room.
type notifier struct {
	listed  *listedSockets
	refused func(path string)
	names   *querySockets
	targets *targets
	entry   *net.TCPListener // where the connections of the command arrive
	entries sync.WaitGroup   // the loop that accepts them

	tcp, dns *handedListener
	listen   []netip.AddrPort // of Config, with their listeners
	handed   []*handedListener

	mu      sync.Mutex
	pending map[netip.AddrPort][]arrival // by the address of the command's end, the oldest first
	sockets map[uint64]socketKind        // by inode
	order   []uint64                     // of sockets, the oldest first
}

// arrival is a connection that the entry will accept. Several can have the same address, because the
// command can reset one that waits to be accepted, and its address is then used again.
type arrival struct {
	to     *handedListener
	target netip.AddrPort
}

// socketKind is a socket that the notifier has made.
type socketKind struct {
	family    int
	stream    bool // TCP; else a UDP socket, or an end of a pair in its place
	connected bool
}

// maxSockets is the number of sockets that the notifier remembers.
const maxSockets = 1 << 16

// notify makes the sockets of the room and starts to answer the calls of the command. It owns the
// listener.
func (r *Room) notify(listener int, c Config) error {
	entry, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		syscall.Close(listener)
		return problem("loopback address", err, "bring the loopback device up")
	}
	listed, err := openListed(c.UnixSockets)
	if err != nil {
		syscall.Close(listener)
		entry.Close()
		return err
	}
	r.targets = &targets{of: make(map[net.Conn]netip.AddrPort)}
	n := &notifier{
		listed: listed, refused: c.SocketRefused,
		names: newQuerySockets(), targets: r.targets, entry: entry,
		tcp: newHandedListener(entry.Addr()), dns: newHandedListener(entry.Addr()), listen: c.Listen,
		pending: make(map[netip.AddrPort][]arrival), sockets: make(map[uint64]socketKind),
	}
	r.TCP, r.DNSStreams, r.DNS = []net.Listener{n.tcp}, n.dns, &Datagrams{queries: n.names}
	for _, a := range c.Listen {
		l := newHandedListener(net.TCPAddrFromAddrPort(a))
		n.handed = append(n.handed, l)
		r.Listeners = append(r.Listeners, l)
	}
	r.onClose(n.names.close)
	n.entries.Go(n.accept)
	r.onClose(func() {
		for _, l := range append(n.handed, n.tcp, n.dns) {
			l.Close() // accept may wait for one of them
		}
		entry.Close()
		n.entries.Wait()
	})
	b := startBroker(listener, n.answer, listed.close)
	r.onClose(b.close)
	return nil
}

// accept hands the connections of the command to their listeners. Other processes of the machine
// can connect to the entry, too; their connections are closed.
func (n *notifier) accept() {
	for {
		c, err := n.entry.AcceptTCP()
		if err != nil {
			return
		}
		a, ok := n.arrived(addrPort(c.RemoteAddr()))
		if !ok {
			c.Close()
			continue
		}
		if a.to == n.tcp {
			n.targets.put(c, a.target)
		}
		a.to.hand(c)
	}
}

// expect records a connection that the entry will accept.
func (n *notifier) expect(client netip.AddrPort, a arrival) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending[client] = append(n.pending[client], a)
}

// arrived returns the oldest connection that is expected from an address.
func (n *notifier) arrived(client netip.AddrPort) (arrival, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.pending[client]
	if len(list) == 0 {
		return arrival{}, false
	}
	n.setPending(client, list[1:])
	return list[0], true
}

// forget removes the newest connection that is expected from an address, because it failed.
func (n *notifier) forget(client netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if list := n.pending[client]; len(list) > 0 {
		n.setPending(client, list[:len(list)-1])
	}
}

func (n *notifier) setPending(client netip.AddrPort, list []arrival) {
	if len(list) == 0 {
		delete(n.pending, client)
		return
	}
	n.pending[client] = list
}

// answer does what a call of the command asked for, or refuses it.
func (n *notifier) answer(c *call) (int64, syscall.Errno) {
	switch c.Call {
	case syscall.SYS_SOCKET:
		return n.socket(c)
	case syscall.SYS_CONNECT:
		return 0, n.connect(c)
	}
	return 0, syscall.ENOSYS
}

// socket makes a socket for the command. The filter has checked the arguments.
func (n *notifier) socket(c *call) (int64, syscall.Errno) {
	family, kind := int(int32(c.Args[0])), int(int32(c.Args[1]))
	stream := kind&0xf == syscall.SOCK_STREAM
	if !stream && kind&0xf != syscall.SOCK_DGRAM || family != syscall.AF_INET && family != syscall.AF_INET6 {
		return 0, syscall.EPROTONOSUPPORT
	}
	open := newTCP
	if !stream {
		open = newMute
	}
	fd, err := open(family, kind&syscall.SOCK_NONBLOCK)
	if err != nil {
		return 0, errnoOf(err)
	}
	defer syscall.Close(fd)
	if err := n.remember(fd, socketKind{family: family, stream: stream}); err != nil {
		return 0, errnoOf(err)
	}
	number, err := c.addFD(fd, -1, kind&syscall.SOCK_CLOEXEC != 0)
	if err != nil {
		return 0, errnoOf(err)
	}
	return int64(number), 0
}

func newTCP(family, nonblock int) (int, error) {
	return syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|nonblock, syscall.IPPROTO_TCP)
}

// newMute returns a UDP socket that can send nothing.
func newMute(family, nonblock int) (int, error) {
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|nonblock, syscall.IPPROTO_UDP)
	if err != nil {
		return -1, err
	}
	err = syscall.Bind(fd, loopbackSockaddr(family, 0))
	if err == nil {
		// The kernel shuts down the socket although it reports that there is no connection.
		if err = syscall.Shutdown(fd, syscall.SHUT_WR); err == syscall.ENOTCONN {
			err = nil
		}
	}
	if err == nil {
		err = checkMute(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkMute fails if a UDP socket can send. It tries to send to the socket itself.
func checkMute(fd int) error {
	self, err := syscall.Getsockname(fd)
	if err != nil {
		return err
	}
	if err := syscall.Sendto(fd, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, self); err != syscall.EPIPE {
		return syscall.EACCES
	}
	return nil
}

// loopbackSockaddr returns the loopback address of IPv4 for a socket of either family.
func loopbackSockaddr(family, port int) syscall.Sockaddr {
	if family == syscall.AF_INET6 {
		return &syscall.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}}
	}
	return &syscall.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
}

// remember records a socket, so that connect finds what it is.
func (n *notifier) remember(fd int, k socketKind) error {
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, known := n.sockets[st.Ino]; !known {
		if len(n.order) == maxSockets {
			delete(n.sockets, n.order[0])
			n.order = n.order[1:]
		}
		n.order = append(n.order, st.Ino)
	}
	n.sockets[st.Ino] = k
	return nil
}

// descriptor is an open socket of another process.
type descriptor struct {
	number int
	inode  uint64
	flags  int // O_NONBLOCK and O_CLOEXEC
}

// describeDescriptor looks at a descriptor of a thread.
func describeDescriptor(tid, number int) (d descriptor, errno syscall.Errno) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, number))
	if err != nil || number < 0 {
		return d, syscall.EBADF
	}
	inode, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return d, syscall.ENOTSOCK
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, number))
	if err != nil {
		return d, syscall.EBADF
	}
	flags, err := strconv.ParseInt(field(info, "flags:"), 8, 64)
	if err != nil {
		return d, syscall.EBADF
	}
	d.inode, err = strconv.ParseUint(strings.TrimSuffix(inode, "]"), 10, 64)
	if err != nil {
		return d, syscall.EBADF
	}
	d.number, d.flags = number, int(flags)
	return d, 0
}

// errnoOf returns the number of an error of package syscall.
func errnoOf(err error) syscall.Errno {
	switch e := err.(type) {
	case nil:
		return 0
	case syscall.Errno:
		if e == syscall.ENOENT { // of addFD: the caller has gone
			return syscall.EINTR
		}
		return e
	}
	return syscall.EIO
}

// filterForNotifier returns the program of the filter for a notifier.
func filterForNotifier() ([]seccomp.Instruction, error) {
	const (
		noFamily, noProtocol, forbidden = uint16(syscall.EAFNOSUPPORT), uint16(syscall.EPROTONOSUPPORT), uint16(syscall.EACCES)
		noOperation                     = uint16(syscall.EOPNOTSUPP)
		typeMask, fastOpen              = 0xf, 0x20000000 // MSG_FASTOPEN
		tunSetIFF                       = 0x400454ca      // makes the descriptor a network device
	)
	kind := func(v uint32) seccomp.Condition { return seccomp.Condition{Arg: 1, Mask: typeMask, Value: v} }
	var sockets []seccomp.Case
	for _, family := range []uint32{syscall.AF_INET, syscall.AF_INET6} {
		for _, k := range []struct{ kind, protocol uint32 }{
			{syscall.SOCK_STREAM, 0}, {syscall.SOCK_STREAM, syscall.IPPROTO_TCP}, // not MPTCP
			{syscall.SOCK_DGRAM, 0}, {syscall.SOCK_DGRAM, syscall.IPPROTO_UDP},
		} {
			sockets = append(sockets, seccomp.Case{
				When: []seccomp.Condition{seccomp.Is(0, family), kind(k.kind), seccomp.Is(2, k.protocol)},
				Then: seccomp.Notified(),
			})
		}
		sockets = append(sockets, seccomp.Case{When: []seccomp.Condition{seccomp.Is(0, family)}, Then: seccomp.Refused(noProtocol)})
	}
	var unix []seccomp.Case
	for _, k := range []uint32{syscall.SOCK_STREAM, syscall.SOCK_SEQPACKET} { // they send to their peer alone
		unix = append(unix, seccomp.Case{When: []seccomp.Condition{seccomp.Is(0, syscall.AF_UNIX), kind(k)}, Then: seccomp.Allowed()})
	}
	unix = append(unix, seccomp.Case{When: []seccomp.Condition{seccomp.Is(0, syscall.AF_UNIX)}, Then: seccomp.Refused(forbidden)})
	sockets = append(sockets, unix...)
	sockets = append(sockets, seccomp.Case{
		When: []seccomp.Condition{seccomp.Is(0, syscall.AF_NETLINK), seccomp.Is(2, syscall.NETLINK_ROUTE)},
		Then: seccomp.Allowed(),
	})
	// Joining a group sends packets to the network.
	var groups []seccomp.Case
	for _, l := range []struct {
		level   uint32
		options []uint32 // *_MEMBERSHIP, IPV6_*_ANYCAST, MCAST_JOIN_*, MCAST_LEAVE_*
	}{
		{syscall.IPPROTO_IP, []uint32{35, 36, 39, 40, 42, 45, 46, 47}},
		{syscall.IPPROTO_IPV6, []uint32{20, 21, 27, 28, 42, 45, 46, 47}},
	} {
		for _, o := range l.options {
			groups = append(groups, seccomp.Case{When: []seccomp.Condition{seccomp.Is(1, l.level), seccomp.Is(2, o)}, Then: seccomp.Refused(forbidden)})
		}
	}
	withSYN := func(call string, flags int) seccomp.Rule {
		return seccomp.Cases(call, seccomp.Allowed(), seccomp.Case{
			When: []seccomp.Condition{{Arg: flags, Mask: fastOpen, Value: fastOpen}}, Then: seccomp.Refused(noOperation),
		})
	}
	rules := append(commonRules(tunSetIFF),
		seccomp.Cases("socket", seccomp.Refused(noFamily), sockets...),
		seccomp.Cases("socketpair", seccomp.Refused(noFamily), unix...),
		seccomp.Notify("connect"),
		seccomp.Refuse("listen", forbidden),
		seccomp.Cases("setsockopt", seccomp.Allowed(), groups...),
		withSYN("sendto", 3), withSYN("sendmsg", 2), withSYN("sendmmsg", 3),
	)
	// Other processes of the machine have the same IPC namespace. Objects can be used without a call
	// that opens them: their numbers are in /proc/sysvipc, and queues may be files.
	for _, call := range []string{
		"shmget", "shmat", "shmctl", "semget", "semop", "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl",
		"mq_open", "mq_timedsend", "mq_timedreceive", "mq_notify",
	} {
		rules = append(rules, seccomp.Refuse(call, uint16(syscall.ENOSYS)))
	}
	return seccomp.Assemble(seccomp.Native(), uint16(syscall.ENOSYS), rules...)
}
