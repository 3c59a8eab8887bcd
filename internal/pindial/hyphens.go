// Names with a hyphen at the start or end of a label. Go's own resolver rejects
// them without asking a name server.

package pindial

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
)

// questionNameOffset is where the name of the question begins in a message:
// after the header, with a length before each label (RFC 1035 sections 4.1.1
// and 4.1.2). A byte of the name is one byte later in the message than in the
// text, where dots take the places of the lengths.
const questionNameOffset = 12

// standIn is a name that Go's resolver accepts, and the changes that turn it
// back into the original name in messages.
type standIn struct {
	name    string
	offsets []int // in a message: where name has fill in place of a hyphen
	fill    byte
}

// fills are the characters that replace hyphens. There is no digit among them,
// because a label of digits could make the name a number.
const fills = "_abcdefghijklmnopqrstuvwxyz"

// unusedStandIn returns a stand-in for a rooted name. The stand-in is not in
// the hosts file, because Go's resolver would return that file's entry for it.
// unusedStandIn returns false if name needs no stand-in, or the file has all of
// them.
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

// newStandIn returns the stand-in for a rooted name. It has no offsets if the
// name needs no stand-in.
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

// lookup looks name up with Go's resolver, configured like r.
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

// dial returns a function that connects to a name server with connect and
// replaces the name in the messages.
func (s standIn) dial(connect func(ctx context.Context, network, address string) (net.Conn, error)) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := connect(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if _, ok := conn.(net.PacketConn); ok { // net.Resolver makes the same distinction between datagrams and streams
			return renamingPacketConn{&renamingConn{Conn: conn, standIn: s}}, nil
		}
		return &renamingConn{Conn: conn, standIn: s, stream: true}, nil
	}
}

// renamingConn is a connection to a name server for one question. It replaces
// the stand-in's characters by hyphens in sent messages, and hyphens by those
// characters in received ones.
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

// replace changes the bytes of the question's name in b, which begins at offset
// of the stream. A datagram is one message. In a stream, each message follows a
// length of two bytes (RFC 1035 section 4.2.2).
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

// renamingPacketConn is a renamingConn for datagrams.
type renamingPacketConn struct{ *renamingConn }

// ReadFrom implements net.PacketConn.
func (c renamingPacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn. There is only one address to write to.
func (c renamingPacketConn) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }
