//go:build linux && (amd64 || arm64)

// This file makes the inside of a room while the command is stopped.

package fence

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"syscall"

	"example.com/networkproxy/internal/netlink"
)

// furnish makes the inside of the room, and fills in the sockets and the report. The process
// has extraFiles descriptors beside the standard streams. If extraFiles is negative, the
// process is not a command, and its descriptors are not checked.
func (r *Room) furnish(l *limits, pid, extraFiles int) error {
	if r.report.Mechanism == Notification {
		if extraFiles >= 0 {
			if err := checkDescriptors(pid, extraFiles); err != nil {
				return err
			}
		}
		return r.furnishWithout(l)
	}
	if err := mapIDs(pid); err != nil {
		fix := "the system restricts user namespaces"
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.EROFS):
			fix = "mount /proc, not read-only"
		case errors.Is(err, syscall.EACCES):
			fix = "let the command be a file that you can read"
		}
		return problem("user namespace", err, fix)
	}
	if extraFiles >= 0 {
		if err := checkDescriptors(pid, extraFiles); err != nil {
			return err
		}
	}
	inside, err := openInside(pid)
	if err != nil {
		return problem("namespaces", err, "use Linux 5.8 or later")
	}
	defer inside.close()
	// Namespaces and the filter close these.
	r.report.Enforced = Enforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixAbstract: true, VSock: true, IOUring: true, Ptrace: true, Signals: l.support.Scopes}
	diag, err := r.makeNetwork(inside, l.config)
	if err != nil {
		return err
	}
	return r.closeUnixSockets(l, inside, diag)
}

// furnishWithout is furnish for a room without namespaces.
func (r *Room) furnishWithout(l *limits) error {
	listener := l.listener
	l.listener = -1
	if err := r.notify(listener, l.config); err != nil {
		return err
	}
	// The filter, the notifier and Landlock close these.
	r.report.Enforced = Enforced{TCP: true, UDP: true, ICMP: true, IPv6: true, UnixPath: true, UnixAbstract: true, VSock: true, IOUring: true, Ptrace: true, Signals: true}
	r.report.AllPorts, r.report.IPv6, r.report.UnixSockets = true, haveIPv6(), UnixBroker
	if l.config.UDP {
		const fix = "use TCP, or allow user namespaces"
		r.addProblem("datagrams", errors.New("without namespaces, datagrams are refused"), fix)
	}
	return nil
}

// closeUnixSockets keeps the command from unix sockets of the machine. It owns diag, a netlink
// socket in the namespace of the room.
func (r *Room) closeUnixSockets(l *limits, n *inside, diag int) error {
	if l.support.UnixSockets {
		syscall.Close(diag)
		r.report.UnixSockets, r.report.Enforced.UnixPath = UnixLandlock, true
		return nil
	}
	if l.listener >= 0 {
		outside, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlink.FamilySockDiag)
		if err != nil {
			syscall.Close(diag)
			return problem("unix sockets", err, "use a kernel with CONFIG_UNIX_DIAG")
		}
		listed, err := openListed(l.config.UnixSockets)
		if err != nil {
			syscall.Close(diag)
			syscall.Close(outside)
			return err
		}
		b := newBroker(l.listener, &unixSockets{listed: listed, refused: l.config.SocketRefused, inside: diag, outside: outside})
		l.listener = -1
		r.onClose(b.close)
		r.report.UnixSockets, r.report.Enforced.UnixPath = UnixBroker, true
		return nil
	}
	syscall.Close(diag)
	hidden, err := hideSockets(n, l.config.UnixSockets)
	r.report.UnixSockets, r.report.Hidden = UnixHidden, hidden
	if err != nil {
		r.report.UnixSockets = UnixOpen
		r.addProblem("hide unix sockets", err, "")
	}
	fix := "use Linux 7.1 or later"
	if errors.Is(l.refused, syscall.EBUSY) {
		fix = "another program supervises the system calls of this one, such as another fence: start the host outside of it, or use Linux 7.1 or later"
	}
	r.addProblem("seccomp notification", l.refused, fix)
	return nil
}

func (r *Room) addProblem(part string, err error, fix string) {
	r.report.Problems = append(r.report.Problems, Problem{Part: part, Error: err.Error(), Fix: fix})
}

// inside is a handle of the namespaces of a room.
type inside struct{ pidfd int }

func openInside(pid int) (*inside, error) {
	fd, _, errno := syscall.RawSyscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return nil, fmt.Errorf("pidfd_open: %w", errno)
	}
	return &inside{int(fd)}, nil
}

func (n *inside) close() { syscall.Close(n.pidfd) }

