// The blocks and their lookup.

package ipclass

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// block is one row of the tables below.
type block struct {
	prefix    netip.Prefix
	name      string // as the registry writes it
	reference string

	embeds           embedding
	publicIfEmbedded bool // public if the embedded IPv4 address is
}

// embedding is the position of the IPv4 address in the addresses of a block.
type embedding uint8

const (
	embedsNone embedding = iota
	embedsLow32
	embeds6to4
	embedsTeredo
)

// Blocks without a prefix.
var (
	noAddress   = block{name: "No address"}
	isatapBlock = block{name: "ISATAP", reference: "RFC 5214"}
)

// ipv4Blocks is the IANA IPv4 Special-Purpose Address Registry (as of 2025-10-09), multicast, and one platform address.
// Blocks may be nested. The one with the longest prefix counts.
var ipv4Blocks = [...]block{
	{prefix: p("0.0.0.0/8"), name: "This network", reference: "RFC 791"},
	{prefix: p("0.0.0.0/32"), name: "This host on this network", reference: "RFC 1122"},
	{prefix: p("10.0.0.0/8"), name: "Private-Use", reference: "RFC 1918"},
	{prefix: p("100.64.0.0/10"), name: "Shared Address Space", reference: "RFC 6598"},
	{prefix: p("127.0.0.0/8"), name: "Loopback", reference: "RFC 1122"},
	// Public by allocation, but in Azure it reaches the host of the virtual machine. Its instance metadata and
	// extension settings are as private as those of 169.254.169.254.
	{prefix: p("168.63.129.16/32"), name: "Azure platform", reference: "Azure WireServer"},
	{prefix: p("169.254.0.0/16"), name: "Link Local", reference: "RFC 3927"},
	{prefix: p("172.16.0.0/12"), name: "Private-Use", reference: "RFC 1918"},
	{prefix: p("192.0.0.0/24"), name: "IETF Protocol Assignments", reference: "RFC 6890"},
	{prefix: p("192.0.0.0/29"), name: "IPv4 Service Continuity Prefix", reference: "RFC 7335"},
	{prefix: p("192.0.0.8/32"), name: "IPv4 dummy address", reference: "RFC 7600"},
	// Globally reachable by the registry, but the nearest router answers. It opens ports on the user's own NAT.
	{prefix: p("192.0.0.9/32"), name: "Port Control Protocol Anycast", reference: "RFC 7723"},
	// Globally reachable, but the TURN relay of the nearest network answers.
	{prefix: p("192.0.0.10/32"), name: "Traversal Using Relays around NAT Anycast", reference: "RFC 8155"},
	{prefix: p("192.0.0.170/32"), name: "NAT64/DNS64 Discovery", reference: "RFC 8880"},
	{prefix: p("192.0.0.171/32"), name: "NAT64/DNS64 Discovery", reference: "RFC 8880"},
	{prefix: p("192.0.2.0/24"), name: "Documentation (TEST-NET-1)", reference: "RFC 5737"},
	// Globally reachable, but a sink for reverse lookups of private addresses, often a node of the site.
	{prefix: p("192.31.196.0/24"), name: "AS112-v4", reference: "RFC 7535"},
	// Globally reachable, but it only leads to the nearest multicast relay.
	{prefix: p("192.52.193.0/24"), name: "AMT", reference: "RFC 7450"},
	// Deprecated, and the registry does not say whether it is reachable. A router that announces it relays to any
	// address.
	{prefix: p("192.88.99.0/24"), name: "Deprecated (6to4 Relay Anycast)", reference: "RFC 7526"},
	{prefix: p("192.88.99.2/32"), name: "6a44-relay anycast address", reference: "RFC 6751"},
	{prefix: p("192.168.0.0/16"), name: "Private-Use", reference: "RFC 1918"},
	// See AS112-v4.
	{prefix: p("192.175.48.0/24"), name: "Direct Delegation AS112 Service", reference: "RFC 7534"},
	{prefix: p("198.18.0.0/15"), name: "Benchmarking", reference: "RFC 2544"},
	{prefix: p("198.51.100.0/24"), name: "Documentation (TEST-NET-2)", reference: "RFC 5737"},
	{prefix: p("203.0.113.0/24"), name: "Documentation (TEST-NET-3)", reference: "RFC 5737"},
	{prefix: p("224.0.0.0/4"), name: "Multicast", reference: "RFC 5771"},
	{prefix: p("240.0.0.0/4"), name: "Reserved", reference: "RFC 1112"},
	{prefix: p("255.255.255.255/32"), name: "Limited Broadcast", reference: "RFC 8190"},
}

