//go:build !linux

// One by one.

package udpbatch

import (
	"net"
	"net/netip"
)

type batch struct {
	slot, scratch []byte
	size          int // messages it is for, as on Linux; it takes one
}

func newBatch(size int) *batch {
	return &batch{make([]byte, maxDatagram), make([]byte, maxDatagram), size}
}

// Reader reads from one socket. It is for one goroutine.
type Reader struct {
	conn    *net.UDPConn
	buffers *Buffers
	batch   *batch
	n       int // bytes of the datagram
	from    netip.AddrPort
}

// NewReader returns a reader of conn. Nobody else may read from conn.
func NewReader(conn *net.UDPConn, buffers *Buffers) (*Reader, error) {
	return &Reader{conn: conn, buffers: buffers}, nil
}

// Read waits until something has come, the read deadline of the socket has
// passed, or the socket is closed, and returns how many datagrams it has
// taken in. They are the caller's until the next Read or the Close, whichever
// is first. The error is that of a read from the socket; n is 0 then.
func (r *Reader) Read() (n int, err error) {
	if r.batch == nil {
		r.batch = r.buffers.get()
	}
	if r.n, r.from, err = r.conn.ReadFromUDPAddrPort(r.batch.slot); err != nil {
		r.Close()
		return 0, err
	}
	return 1, nil
}

// Close gives the buffers back. It does not close the socket.
func (r *Reader) Close() {
	if r.batch != nil {
		r.buffers.put(r.batch)
		r.batch = nil
	}
}

// Data is the i-th datagram.
func (r *Reader) Data(int) []byte { return r.batch.slot[:r.n] }

// Scratch is memory for [Sender.Send], good as long as the batch.
func (r *Reader) Scratch() []byte { return r.batch.scratch }

// From is who sent the i-th datagram as
// [net.UDPConn.ReadFromUDPAddrPort] has it.
func (r *Reader) From(int) netip.AddrPort { return r.from }

// Sender sends from one socket to one address. It is for one goroutine; a
// socket may have several.
type Sender struct {
	conn   *net.UDPConn
	to     netip.AddrPort
	header []byte
}

// NewSender returns a sender to an address; it is zero for a socket that is
// connected. header goes before every datagram.
func NewSender(conn *net.UDPConn, to netip.AddrPort, header []byte) (*Sender, error) {
	return &Sender{conn, to, header}, nil
}

// Send sends datagrams in their order and returns how many of them the system
// would not take. An error that the system reports is what became of an
// earlier datagram, usually, so that each gets a second chance. scratch is
// overwritten: it must have room for a header and a datagram if there is a
// header.
func (s *Sender) Send(datagrams [][]byte, scratch []byte) (lost int) {
	for _, data := range datagrams {
		if len(s.header) > 0 {
			data = append(append(scratch[:0], s.header...), data...)
		}
		err := s.send(data)
		if err != nil {
			err = s.send(data)
		}
		if err != nil {
			lost++
		}
	}
	return lost
}

func (s *Sender) send(data []byte) (err error) {
	if s.to.IsValid() {
		_, err = s.conn.WriteToUDPAddrPort(data, s.to)
	} else {
		_, err = s.conn.Write(data)
	}
	return err
}
