package ipclass

import "net/netip"

// Prefix returns the block of c. For an address that embeds an IPv4 address this
// is the block that embeds it, such as 2002::/16. It is the zero Prefix for a
// public address, for the zero Addr, and for an ISATAP address, because no prefix
// identifies those.
func (c Class) Prefix() netip.Prefix {
	if c.block == nil {
		return netip.Prefix{}
	}
	return c.block.prefix
}