// ipv6Blocks is the IANA IPv6 Special-Purpose Address Registry (as of 2025-10-09), and all space outside global
// unicast. ::ffff:0:0/96 is missing because Of unmaps such addresses first.
var ipv6Blocks = [...]block{
	{prefix: p("::/128"), name: "Unspecified Address", reference: "RFC 4291"},
	{prefix: p("::1/128"), name: "Loopback Address", reference: "RFC 4291"},
	// Deprecated and outside global unicast, so never public.
	{prefix: p("::/96"), name: "IPv4-Compatible Address", reference: "RFC 4291", embeds: embedsLow32},
	{prefix: p("::ffff:0:0:0/96"), name: "IPv4-Translated Address", reference: "RFC 2765", embeds: embedsLow32},
	// A translator sends packets to the embedded IPv4 address, so that address decides.
	{prefix: p("64:ff9b::/96"), name: "IPv4-IPv6 Translat.", reference: "RFC 6052", embeds: embedsLow32, publicIfEmbedded: true},
	// For local translators. Never public, because the IPv4 address may be at any of the six positions of RFC 6052
	// section 2.2.
	{prefix: p("64:ff9b:1::/48"), name: "IPv4-IPv6 Translat.", reference: "RFC 8215"},
	{prefix: p("100::/64"), name: "Discard-Only Address Block", reference: "RFC 6666"},
	{prefix: p("100:0:0:1::/64"), name: "Dummy IPv6 Prefix", reference: "RFC 9780"},
	{prefix: p("2001::/23"), name: "IETF Protocol Assignments", reference: "RFC 2928"},
	// Leads to a host behind the client's NAT, so never public.
	{prefix: p("2001::/32"), name: "TEREDO", reference: "RFC 4380", embeds: embedsTeredo},
	// The next three are globally reachable, but the nearest network answers. See 192.0.0.9 and 192.0.0.10.
	{prefix: p("2001:1::1/128"), name: "Port Control Protocol Anycast", reference: "RFC 7723"},
	{prefix: p("2001:1::2/128"), name: "Traversal Using Relays around NAT Anycast", reference: "RFC 8155"},
	{prefix: p("2001:1::3/128"), name: "DNS-SD Service Registration Protocol Anycast", reference: "RFC 9665"},
	{prefix: p("2001:2::/48"), name: "Benchmarking", reference: "RFC 5180"},
	// Globally reachable, but see 192.52.193.0/24 and 192.31.196.0/24.
	{prefix: p("2001:3::/32"), name: "AMT", reference: "RFC 7450"},
	{prefix: p("2001:4:112::/48"), name: "AS112-v6", reference: "RFC 7535"},
	{prefix: p("2001:10::/28"), name: "Deprecated (previously ORCHID)", reference: "RFC 4843"},
	// The next two are globally reachable, but they are identifiers without routes. Only an overlay can serve them.
	{prefix: p("2001:20::/28"), name: "ORCHIDv2", reference: "RFC 7343"},
	{prefix: p("2001:30::/28"), name: "Drone Remote ID Protocol Entity Tags (DETs) Prefix", reference: "RFC 9374"},
	{prefix: p("2001:db8::/32"), name: "Documentation", reference: "RFC 3849"},
	// A relay sends packets to the embedded IPv4 address, so that address decides.
	{prefix: p("2002::/16"), name: "6to4", reference: "RFC 3056", embeds: embeds6to4, publicIfEmbedded: true},
	// See 192.175.48.0/24.
	{prefix: p("2620:4f:8000::/48"), name: "Direct Delegation AS112 Service", reference: "RFC 7534"},
	{prefix: p("3fff::/20"), name: "Documentation", reference: "RFC 9637"},
	{prefix: p("5f00::/16"), name: "Segment Routing (SRv6) SIDs", reference: "RFC 9602"},
	{prefix: p("fc00::/7"), name: "Unique-Local", reference: "RFC 4193"},
	{prefix: p("fe80::/10"), name: "Link-Local Unicast", reference: "RFC 4291"},
	{prefix: p("fec0::/10"), name: "Site-Local Unicast", reference: "RFC 3879"},
	{prefix: p("ff00::/8"), name: "Multicast", reference: "RFC 4291"},
	// The rest of the space outside 2000::/3, which is all of global unicast.
	{prefix: p("::/3"), name: "Reserved by IETF", reference: "RFC 4291"},
	{prefix: p("4000::/2"), name: "Reserved by IETF", reference: "RFC 4291"},
	{prefix: p("8000::/1"), name: "Reserved by IETF", reference: "RFC 4291"},
}

func p(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// row4 and row6 hold a block's prefix as machine words. A linear scan of these short tables is faster than a tree.
type (
	row4 struct {
		bits, mask uint32
		block      *block
	}
	row6 struct {
		hi, lo, hiMask, loMask uint64
		block                  *block
	}
)

// The search tables, longest prefix first, so that the first match is the most specific one. They are read-only.
var (
	rows4 = compile4(ipv4Blocks[:])
	rows6 = compile6(ipv6Blocks[:])
)

// find4 returns the most specific block that holds the IPv4 address u, or nil.
func find4(u uint32) *block {
	for i := range rows4 {
		if r := &rows4[i]; u&r.mask == r.bits {
			return r.block
		}
	}
	return nil
}

// find6 returns the most specific block that holds the IPv6 address hi:lo, or nil.
func find6(hi, lo uint64) *block {
	for i := range rows6 {
		if r := &rows6[i]; hi&r.hiMask == r.hi && lo&r.loMask == r.lo {
			return r.block
		}
	}
	return nil
}

func compile4(blocks []block) []row4 {
	var rows []row4
	for _, b := range longestFirst(blocks) {
		a := b.prefix.Addr().As4()
		rows = append(rows, row4{
			bits:  binary.BigEndian.Uint32(a[:]),
			mask:  ^uint32(0) << (32 - b.prefix.Bits()),
			block: b,
		})
	}
	return rows
}

func compile6(blocks []block) []row6 {
	var rows []row6
	for _, b := range longestFirst(blocks) {
		a := b.prefix.Addr().As16()
		r := row6{hi: binary.BigEndian.Uint64(a[:8]), lo: binary.BigEndian.Uint64(a[8:]), block: b}
		if n := b.prefix.Bits(); n <= 64 {
			r.hiMask = ^uint64(0) << (64 - n)
		} else {
			r.hiMask, r.loMask = ^uint64(0), ^uint64(0)<<(128-n)
		}
		rows = append(rows, r)
	}
	return rows
}

func longestFirst(blocks []block) []*block {
	var order []*block
	for i := range blocks {
		order = append(order, &blocks[i])
	}
	slices.SortStableFunc(order, func(a, b *block) int { return cmp.Compare(b.prefix.Bits(), a.prefix.Bits()) })
	return order
}
