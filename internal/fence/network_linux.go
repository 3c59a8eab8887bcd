//go:build linux && (amd64 || arm64)

// This file adds the steps that make the network of a room and its sockets.

package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"example.com/networkproxy/internal/netlink"
)

const (
	// backlog is the number of connections that wait for Accept. The kernel bounds it by
	// net.core.somaxconn.
	backlog = 4096
)

// Numbers of netlink messages, which acknowledgements repeat.
const (
	seqLink = 1 + iota
	seqAddr4
	seqRoute4
	seqAddr6
	seqRoute6
	seqRules
)

// exchange is a request to netlink with its acknowledgements.
type exchange struct {
	open    ref
	send    ref
	receive ref
	buffers [][]byte
	lengths []byte // struct mmsghdr, one for each buffer
}

const (
	ackSize     = 512
	mmsghdrSize = 64
)

// netlink adds the steps that send a request and read up to acks responses.
func (s *script) netlink(name string, family uintptr, request []byte, acks int) exchange {
	on := s.bytes(binary.NativeEndian.AppendUint32(nil, 1))
	var x exchange
	x.open = s.optional(s.add(name+": socket", syscall.SYS_SOCKET, syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, family))
	for _, option := range []uintptr{netlink.OptionCapAck, netlink.OptionExtAck} {
		s.optional(s.on(x.open, name, syscall.SYS_SETSOCKOPT, netlink.SolNetlink, option, on, 4))
	}
	x.send = s.optional(s.on(x.open, name+": send", syscall.SYS_SENDTO, s.bytes(request), uintptr(len(request)), 0, 0, 0))
	x.lengths = s.alloc(acks * mmsghdrSize)
	for i := range acks {
		b := s.alloc(ackSize)
		x.buffers = append(x.buffers, b)
		vec := s.alloc(16) // struct iovec
		binary.NativeEndian.PutUint64(vec, uint64(address(b)))
		binary.NativeEndian.PutUint64(vec[8:], ackSize)
		header := x.lengths[i*mmsghdrSize:] // struct msghdr, then the length
		binary.NativeEndian.PutUint64(header[16:], uint64(address(vec)))
		binary.NativeEndian.PutUint64(header[24:], 1)
	}
	// The kernel answers before sendto(2) returns, so that there is nothing to wait for.
	x.receive = s.optional(s.on(x.open, name+": receive", sysRecvmmsg, address(x.lengths), uintptr(acks), syscall.MSG_DONTWAIT, 0))
	s.optional(s.on(x.open, name+": close", syscall.SYS_CLOSE))
	return x
}

// acks returns the acknowledgements of an exchange, by the number of the request.
func (s *script) acks(x exchange) (map[uint32]netlink.Ack, error) {
	if _, errno := s.result(x.open); errno != 0 {
		return nil, fmt.Errorf("open a netlink socket: %w", errno)
	}
	if _, errno := s.result(x.send); errno != 0 {
		return nil, fmt.Errorf("send to netlink: %w", errno)
	}
	n, errno := s.result(x.receive)
	if errno != 0 {
		return nil, fmt.Errorf("read from netlink: %w", errno)
	}
	acks := make(map[uint32]netlink.Ack)
	for i := range int(n) {
		length := binary.NativeEndian.Uint32(x.lengths[i*mmsghdrSize+56:])
		list, err := netlink.ParseAcks(x.buffers[i][:min(length, ackSize)])
		if err != nil {
			return nil, err
		}
		for _, ack := range list {
			acks[ack.Seq] = ack
		}
	}
	return acks, nil
}

// ackError returns the error of the first request of first to last that has failed or has
// no acknowledgement.
func ackError(acks map[uint32]netlink.Ack, first, last uint32) error {
	for seq := first; seq <= last; seq++ {
		ack, ok := acks[seq]
		switch {
		case !ok:
			return fmt.Errorf("netlink request %d was not acknowledged", seq)
		case ack.Errno != 0 && ack.Message != "":
			return fmt.Errorf("netlink request %d: %w (%s)", seq, syscall.Errno(ack.Errno), ack.Message)
		case ack.Errno != 0:
			return fmt.Errorf("netlink request %d: %w", seq, syscall.Errno(ack.Errno))
		}
	}
	return nil
}

// routes returns the requests that make every address local.
func routes(addr4, addr6 netip.Addr, ipv6 bool) (request []byte, acks int) {
	b := netlink.AppendLinkUp(nil, seqLink, netlink.Loopback)
	b = netlink.AppendAddress(b, seqAddr4, netlink.Loopback, addr4)
	b = netlink.AppendLocalRoute(b, seqRoute4, netlink.Loopback, addr4)
	if !ipv6 {
		return b, 3
	}
	b = netlink.AppendAddress(b, seqAddr6, netlink.Loopback, addr6)
	return netlink.AppendLocalRoute(b, seqRoute6, netlink.Loopback, addr6), 5
}

