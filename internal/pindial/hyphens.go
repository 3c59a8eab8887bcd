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
const questionName = 12

// standIn is a name that Go's resolver does ask for, and what makes it another one on the wire.
type standIn struct {
	name  string
	bytes []int // of a message, which are underscores in name and hyphens in what is asked for
}

// newStandIn returns the stand-in for a rooted name, whose bytes are none if it needs no stand-in.
func newStandIn(name string) standIn {
	text := []byte(name)
	var s standIn
	for i, c := range text {
		first := i == 0 || name[i-1] == '.'
		last := i == len(name)-1 || name[i+1] == '.'
		if c == '-' && (first || last) {
			text[i] = '_'
			s.bytes = append(s.bytes, questionName+1+i)
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
			return renamedDatagrams{&renamedConn{Conn: conn, bytes: s.bytes}}, nil
		}
		return &renamedConn{Conn: conn, bytes: s.bytes, stream: true}, nil
	}
}

// renamedConn is a connection to a name server for one question. It puts hyphens for the underscores of a stand-in in
// what is sent, and underscores for the hyphens in what is received.
type renamedConn struct {
	net.Conn
	bytes         []int
	stream        bool
	sent, arrived int // bytes of the stream
}

// Write implements net.Conn.
func (c *renamedConn) Write(b []byte) (int, error) {
	b = bytes.Clone(b)
	c.replace(b, c.sent, '_', '-')
	n, err := c.Conn.Write(b)
	c.sent += n
	return n, err
}

// Read implements net.Conn.
func (c *renamedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.replace(b[:n], c.arrived, '-', '_')
	c.arrived += n
	return n, err
}

// replace changes the bytes of a question's name in b, which begins at offset of the stream. Every datagram is a message
// of its own; in a stream two bytes of length come first (RFC 1035 section 4.2.2).
func (c *renamedConn) replace(b []byte, offset int, from, to byte) {
	for _, i := range c.bytes {
		if c.stream {
			i += 2 - offset
		}
		if i >= 0 && i < len(b) && b[i] == from {
			b[i] = to
		}
	}
}

// renamedDatagrams is renamedConn for datagrams.
type renamedDatagrams struct{ *renamedConn }

// ReadFrom implements net.PacketConn.
func (c renamedDatagrams) ReadFrom(b []byte) (int, net.Addr, error) {
	n, err := c.Read(b)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn. There is one address to write to.
func (c renamedDatagrams) WriteTo(b []byte, _ net.Addr) (int, error) { return c.Write(b) }
