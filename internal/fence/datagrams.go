package fence

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// Datagrams is a UDP socket of a room that receives datagrams for every address, and sends
// from every address. Its methods may be called by several goroutines at once.
type Datagrams struct {
	conn *net.UDPConn

	// Datagrams from other ports than that of conn are sent through raw sockets, with a
	// header made here. They are nil if conn sends all datagrams.
	raw4, raw6 *net.IPConn

	// queries replaces the sockets above in a room without a network of its own.
	queries *querySockets
}

// Receive reads one datagram into b. It returns the length, the address of the sender inside
// the room, and the address that the sender sent it to. A datagram that is longer than b is
// cut off. After Close, the error matches net.ErrClosed.
func (d *Datagrams) Receive(b []byte) (n int, client, target netip.AddrPort, err error) {
	if d.queries != nil {
		return d.queries.receive(b)
	}
	var control [128]byte
	for {
		var controlLen int
		n, controlLen, _, client, err = d.conn.ReadMsgUDPAddrPort(b, control[:])
		if err != nil {
			// A client that has closed its socket makes the kernel report that.
			if errors.Is(err, syscall.ECONNREFUSED) {
				continue
			}
			return 0, client, target, err
		}
		var ok bool
		if target, ok = targetOf(control[:controlLen], uint16(d.conn.LocalAddr().(*net.UDPAddr).Port)); ok {
			return n, unmap(client), target, nil
		}
	}
}

// Send sends b to client as a datagram from target. Both must be of the same address family.
// It is no error if client has closed its socket.
func (d *Datagrams) Send(b []byte, target, client netip.AddrPort) error {
	if d.queries != nil {
		return d.queries.send(b, client)
	}
	target, client = unmap(target), unmap(client)
	if target.Addr().Is4() != client.Addr().Is4() {
		return fmt.Errorf("fence: a datagram from %v to %v: the families of the addresses differ", target, client)
	}
	var err error
	if d.raw4 == nil {
		_, _, err = d.conn.WriteMsgUDPAddrPort(b, sourceControl(target.Addr()), client)
	} else {
		err = d.sendRaw(b, target, client)
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

func (d *Datagrams) sendRaw(b []byte, target, client netip.AddrPort) error {
	packet, err := encodeDatagram(b, target, client)
	if err != nil {
		return err
	}
	raw := d.raw4
	if client.Addr().Is6() {
		raw = d.raw6
	}
	if raw == nil {
		return fmt.Errorf("fence: a datagram to %v: the room has no IPv6", client)
	}
	_, err = raw.WriteTo(packet, &net.IPAddr{IP: client.Addr().AsSlice()})
	return err
}

// Close closes the socket and ends calls of Receive.
func (d *Datagrams) Close() error {
	if d.queries != nil {
		d.queries.close()
		return nil
	}
	for _, raw := range []*net.IPConn{d.raw4, d.raw6} {
		if raw != nil {
			raw.Close()
		}
	}
	return d.conn.Close()
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Control messages of Linux (ip(7), ipv6(7)).
const (
	levelIP       = 0
	levelIPv6     = 41
	ipPacketInfo  = 8  // IP_PKTINFO
	ip6PacketInfo = 50 // IPV6_PKTINFO
	ipOrigDst     = 20 // IP_ORIGDSTADDR
	ip6OrigDst    = 74 // IPV6_ORIGDSTADDR

	controlHeader = 16 // bytes of struct cmsghdr: length, level, type
)

// targetOf returns the address that a datagram was sent to, from its control messages.
// Packet information has no port; the port of the socket is used then.
func targetOf(control []byte, port uint16) (target netip.AddrPort, ok bool) {
	for len(control) >= controlHeader {
		n := binary.NativeEndian.Uint64(control)
		if n < controlHeader || n > uint64(len(control)) {
			return target, ok
		}
		level, typ := binary.NativeEndian.Uint32(control[8:]), binary.NativeEndian.Uint32(control[12:])
		data := control[controlHeader:n]
		switch {
		case level == levelIP && typ == ipPacketInfo && len(data) >= 12 && !ok:
			// struct in_pktinfo: device, local address, destination
			target, ok = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[8:])), port), true
		case level == levelIPv6 && typ == ip6PacketInfo && len(data) >= 16 && !ok:
			target, ok = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data)).Unmap(), port), true
		case level == levelIP && typ == ipOrigDst && len(data) >= 8:
			target, ok = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:])), binary.BigEndian.Uint16(data[2:])), true
		case level == levelIPv6 && typ == ip6OrigDst && len(data) >= 24:
			target, ok = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[8:])).Unmap(), binary.BigEndian.Uint16(data[2:])), true
		}
		control = control[min((n+7)&^7, uint64(len(control))):]
	}
	return target, ok
}

