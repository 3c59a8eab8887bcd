// Package socksudp reads and writes the header that a SOCKS5 client and its
// proxy put before every datagram (RFC 1928 section 7):
//
//	+-----+------+------+----------+----------+------+
//	| RSV | FRAG | ATYP | DST.ADDR | DST.PORT | DATA |
//	+-----+------+------+----------+----------+------+
//	|  2  |  1   |  1   | variable |    2     |      |
//
// The package knows nothing of policy, and takes nothing for valid but the
// form: whether a name is one, or a port is other than 0, is for others to say.
package socksudp

import (
	"encoding/binary"
	"errors"
	"net/netip"
)

// MaxHeader is the length of the longest header: the one with a name of 255
// bytes.
const MaxHeader = addressOffset + 1 + 1 + 255 + 2

// Errors of Parse. They do not name what was found: a sender can make any
// number of such datagrams, and they are counted rather than told.
var (
	// ErrFragment means that the datagram is a fragment. RFC 1928 section 7
	// has those who do not reassemble drop it.
	ErrFragment = errors.New("a fragment (FRAG is not 0), which is not reassembled here (RFC 1928 section 7)")

	// ErrMalformed means that there is no whole header, that its reserved
	// bytes are not 0, or that its address type is unknown.
	ErrMalformed = errors.New("not a SOCKS5 datagram (RFC 1928 section 7)")
)

// Address types: RFC 1928 section 5.
const (
	typeIPv4 = 1
	typeName = 3
	typeIPv6 = 4
)

// addressAt is where the address begins, with its type.
const addressOffset = 3

// Datagram is what a datagram says. Its slices are parts of what was parsed.
type Datagram struct {
	// Address holds the address type, the address and the port as they came.
	// Equal bytes mean the same destination; the reverse does not hold, since
	// a name can be spelled in several ways.
	Address []byte

	// Addr is the destination, or for a reply the source, as an IP address;
	// it is zero when Name stands for it.
	Addr netip.Addr

	// Name is the domain name, which may be empty and may hold any byte. It
	// counts only when Addr is zero.
	Name []byte

	Port uint16
	Data []byte
}

// Parse reads one datagram. The error is ErrFragment or ErrMalformed.
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

// cut splits b after n bytes; both parts are nil when it is shorter.
func cut(b []byte, n int) (first, rest []byte) {
	if len(b) < n {
		return nil, nil
	}
	return b[:n:n], b[n:]
}

// AppendHeader appends the header of a datagram from or to an address, which
// is written as IPv4 where it is an IPv4-mapped one. A zone is left out: the
// header has no place for it.
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