// kill ends the process of the handle. It does nothing if the process has ended, even if another
// one has its id.
func (n *inside) kill() {
	syscall.RawSyscall6(sysPidfdSendSignal, uintptr(n.pidfd), uintptr(syscall.SIGKILL), 0, 0, 0, 0)
}

// script returns a script whose first step joins the namespaces.
func (n *inside) script() (*script, error) {
	s, err := newScript()
	if err != nil {
		return nil, err
	}
	s.add("join the namespaces", sysSetns, uintptr(n.pidfd), namespaces)
	return s, nil
}

// makeNetwork makes routes, rules and sockets.
func (r *Room) makeNetwork(n *inside, c Config) (diag int, err error) {
	s, err := n.script()
	if err != nil {
		return -1, err
	}
	defer s.close()
	ipv6 := haveIPv6()
	request, acks := routes(c.Addr4, c.Addr6, ipv6)
	network := s.netlink("rtnetlink", syscall.NETLINK_ROUTE, request, acks)
	ruleset := rules(c.Addr4, c.Addr6, c.UDP)
	tables := s.netlink("nf_tables", syscall.NETLINK_NETFILTER, ruleset.Bytes(), ruleset.Acks())
	sockets := r.planSockets(s, c, ipv6)
	defer sockets.close(s)
	list := s.add("list of unix sockets", syscall.SYS_SOCKET, syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlink.FamilySockDiag)
	sockets.add(list, func(fd int) error {
		diag = fd
		return nil
	})
	var nested []ref
	if c.NoNested {
		nested = s.write("/proc/sys/user/max_user_namespaces", "0")
	}
	queues := s.replaceQueues()
	var readOnly []ref
	if r.report.Root {
		readOnly = s.readOnly(kernelSettings)
	}
	if err := s.run(); err != nil {
		return -1, problem("network namespace", err, "")
	}
	if err := r.checkRoutes(s, network, ipv6); err != nil {
		return -1, err
	}
	if err := r.checkRules(s, tables, ruleset.Acks(), len(c.Ports) > 0); err != nil {
		return -1, err
	}
	if err := s.failed(nested); err != nil {
		return -1, problem("nested namespaces", err, "mount /proc, or allow nested namespaces")
	}
	if err := s.failed(queues, syscall.ENOENT, syscall.ENOTDIR, syscall.EACCES); err != nil { // the command cannot find those either
		r.addProblem("message queues", err, "unmount the file systems of type mqueue, so that the command finds no queue of the machine")
	}
	if err := s.failed(readOnly, syscall.ENOENT); err != nil {
		return -1, problem("kernel settings", err, "use Linux 5.12 or later, or run as an ordinary user")
	}
	r.report.UDP = c.UDP && r.report.AllPorts
	if err = sockets.adopt(s); err != nil || r.report.AllPorts {
		return diag, err
	}
	if err = r.listenOnPorts(n, c, ipv6); err != nil {
		syscall.Close(diag)
	}
	return diag, err
}

// checkRoutes checks that the loopback device is up and every address is local.
func (r *Room) checkRoutes(s *script, x exchange, ipv6 bool) error {
	const fix = "use a kernel with CONFIG_IP_MULTIPLE_TABLES"
	acks, err := s.acks(x)
	if err != nil {
		return problem("routes", err, fix)
	}
	if err := ackError(acks, seqLink, seqRoute4); err != nil {
		return problem("routes", err, fix)
	}
	if !ipv6 {
		return nil
	}
	// IPv6 may be switched off. Then it leads nowhere.
	if err := ackError(acks, seqAddr6, seqRoute6); err != nil {
		r.addProblem("IPv6", err, "set net.ipv6.conf.default.disable_ipv6=0, or do without IPv6")
		return nil
	}
	r.report.IPv6 = true
	return nil
}

// checkRules checks that nf_tables has taken the rules. The room can do without them if it
// captures some ports only.
func (r *Room) checkRules(s *script, x exchange, n int, somePorts bool) error {
	acks, err := s.acks(x)
	if err == nil {
		// The batch begins with a message that is not acknowledged.
		err = ackError(acks, seqRules+1, seqRules+uint32(n))
	}
	const fix = "use a kernel with nf_tables and its TPROXY support (nf_tables, nft_tproxy, nft_reject_inet)"
	switch {
	case err == nil:
		r.report.AllPorts = true
	case somePorts:
		r.addProblem("nf_tables", err, fix)
	default:
		return problem("nf_tables", err, fix)
	}
	return nil
}