// rules returns the nf_tables rules of a room.
func rules(addr4, addr6 netip.Addr, udp bool) *netlink.Ruleset {
	const chain, mangle = "capture", -150
	r := netlink.NewRuleset(seqRules, "fence")
	r.Chain(chain, netlink.Prerouting, mangle)
	// The room's own addresses: its servers, and the way back of every connection.
	for _, own := range []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8),
		netip.PrefixFrom(netip.IPv6Loopback(), 128),
		netip.PrefixFrom(addr4, addr4.BitLen()),
		netip.PrefixFrom(addr6, addr6.BitLen()),
	} {
		r.Rule(chain, netlink.ToPrefix(own), netlink.Accept())
	}
	// Every address is local, so that the sockets on port 53 receive these by themselves.
	for _, p := range []netlink.Protocol{netlink.TCP, netlink.UDP} {
		r.Rule(chain, netlink.IsProtocol(p), netlink.ToPort(dnsPort), netlink.Accept())
	}
	r.Rule(chain, netlink.IsProtocol(netlink.TCP), netlink.TProxy(capturePort), netlink.Accept())
	if udp {
		r.Rule(chain, netlink.IsProtocol(netlink.UDP), netlink.TProxy(capturePort), netlink.Accept())
	} else {
		r.Rule(chain, netlink.IsProtocol(netlink.UDP), netlink.Reject())
	}
	return r // the chain drops everything else
}

// socketOptions are the kinds of sockets of a room.
type socketOptions struct {
	transparent bool // receives packets to foreign addresses, and sends from them
	packetInfo  bool // tells the address that a datagram was sent to
	originalDst bool // tells the address and port, for datagrams that TPROXY redirects
}

// socket adds the steps that make a socket bound to a port of any address, or of one
// address. For IPv6 it serves IPv4, too, if addr is unspecified.
func (s *script) socket(name string, kind uintptr, addr netip.AddrPort, o socketOptions) ref {
	family := uintptr(syscall.AF_INET)
	if addr.Addr().Is6() {
		family = syscall.AF_INET6
	}
	fd := s.add(name, syscall.SYS_SOCKET, family, kind|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	on := s.bytes(binary.NativeEndian.AppendUint32(nil, 1))
	off := s.bytes(binary.NativeEndian.AppendUint32(nil, 0))
	set := func(level, option, value uintptr) {
		s.on(fd, name, syscall.SYS_SETSOCKOPT, level, option, value, 4)
	}
	v6 := family == syscall.AF_INET6
	if v6 && addr.Addr().IsUnspecified() {
		set(syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, off)
	}
	for _, option := range []struct {
		use    bool
		v4, v6 uintptr
	}{
		{o.transparent, ipTransparent, ipv6Transparent},
		{o.packetInfo, syscall.IP_PKTINFO, syscall.IPV6_RECVPKTINFO},
		{o.originalDst, ipRecvOrigDstAddr, ipv6RecvOrigDstAddr},
	} {
		if !option.use {
			continue
		}
		set(syscall.IPPROTO_IP, option.v4, on)
		if v6 {
			set(syscall.IPPROTO_IPV6, option.v6, on)
		}
	}
	sockaddr := encodeSockaddr(addr)
	s.on(fd, name+": bind", syscall.SYS_BIND, s.bytes(sockaddr), uintptr(len(sockaddr)))
	if kind == syscall.SOCK_STREAM {
		s.on(fd, name+": listen", syscall.SYS_LISTEN, backlog)
	}
	return fd
}

// encodeSockaddr returns struct sockaddr_in or struct sockaddr_in6.
func encodeSockaddr(a netip.AddrPort) []byte {
	if a.Addr().Is4() {
		b := binary.NativeEndian.AppendUint16(nil, syscall.AF_INET)
		b = binary.BigEndian.AppendUint16(b, a.Port())
		b = append(b, a.Addr().AsSlice()...)
		return append(b, make([]byte, 8)...)
	}
	b := binary.NativeEndian.AppendUint16(nil, syscall.AF_INET6)
	b = binary.BigEndian.AppendUint16(b, a.Port())
	b = append(b, 0, 0, 0, 0) // flow label
	b = append(b, a.Addr().AsSlice()...)
	return append(b, 0, 0, 0, 0) // zone
}

// haveIPv6 reports whether the kernel has IPv6 sockets.
func haveIPv6() bool {
	fd, err := syscall.Socket(syscall.AF_INET6, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	syscall.Close(fd)
	return true
}

// listener turns a descriptor into a listener. It closes the descriptor.
func listener(fd int, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return net.FileListener(f)
}

// packetConn turns a descriptor into a connection of type C. It closes the descriptor.
func packetConn[C net.PacketConn](fd int, name string) (c C, err error) {
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	p, err := net.FilePacketConn(f)
	if err != nil {
		return c, err
	}
	c, ok := p.(C)
	if !ok {
		p.Close()
		return c, errors.New("socket of another kind")
	}
	return c, nil
}
