//go:build !linux

// Systems other than Linux: one datagram at a time.

package udpbatch

import (
	"net"
	"net/netip"
)

type batch struct {
	slot, scratch []byte
	size          int // messages that it is for, as on Linux; it holds one
}

func newBatch(size int) *batch {
	return &batch{make([]byte, maxDatagram), make([]byte, maxDatagram), size}
}

// Reader reads from one socket. It is for one goroutine.
type Reader struct {
	conn    *net.UDPConn
	buffers *Buffers
	batch   *batch
	n       int // length of the datagram
	from    netip.AddrPort
}

// NewReader returns a reader of conn. Nothing else may read from conn.
func NewReader(conn *net.UDPConn, buffers *Buffers) (*Reader, error) {
	return &Reader{conn: conn, buffers: buffers}, nil
}

// Read waits for datagrams and returns the number received. They are valid
// until the next Read or Close. Read also returns if the socket's read deadline
// passes or the socket is closed; the error is that of a read from the socket,
// and n is 0.
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

// Close returns the buffers to Buffers. It does not close the socket.
func (r *Reader) Close() {
	if r.batch != nil {
		r.buffers.put(r.batch)
		r.batch = nil
	}
}

// Data returns the i-th datagram.
func (r *Reader) Data(int) []byte { return r.batch.slot[:r.n] }

// Scratch returns memory for [Sender.Send]. It is valid as long as the
// datagrams.
func (r *Reader) Scratch() []byte { return r.batch.scratch }

// From returns the sender of the i-th datagram, in the form of
// [net.UDPConn.ReadFromUDPAddrPort].
func (r *Reader) From(int) netip.AddrPort { return r.from }

// Sender sends from one socket to one address. It is for one goroutine. A
// socket may have several Senders.
type Sender struct {
	conn   *net.UDPConn
	to     netip.AddrPort
	header []byte
}

// NewSender returns a sender to an address, which must be zero if conn is
// connected. header precedes every datagram.
func NewSender(conn *net.UDPConn, to netip.AddrPort, header []byte) (*Sender, error) {
	return &Sender{conn, to, header}, nil
}

// Send sends datagrams in order and returns how many of them the system did not
// accept. It tries each twice, because an error of the system usually concerns
// an earlier datagram. It overwrites scratch, which must have room for a header
// and a datagram if there is a header.
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
