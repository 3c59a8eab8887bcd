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

// mostJoined is how many bytes go as one: what one datagram of the longest
// kind has, less than the least the system takes.
const maxJoined = 65000

// Sender sends from one socket to one address. It is for one goroutine; a
// socket may have several.
type Sender struct {
	conn    syscall.RawConn
	to      syscall.Sockaddr
	header  []byte
	try     func(fd uintptr) bool
	data    []byte
	control []byte // of the try
	err     error

	// joined is the length from which on datagrams are not joined: the system
	// did not take them. It is 1 where it takes none.
	joinLimit int
	segment   []byte // the control message that has them cut apart
}

// NewSender returns a sender to an address; it is zero for a socket that is
// connected. header goes before every datagram.
func NewSender(conn *net.UDPConn, to netip.AddrPort, header []byte) (*Sender, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Sender{conn: raw, to: sockaddr(to), header: header, joinLimit: 1, segment: segmentMessage()}
	s.try = s.send
	// A system that does not know the control message would pass over it, and
	// send one datagram where many are meant.
	err = raw.Control(func(fd uintptr) {
		if _, err := syscall.GetsockoptInt(int(fd), solUDP, udpSegment); err == nil {
			s.joinLimit = maxJoined
		}
	})
	return s, err
}

// Send sends datagrams in their order and returns how many of them the system
// would not take, because its buffer is full, say: it does not wait. An error
// that the system reports is what became of an earlier datagram, usually, so
// that everything gets a second chance. scratch is overwritten. It must have
// room for a header and a datagram if there is a header; as many datagrams go
// together as have room.
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

// run returns how many of the datagrams, at least one, can go as one of at
// most room bytes: all must be as long as the first, but the last may be
// shorter. An empty one would be nothing.
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

// sendJoined sends a run. It reports false if none of it was sent.
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
		s.joinLimit = size // longer than fits the way at once: it goes in fragments
	case errors.Is(err, syscall.EIO):
		s.joinLimit = 1 // a network card that does not compute checksums
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

// send always reports true: it does not wait.
func (s *Sender) send(fd uintptr) bool {
	for {
		_, err := syscall.SendmsgN(int(fd), s.data, s.control, s.to, 0)
		if err != syscall.EINTR {
			s.err = os.NewSyscallError("sendmsg", err)
			return true
		}
	}
}

// sockaddr is an address in the form of the socket that it came from: nil if
// there is none.
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