// sourceControl returns the control message that sets the source of a datagram.
func sourceControl(source netip.Addr) []byte {
	data, level, typ := make([]byte, 12), uint32(levelIP), uint32(ipPacketInfo)
	if source.Is4() {
		copy(data[4:], source.AsSlice())
	} else {
		data, level, typ = make([]byte, 20), levelIPv6, ip6PacketInfo
		copy(data, source.AsSlice())
	}
	b := binary.NativeEndian.AppendUint64(nil, uint64(controlHeader+len(data)))
	b = binary.NativeEndian.AppendUint32(b, level)
	b = binary.NativeEndian.AppendUint32(b, typ)
	b = append(b, data...)
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

// encodeDatagram returns an IP packet with a UDP datagram (RFC 791, RFC 8200, RFC 768).
func encodeDatagram(b []byte, source, dest netip.AddrPort) ([]byte, error) {
	const protocolUDP, hops, udpHeader = 17, 64, 8
	ipHeader, version := 20, byte(4<<4|5)
	if source.Addr().Is6() {
		ipHeader, version = 40, 6<<4
	}
	length := udpHeader + len(b)
	total := length
	if source.Addr().Is4() {
		total += ipHeader
	}
	if total > 0xffff {
		return nil, fmt.Errorf("fence: a datagram of %d bytes is too long for UDP", len(b))
	}
	p := make([]byte, ipHeader+udpHeader, ipHeader+length)
	p[0] = version
	if source.Addr().Is4() {
		// The kernel fills in the identification and the checksum.
		binary.BigEndian.PutUint16(p[2:], uint16(total))
		p[8], p[9] = hops, protocolUDP
		copy(p[12:], source.Addr().AsSlice())
		copy(p[16:], dest.Addr().AsSlice())
	} else {
		binary.BigEndian.PutUint16(p[4:], uint16(length))
		p[6], p[7] = protocolUDP, hops
		copy(p[8:], source.Addr().AsSlice())
		copy(p[24:], dest.Addr().AsSlice())
	}
	udp := p[ipHeader:]
	binary.BigEndian.PutUint16(udp, source.Port())
	binary.BigEndian.PutUint16(udp[2:], dest.Port())
	binary.BigEndian.PutUint16(udp[4:], uint16(length))
	p = append(p, b...)
	sum := checksum(p[ipHeader:], source.Addr().AsSlice(), dest.Addr().AsSlice(), protocolUDP)
	binary.BigEndian.PutUint16(p[ipHeader+6:], sum)
	return p, nil
}

// checksum returns the checksum of UDP over a datagram and the pseudo header. It is never
// zero, which would mean that there is none.
func checksum(datagram, source, dest []byte, protocol byte) uint16 {
	sum := uint32(protocol) + uint32(len(datagram))
	for _, part := range [][]byte{source, dest, datagram} {
		for i := 0; i+1 < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
		if len(part)%2 == 1 {
			sum += uint32(part[len(part)-1]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		return 0xffff
	}
	return ^uint16(sum)
}
