package socksproxy

import (
	"encoding/binary"
	"net/netip"
	"syscall"
)

// Constants of sock_diag(7) that the syscall package does not have.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	diagRequestSize  = 56 // struct inet_diag_req_v2
	diagMessageSize  = 72 // struct inet_diag_msg
)

// tcpSocketUser returns the user ID of the TCP socket with the given addresses.
// It asks the kernel for this one socket, because reading the table of all
// sockets takes long if there are many. ok is false if this network namespace
// has no such socket, or the kernel does not support the question.
func tcpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) {
	return diagSocketUser(syscall.IPPROTO_TCP, local, remote)
}

// udpSocketUser is like tcpSocketUser for the UDP socket that receives the
// datagrams from remote to local.
func udpSocketUser(local, remote netip.AddrPort) (uid uint32, ok bool) {
	// The kernel looks a UDP socket up by the source and the destination of a
	// datagram that it would receive.
	return diagSocketUser(syscall.IPPROTO_UDP, remote, local)
}

// diagSocketUser sends a sock_diag request for the socket with a source and a
// destination address.
func diagSocketUser(protocol byte, source, destination netip.AddrPort) (uid uint32, ok bool) {
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return 0, false
	}
	defer syscall.Close(fd)

	src, dst := source.Addr().Unmap(), destination.Addr().Unmap()
	family := byte(syscall.AF_INET6)
	if src.Is4() {
		family = syscall.AF_INET
	}
	b := make([]byte, 0, syscall.NLMSG_HDRLEN+diagRequestSize)
	b = binary.NativeEndian.AppendUint32(b, syscall.NLMSG_HDRLEN+diagRequestSize)
	b = binary.NativeEndian.AppendUint16(b, sockDiagByFamily)
	b = binary.NativeEndian.AppendUint16(b, syscall.NLM_F_REQUEST)
	b = append(b, make([]byte, 8)...) // sequence number and port ID
	b = append(b, family, protocol, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // sockets in any state
	b = binary.BigEndian.AppendUint16(b, source.Port())
	b = binary.BigEndian.AppendUint16(b, destination.Port())
	for _, addr := range []netip.Addr{src, dst} {
		var field [16]byte
		copy(field[:], addr.AsSlice())
		b = append(b, field[:]...)
	}
	b = append(b, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) // any interface, no cookie
	if err := syscall.Sendto(fd, b, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, false
	}
	// The kernel has queued its response when Sendto returns.
	response := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, response, syscall.MSG_DONTWAIT)
	if err != nil || n < syscall.NLMSG_HDRLEN+diagMessageSize || binary.NativeEndian.Uint16(response[4:]) != sockDiagByFamily {
		return 0, false
	}
	message := response[syscall.NLMSG_HDRLEN:]
	uid, inode := binary.NativeEndian.Uint32(message[64:]), binary.NativeEndian.Uint32(message[68:])
	return uid, inode != 0 // a socket without an inode belongs to no process any more
}
