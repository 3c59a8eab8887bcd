// Package ipclass tells public addresses from those that mean something only on this machine, this link, this site,
// or in a book.
//
// It knows every block of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), multicast,
// the site-local block of RFC 3879, and the IPv6 space that IANA has not opened for global unicast. An IPv6 address
// that carries an IPv4 address is judged by what it carries: it is a second spelling of the same place.
//
// The package judges strictly. An address is public when somebody on the Internet can serve something useful from it;
// what the registry calls globally reachable but reaches infrastructure of the nearest network (anycast for port
// control, AS112 sinks, multicast relays) or nobody at all (cryptographic identifiers) is not public here. The reason
// stands beside each such row in table.go.
//
// What cannot be known from the address alone is not judged: a translator on the path may use a prefix of its own
// network's for NAT64 (RFC 6052 section 2.2), and a network may route public addresses to itself.
package ipclass

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Class says which non-public block an address belongs to. The zero value means a public address. Classes are small,
// immutable values: compare them with ==, and use them from any number of goroutines.
type Class struct {
	block    *block // the block the address stands in; nil: public
	embedded *block // the block of the IPv4 address it carries; nil: none, or a public one
	server   *block // the block of a Teredo address's server; nil likewise
}

// Of classifies a. An IPv4-mapped address is classified as the IPv4 address it stands for, and a zone is ignored. The
// zero Addr is not public. Of does not allocate.
func Of(a netip.Addr) Class {
	a = a.Unmap()
	switch {
	case a.Is4():
		b := a.As4()
		return Class{block: find4(binary.BigEndian.Uint32(b[:]))}
	case a.Is6():
		b := a.As16()
		return of6(binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]))
	default:
		return Class{block: &noAddress}
	}
}

// of6 classifies an IPv6 address given as two halves.
func of6(hi, lo uint64) Class {
	c := Class{block: find6(hi, lo)}
	if c.block == nil {
		// Any unicast prefix can hold an ISATAP interface, so this is the one embedding that no block announces.
		if embedded, ok := isatap(lo); ok && embedded != nil {
			return Class{block: &isatapBlock, embedded: embedded}
		}
		return Class{}
	}
	switch c.block.embeds {
	case embedsLow32: // the last 32 bits: RFC 4291 section 2.5.5.1, RFC 6052 section 2.2 for a /96
		c.embedded = find4(uint32(lo))
	case embeds6to4: // the 32 bits after 2002::/16: RFC 3056 section 2
		c.embedded = find4(uint32(hi >> 16))
		if c.embedded == nil { // the address behind the 6to4 router may be ISATAP all the same
			c.embedded, _ = isatap(lo)
		}
	case embedsTeredo: // server, then flags and port, then the client's address inverted: RFC 4380 section 4
		c.server = find4(uint32(hi))
		c.embedded = find4(^uint32(lo))
	}
	if c.block.publicIfEmbedded && c.embedded == nil {
		return Class{}
	}
	return c
}

// EmbeddedIPv4 returns the IPv4 address that an IPv6 address carries, of which it is a second spelling: that of an
// IPv4-compatible, IPv4-translated, NAT64 (RFC 6052) or 6to4 address, of a Teredo client, or of an ISATAP interface. It
// returns the zero Addr for every other address. An IPv4-mapped address carries nothing: unmapped, it is IPv4. EmbeddedIPv4
// does not allocate.
func EmbeddedIPv4(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() {
		return netip.Addr{}
	}
	b := a.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	embeds := embedsNone
	if block := find6(hi, lo); block != nil {
		embeds = block.embeds
	}
	var embedded uint32
	switch embeds {
	case embedsLow32:
		embedded = uint32(lo)
	case embeds6to4:
		embedded = uint32(hi >> 16)
	case embedsTeredo:
		embedded = ^uint32(lo)
	default:
		if _, ok := isatap(lo); !ok {
			return netip.Addr{}
		}
		embedded = uint32(lo)
	}
	var v4 [4]byte
	binary.BigEndian.PutUint32(v4[:], embedded)
	return netip.AddrFrom4(v4)
}

// isatap reports whether lo is the interface identifier of RFC 5214 section 6.1 (00-00-5E-FE or, with the universal
// bit, 02-00-5E-FE, then an IPv4 address), and the block of that IPv4 address.
func isatap(lo uint64) (embedded *block, ok bool) {
	const universal = 0x02000000
	if uint32(lo>>32)&^universal != 0x00005efe {
		return nil, false
	}
	return find4(uint32(lo)), true
}

// Public reports whether the address is globally reachable unicast.
func (c Class) Public() bool { return c.block == nil }

// Name returns the registry's name of the block, such as "Private-Use". When the address carries an IPv4 address that
// is not public, the name says so: "6to4 of Private-Use". It is empty for a public address.
func (c Class) Name() string {
	if c.block == nil {
		return ""
	}
	if c.embedded == nil && c.server == nil {
		return c.block.name
	}
	var s strings.Builder
	s.WriteString(c.block.name)
	if c.embedded != nil {
		s.WriteString(" of ")
		s.WriteString(c.embedded.name)
	}
	if c.server != nil {
		s.WriteString(" by way of ")
		s.WriteString(c.server.name)
	}
	return s.String()
}

// Reference returns the document that sets the block apart, such as "RFC 1918". It is empty for a public address.
func (c Class) Reference() string {
	if c.block == nil {
		return ""
	}
	return c.block.reference
}
