// Reading with recvmmsg(2) and UDP_GRO.
//
// The system call is made directly. ReadBatch of golang.org/x/net/ipv4 took 11%
// more CPU time in BenchmarkRelay and allocates an address for each message. It
// also depends on golang.org/x/sys, and needs its buffers while it waits.

package udpbatch

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// message is struct mmsghdr.
type message struct {
	header syscall.Msghdr
	length uint32
}

// batch is the memory for one call. It contains pointers to its own fields and
// must not be copied.
type batch struct {
	messages  [MaxBatch]message
	vectors   [MaxBatch]syscall.Iovec
	names     [MaxBatch][syscall.SizeofSockaddrInet6]byte
	controls  [MaxBatch][controlSize]byte
	slots     []byte
	scratch   []byte
	datagrams []datagram // the received datagrams
	size      int        // number of messages that it has slots for
}

// datagram is the location of one datagram. A message may hold several.
type datagram struct {
	message, length int32
	offset          int // in batch.slots
}

// stride is the distance between slots. It makes datagrams begin at different
// offsets of a page, and so in different lines of the processor's cache.
const stride = 128 + maxDatagram

func newBatch(size int) *batch {
	b := &batch{slots: make([]byte, size*stride), scratch: make([]byte, maxDatagram), size: size}
	for i := range size {
		b.vectors[i].Base = &b.slots[i*stride]
		b.vectors[i].SetLen(maxDatagram)
		b.messages[i].header.Iov = &b.vectors[i]
		b.messages[i].header.Iovlen = 1
		b.messages[i].header.Name = &b.names[i][0]
		b.messages[i].header.Control = &b.controls[i][0]
	}
	return b
}

// Reader reads from one socket. It is for one goroutine.
type Reader struct {
	conn    syscall.RawConn
	buffers *Buffers
	try     func(fd uintptr) bool
	batch   *batch // nil while waiting
	err     error

	// The sender last returned by From, and its kernel form. Most datagrams
	// have the same sender as the previous one.
	from netip.AddrPort
	name [syscall.SizeofSockaddrInet6]byte
}

// NewReader returns a reader of conn. Nothing else may read from conn.
func NewReader(conn *net.UDPConn, buffers *Buffers) (*Reader, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	r := &Reader{conn: raw, buffers: buffers}
	r.try = r.receive
	err = raw.Control(func(fd uintptr) {
		// Systems without UDP_GRO deliver every datagram separately.
		syscall.SetsockoptInt(int(fd), solUDP, udpGRO, 1)
	})
	return r, err
}

// Read waits for datagrams and returns the number received. They are valid
// until the next Read or Close. Read also returns if the socket's read deadline
// passes or the socket is closed; the error is that of a read from the socket,
// and n is 0.
func (r *Reader) Read() (n int, err error) {
	r.err = nil
	err = r.conn.Read(r.try)
	if err == nil {
		err = r.err
	}
	if err != nil {
		r.Close()
		return 0, err
	}
	return len(r.batch.datagrams), nil
}

// Close returns the buffers to Buffers. It does not close the socket.
func (r *Reader) Close() {
	if r.batch != nil {
		r.buffers.put(r.batch)
		r.batch = nil
	}
}

// receive reads the available messages. It reports false if there are none.
func (r *Reader) receive(fd uintptr) bool {
	if r.batch == nil {
		r.batch = r.buffers.get()
	}
	for i := range r.batch.size {
		header := &r.batch.messages[i].header
		header.Namelen = syscall.SizeofSockaddrInet6
		header.SetControllen(controlSize)
	}
	for {
		n, _, errno := syscall.Syscall6(syscall.SYS_RECVMMSG, fd,
			uintptr(unsafe.Pointer(&r.batch.messages)), uintptr(r.batch.size), syscall.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			r.batch.split(int(n))
			return true
		case syscall.EINTR:
		case syscall.EAGAIN:
			r.Close()
			return false
		default:
			r.err = os.NewSyscallError("recvmmsg", errno)
			return true
		}
	}
}

// split locates the datagrams in n messages.
func (b *batch) split(n int) {
	b.datagrams = b.datagrams[:0]
	for i := range n {
		left := int(b.messages[i].length)
		size := left
		if joined := segmentSize(b.controls[i][:b.messages[i].header.Controllen]); joined > 0 {
			size = joined
		}
		at := i * stride
		for {
			length := min(size, left)
			b.datagrams = append(b.datagrams, datagram{int32(i), int32(length), at})
			at += length
			if left -= length; left == 0 {
				break
			}
		}
	}
}

// Data returns the i-th datagram.
func (r *Reader) Data(i int) []byte {
	p := &r.batch.datagrams[i]
	return r.batch.slots[p.offset:][:p.length:p.length]
}

// Scratch returns memory for [Sender.Send]. It is valid as long as the
// datagrams.
func (r *Reader) Scratch() []byte { return r.batch.scratch }

// From returns the sender of the i-th datagram, in the form of
// [net.UDPConn.ReadFromUDPAddrPort].
func (r *Reader) From(i int) netip.AddrPort {
	if name := &r.batch.names[r.batch.datagrams[i].message]; *name != r.name {
		r.name, r.from = *name, parseName(name)
	}
	return r.from
}

// parseName parses a struct sockaddr_in or sockaddr_in6.
func parseName(b *[syscall.SizeofSockaddrInet6]byte) netip.AddrPort {
	port := binary.BigEndian.Uint16(b[2:])
	switch binary.NativeEndian.Uint16(b[:]) {
	case syscall.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port)
	case syscall.AF_INET6:
		addr := netip.AddrFrom16([16]byte(b[8:]))
		if index := binary.NativeEndian.Uint32(b[24:]); index != 0 {
			addr = addr.WithZone(zone(int(index)))
		}
		return netip.AddrPortFrom(addr, port)
	}
	return netip.AddrPort{}
}

// zone returns an interface's name, as package net does.
func zone(index int) string {
	if i, err := net.InterfaceByIndex(index); err == nil {
		return i.Name
	}
	return strconv.Itoa(index)
}
