// Names with a hyphen at the beginning or the end of a label, which Go's own resolver answers without asking anybody.

package pindial

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
)

// questionName is where the name of the question begins in a message: behind the header, and a length before each label
// (RFC 1035 sections 4.1.1 and 4.1.2). A byte of the name stands one byte later than in the text, where dots are in the
// places of the lengths.
const questionNameOffset = 12

// standIn is a name that Go's resolver does ask for, and what makes it another one on the wire.
type standIn struct {
	name    string
	offsets []int // of a message, which are fill in name and hyphens in what is asked for
	fill    byte
}

// fills are the characters that stand for hyphens. There are no digits among them, which could make a number of a name.
const fills = "_abcdefghijklmnopqrstuvwxyz"

// freeStandIn returns a stand-in for a rooted name that is not in the hosts file: Go's resolver would return what the
// file says of that other name. It returns false if name needs no stand-in, or the file has all of them.
func unusedStandIn(name string, inFile func(name string) bool) (standIn, bool) {
	for i := range len(fills) {
		s := newStandIn(name, fills[i])
		if len(s.offsets) == 0 {
			break
		}
		if !inFile(s.name) {
			return s, true
		}
	}
	return standIn{}, false
}

// newStandIn returns the stand-in for a rooted name, whose bytes are none if it needs no stand-in.
func newStandIn(name string, fill byte) standIn {
	text := []byte(name)
	s := standIn{fill: fill}
	for i, c := range text {
		first := i == 0 || name[i-1] == '.'
		last := i == len(name)-1 || name[i+1] == '.'
		if c == '-' && (first || last) {
			text[i] = fill
			s.offsets = append(s.offsets, questionNameOffset+1+i)
		}
	}
	s.name = string(text)
	return s
}

// lookup has Go's resolver, which asks as r would, look name up.
func (s standIn) lookup(ctx context.Context, r *net.Resolver, name string) ([]netip.Addr, error) {
	renaming := &net.Resolver{PreferGo: true, Dial: s.dial(new(net.Dialer).DialContext)}
	if r != nil {
		renaming.StrictErrors = r.StrictErrors
		if r.Dial != nil {
			renaming.Dial = s.dial(r.Dial)
		}
	}
	addrs, err := bothFamilies(ctx, renaming.LookupNetIP, s.name)
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) {
		named := *dnsErr
		named.Name = name
		err = &named
	}
	return addrs, err
}

// dial returns a function that connects to a name server by way of connect, and renames what is asked there.
func (s standIn) dial(connect func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if _, ok := conn.(net.PacketConn); ok { // as net.Resolver tells datagrams from a stream
			return renamingPacketConn{&renamingConn{Conn: conn, standIn: s}}, nil
		}
		return &renamingConn{Conn: conn, standIn: s, stream: true}, nil
	}
}

// renamedConn is a connection to a name server for one question. It replaces the characters of a stand-in by hyphens in
// what is sent, and the hyphens by those characters in what is received.
type renamingConn struct {
	net.Conn
	standIn        standIn
	stream         bool
	sent, received int // bytes of the stream
}

// Write implements net.Conn.
func (c *renamingConn) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	c.replace(b, c.sent, c.standIn.fill, '-')
	n, err := c.Conn.Write(b)
	c.sent += n
	return n, err
}

// Read implements net.Conn.
func (c *renamingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.replace(b[:n], c.received, '-', c.standIn.fill)
	c.received += n
	return n, err
}

// replace changes the bytes of a question's name in b, which begins at offset of the stream. Every datagram is a message
// of its own; in a stream two bytes of length come first (RFC 1035 section 4.2.2).
func (c *renamingConn) replace(b []byte, offset int, from, to byte) {
	for _, i := range c.standIn.offsets {
		if c.stream {
			i += 2 - offset
		}
		if i >= 0 && i < len(b) && b[i] == from {
			b[i] = to
		}
	}
}

// renamedDatagrams is renamedConn for datagrams.
type renamingPacketConn struct{ *renamingConn }

// ReadFrom implements net.PacketConn.
func (c renamingPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn. There is one address to write to.
func (c renamingPacketConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }
