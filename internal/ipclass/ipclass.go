// Package ipclass classifies IP addresses as public or non-public. Non-public addresses are those of this machine, a
// link, a site, documentation, and other special purposes. The package decides from the address alone and knows no
// policy.
//
// It has every block of the IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890, RFC 8190), multicast, the
// site-local block of RFC 3879, and the IPv6 space that IANA has not opened for global unicast. An IPv6 address that
// embeds an IPv4 address is classified by the embedded address, because both lead to the same host.
//
// The classification is strict: an address is public only if a host on the Internet can serve something useful from it.
// Some blocks are globally reachable according to the registry but lead to infrastructure of the nearest network (anycast for port
// control, AS112 sinks, multicast relays) or nowhere (cryptographic identifiers). They are not public here. table.go has
// the reason beside each such row.
//
// The package cannot see translation or routing in the network: a NAT64 translator may use a prefix of its own network
// (RFC 6052 section 2.2), and a network may route public addresses to itself.
package ipclass

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// Class is the non-public block of an address. The zero value means a public address. Classes are comparable with ==
// and safe for concurrent use.
type Class struct {
	block    *block // the block of the address; nil if public
	embedded *block // the block of the embedded IPv4 address; nil if there is none or it is public
	server   *block // the block of a Teredo address's server; nil if there is none or it is public
}

// Of returns the class of a. It unmaps an IPv4-mapped address and ignores a zone. The zero Addr is not public. Of does
// not allocate.
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

// of6 returns the class of the IPv6 address with the halves hi and lo.
func of6(hi, lo uint64) Class {
	c := Class{block: find6(hi, lo)}
	if c.block == nil {
		// ISATAP has no block: its interface identifiers can follow any unicast prefix.
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
		if c.embedded == nil { // the address behind the 6to4 router may still be ISATAP
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

// EmbeddedIPv4 returns the IPv4 address embedded in a. Embedding addresses are IPv4-compatible, IPv4-translated, NAT64
// (RFC 6052), 6to4, Teredo (the client's address counts) and ISATAP addresses. EmbeddedIPv4 returns the zero Addr for
// every other address. This includes IPv4-mapped addresses, because unmapped they are IPv4. It does not allocate.
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

// isatap reports whether lo is the interface identifier of RFC 5214 section 6.1: 00-00-5E-FE or, with the universal
// bit, 02-00-5E-FE, then an IPv4 address. It also returns the block of that IPv4 address.
func isatap(lo uint64) (embedded *block, ok bool) {
	const universal = 0x02000000
	if uint32(lo>>32)&^universal != 0x00005efe {
		return nil, false
	}
	return find4(uint32(lo)), true
}

// Public reports whether the address is public.
func (c Class) Public() bool { return c.block == nil }

// Name returns the registry's name of the block, such as "Private-Use". It adds the block of an embedded IPv4 address
// that is not public, as in "6to4 of Private-Use". It returns the empty string for a public address.
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

// Reference returns the document that defines the block, such as "RFC 1918". It returns the empty string for a public
// address.
func (c Class) Reference() string {
	if c.block == nil {
		return ""
	}
	return c.block.reference
}
