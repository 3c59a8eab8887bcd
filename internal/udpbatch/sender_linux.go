// Sending with UDP_SEGMENT.

package udpbatch

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
)

// maxJoined is the maximum number of bytes to send as one message: a bit less
// than the longest datagram, because headers need room.
const maxJoined = 65000

// Sender sends from one socket to one address. It is for one goroutine. A
// socket may have several Senders.
type Sender struct {
	conn    syscall.RawConn
	to      syscall.Sockaddr
	header  []byte
	try     func(fd uintptr) bool
	data    []byte
	control []byte // of the current try
	err     error

	// Datagrams of this length or longer are not joined, because the system
	// refused such a message. It is 1 if the system does not join datagrams at
	// all.
	joinLimit int
	segment   []byte // the control message that makes the kernel split joined datagrams
}

// NewSender returns a sender to an address, which must be zero if conn is
// connected. header precedes every datagram.
func NewSender(conn *net.UDPConn, to netip.AddrPort, header []byte) (*Sender, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Sender{conn: raw, to: sockaddr(to), header: header, joinLimit: 1, segment: segmentMessage()}
	s.try = s.send
	// A system that does not know the control message would ignore it, and send
	// one datagram instead of many.
	err = raw.Control(func(fd uintptr) {
		if _, err := syscall.GetsockoptInt(int(fd), solUDP, udpSegment); err == nil {
			s.joinLimit = maxJoined
		}
	})
	return s, err
}

// Send sends datagrams in order and returns how many of them the system did not
// accept, for example because its buffer was full. Send does not wait. It tries
// everything twice, because an error of the system usually concerns an earlier
// datagram. It overwrites scratch, which must have room for a header and a
// datagram if there is a header. The room in scratch limits how many datagrams
// are joined.
func (s *Sender) Send(datagrams [][]byte, scratch []byte) (lost int) {
	for len(datagrams) > 0 {
		n := s.joinable(datagrams, len(scratch))
		if n == 1 || !s.sendJoined(datagrams[:n], scratch) {
			for _, data := range datagrams[:n] {
				if len(s.header) > 0 {
					data = append(append(scratch[:0], s.header...), data...)
				}
				if s.sendRetrying(data, nil) != nil {
					lost++
				}
			}
		}
		datagrams = datagrams[n:]
	}
	return lost
}

// joinable returns how many of the datagrams, at least one, can be sent as one
// message of at most room bytes. All must have the length of the first, except
// that the last may be shorter. An empty datagram cannot be joined.
func (s *Sender) joinable(datagrams [][]byte, room int) int {
	size := len(s.header) + len(datagrams[0])
	if size == 0 || size >= s.joinLimit {
		return 1
	}
	n, sum := 1, size
	for _, data := range datagrams[1:min(len(datagrams), MaxBatch)] {
		length := len(s.header) + len(data)
		sum += length
		if length == 0 || length > size || sum > min(room, maxJoined) {
			break
		}
		n++
		if length < size {
			break
		}
	}
	return n
}

// sendJoined sends datagrams as one message. It reports false if none of them
// was sent.
func (s *Sender) sendJoined(datagrams [][]byte, scratch []byte) bool {
	joined := scratch[:0]
	for _, data := range datagrams {
		joined = append(append(joined, s.header...), data...)
	}
	size := len(s.header) + len(datagrams[0])
	setSegment(s.segment, size)
	err := s.sendRetrying(joined, s.segment)
	switch {
	case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EMSGSIZE):
		s.joinLimit = size // larger than the path MTU: such a datagram is sent alone, in fragments
	case errors.Is(err, syscall.EIO):
		s.joinLimit = 1 // the network interface does not compute checksums
	}
	return err == nil
}

func (s *Sender) sendRetrying(data, control []byte) error {
	s.data, s.control = data, control
	defer func() { s.data, s.control = nil, nil }()
	for attempt := 0; ; attempt++ {
		s.err = nil
		err := s.conn.Write(s.try)
		if err == nil {
			err = s.err
		}
		if err == nil || attempt == 1 {
			return err
		}
	}
}

// send makes one try. It always reports true, because it does not wait.
func (s *Sender) send(fd uintptr) bool {
	for {
		_, err := syscall.SendmsgN(int(fd), s.data, s.control, s.to, 0)
		if err != syscall.EINTR {
			s.err = os.NewSyscallError("sendmsg", err)
			return true
		}
	}
}

// sockaddr returns an address in the form that the kernel expects, or nil for a
// zero address.
func sockaddr(to netip.AddrPort) syscall.Sockaddr {
	addr := to.Addr()
	switch {
	case !addr.IsValid():
		return nil
	case addr.Is4():
		return &syscall.SockaddrInet4{Port: int(to.Port()), Addr: addr.As4()}
	}
	a := &syscall.SockaddrInet6{Port: int(to.Port()), Addr: addr.As16()}
	if zone := addr.Zone(); zone != "" {
		if i, err := net.InterfaceByName(zone); err == nil {
			a.ZoneId = uint32(i.Index)
		} else if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
			a.ZoneId = uint32(n)
		}
	}
	return a
}
