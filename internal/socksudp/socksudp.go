// Package socksudp parses and writes the header of SOCKS5 datagrams (RFC 1928
// section 7):
//
//	+-----+------+------+----------+----------+------+
//	| RSV | FRAG | ATYP | DST.ADDR | DST.PORT | DATA |
//	+-----+------+------+----------+----------+------+
//	|  2  |  1   |  1   | variable |    2     |      |
//
// It opens no sockets and knows no policy. It checks the form only: the caller
// checks whether a name is valid and a port is not 0.
//
// The functions keep no state and are safe for concurrent use.
package socksudp

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// MaxHeader is the length of the longest header, which has a name of 255 bytes.
const MaxHeader = addressOffset + 1 + 1 + 255 + 2

// Errors of Parse. They contain no details, because a sender can cause any
// number of them; callers count them instead of logging them.
var (
	// ErrFragment means that the datagram is a fragment. RFC 1928 section 7
	// requires implementations without reassembly to drop it.
	ErrFragment = errors.New("SOCKS5 datagram is a fragment (RFC 1928 section 7)")

	// ErrMalformed means that the header is incomplete, has non-zero reserved
	// bytes, or has an unknown address type.
	ErrMalformed = errors.New("malformed SOCKS5 datagram (RFC 1928 section 7)")
)

// Address types: RFC 1928 section 5.
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// addressOffset is the offset of the address, which begins with its type.
const addressOffset = 3

// Datagram is a parsed datagram. Its slices refer to the parsed bytes.
type Datagram struct {
	// Address holds the address type, address and port as received. Equal bytes
	// mean the same destination. Different bytes may mean the same one too,
	// because a name has several spellings.
	Address []byte

	// Addr is the destination (in a reply, the source) as an IP address. It is
	// zero if Name is used.
	Addr netip.Addr

	// Name is the domain name. It may be empty and may hold any byte. It is
	// meaningful only if Addr is zero.
	Name []byte

	Port uint16
	Data []byte
}

// Parse parses a datagram. The error is ErrFragment or ErrMalformed.
func Parse(b []byte) (Datagram, error) {
	if len(b) <= addressOffset || b[0] != 0 || b[1] != 0 {
		return Datagram{}, ErrMalformed
	}
	fragment := b[2] != 0
	address := b[addressOffset:]
	var d Datagram
	var host []byte
	rest := address[1:]
	switch address[0] {
	case typeIPv4:
		host, rest = cut(rest, 4)
		d.Addr, _ = netip.AddrFromSlice(host)
	case typeIPv6:
		host, rest = cut(rest, 16)
		d.Addr, _ = netip.AddrFromSlice(host)
	case typeName:
		if len(rest) == 0 {
			return Datagram{}, ErrMalformed
		}
		host, rest = cut(rest[1:], int(rest[0]))
		d.Name = host
	default:
		return Datagram{}, ErrMalformed
	}
	if host == nil || len(rest) < 2 {
		return Datagram{}, ErrMalformed
	}
	if fragment {
		return Datagram{}, ErrFragment
	}
	d.Port = binary.BigEndian.Uint16(rest)
	d.Data = rest[2:]
	d.Address = address[:len(address)-len(d.Data)]
	return d, nil
}

// cut splits b after n bytes. Both parts are nil if b is shorter.
func cut(b []byte, n int) (first, rest []byte) {
	if len(b) < n {
		return nil, nil
	}
	return b[:n:n], b[n:]
}

// AppendHeader appends the header of a datagram from or to an address. It
// writes an IPv4-mapped address as IPv4, and omits the zone, for which the
// header has no field.
func AppendHeader(b []byte, a netip.AddrPort) []byte {
	b = append(b, 0, 0, 0)
	addr := a.Addr().Unmap()
	if addr.Is4() {
		b = append(b, typeIPv4)
	} else {
		b = append(b, typeIPv6)
	}
	b = append(b, addr.AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}