// listenOnPorts replaces the capture listener by one for each port of Config.Ports. All
// addresses are local, so that they accept connections to every address.
func (r *Room) listenOnPorts(n *inside, c Config, ipv6 bool) error {
	for _, ln := range r.TCP {
		ln.Close()
	}
	r.TCP = nil
	s, err := n.script()
	if err != nil {
		return err
	}
	defer s.close()
	l := new(sockets)
	defer l.close(s)
	for _, port := range c.Ports {
		r.planListener(s, l, netip.AddrPortFrom(unspecified(ipv6), port), socketOptions{}, func(ln net.Listener) { r.TCP = append(r.TCP, ln) })
	}
	if err := s.run(); err != nil {
		return problem("network namespace", err, "")
	}
	return l.adopt(s)
}

// unspecified is the address of sockets that serve all addresses.
func unspecified(ipv6 bool) netip.Addr {
	if ipv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// planListener adds the steps that make a listener.
func (r *Room) planListener(s *script, l *sockets, a netip.AddrPort, o socketOptions, use func(net.Listener)) {
	name := "listener on " + a.String()
	l.add(s.socket(name, syscall.SOCK_STREAM, a, o), func(fd int) error {
		ln, err := listener(fd, name)
		if err == nil {
			r.onClose(func() { ln.Close() })
			use(ln)
		}
		return err
	})
}

// sockets are the sockets that a script makes, with what becomes of them.
type sockets []struct {
	fd    ref
	adopt func(fd int) error // owns the descriptor
}

func (l *sockets) add(fd ref, adopt func(fd int) error) {
	*l = append(*l, struct {
		fd    ref
		adopt func(fd int) error
	}{fd, adopt})
}

// adopt hands over the sockets in their order. It stops at the first error.
func (l *sockets) adopt(s *script) error {
	for len(*l) > 0 {
		next := (*l)[0]
		*l = (*l)[1:]
		fd, errno := s.result(next.fd)
		if errno != 0 {
			return errno
		}
		if err := next.adopt(int(fd)); err != nil {
			return fmt.Errorf("fence: a socket of the room: %w", err)
		}
	}
	return nil
}

// close closes the sockets that were not adopted.
func (l *sockets) close(s *script) {
	for _, rest := range *l {
		if fd, errno := s.result(rest.fd); errno == 0 {
			syscall.Close(int(fd))
		}
	}
}

// planSockets adds the steps that make the sockets of the room.
func (r *Room) planSockets(s *script, c Config, ipv6 bool) *sockets {
	l := new(sockets)
	capture, dns := netip.AddrPortFrom(unspecified(ipv6), capturePort), netip.AddrPortFrom(unspecified(ipv6), dnsPort)
	datagrams := func(name string, a netip.AddrPort, o socketOptions) *Datagrams {
		d := new(Datagrams)
		l.add(s.socket(name, syscall.SOCK_DGRAM, a, o), func(fd int) (err error) {
			if d.conn, err = packetConn[*net.UDPConn](fd, name); err == nil {
				r.onClose(func() { d.Close() })
			}
			return err
		})
		return d
	}
	raw := func(name string, family uintptr, use func(*net.IPConn)) {
		fd := s.add(name, syscall.SYS_SOCKET, family, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, syscall.IPPROTO_RAW)
		l.add(fd, func(fd int) error {
			conn, err := packetConn[*net.IPConn](fd, name)
			if err == nil {
				use(conn)
			}
			return err
		})
	}

	r.planListener(s, l, capture, socketOptions{transparent: true}, func(ln net.Listener) { r.TCP = append(r.TCP, ln) })
	r.planListener(s, l, dns, socketOptions{}, func(ln net.Listener) { r.DNSStreams = ln })
	r.DNS = datagrams("DNS socket", dns, socketOptions{transparent: true, packetInfo: true})
	if c.UDP {
		r.UDP = datagrams("UDP socket", capture, socketOptions{transparent: true, originalDst: true})
		raw("raw IPv4 socket", syscall.AF_INET, func(c *net.IPConn) { r.UDP.raw4 = c })
		if ipv6 {
			raw("raw IPv6 socket", syscall.AF_INET6, func(c *net.IPConn) { r.UDP.raw6 = c })
		}
	}
	r.Listeners = make([]net.Listener, len(c.Listen))
	for i, a := range c.Listen {
		if a.Addr().Is6() && !ipv6 {
			idle := newIdleListener(net.TCPAddrFromAddrPort(a))
			r.onClose(func() { idle.Close() })
			r.Listeners[i] = idle
			continue
		}
		r.planListener(s, l, a, socketOptions{}, func(ln net.Listener) { r.Listeners[i] = ln })
	}
	return l
}
