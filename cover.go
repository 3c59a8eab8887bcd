// Which patterns lie within others, for lists too long to compare each with
// each.

package networkproxy

import (
	"net/netip"
	"strings"

	"example.com/networkproxy/internal/domain"
)

// coverIndex answers whether one of its patterns covers another. It sorts
// patterns by the text that everything they match ends in, so that a question
// reaches only the few that can matter; [domain.Pattern.Covers] decides about
// those. The zero value is empty.
type coverIndex struct {
	names map[string][]domain.Pattern       // by literal suffix
	nets  map[netip.Prefix][]domain.Pattern // addresses are nets of one
	bits  [129]bool                         // the prefix lengths in nets
}

func (x *coverIndex) add(p domain.Pattern) {
	suffix, net := coverKey(p)
	if net.IsValid() {
		if x.nets == nil {
			x.nets = make(map[netip.Prefix][]domain.Pattern)
		}
		x.nets[net] = append(x.nets[net], p)
		x.bits[net.Bits()] = true
		return
	}
	if x.names == nil {
		x.names = make(map[string][]domain.Pattern)
	}
	x.names[suffix] = append(x.names[suffix], p)
}

// covers reports whether a single pattern of x covers q. Several that do so
// only together do not count.
func (x *coverIndex) covers(q domain.Pattern) bool {
	among := func(list []domain.Pattern) bool {
		for _, p := range list {
			if p.Covers(q) {
				return true
			}
		}
		return false
	}

	suffix, net := coverKey(q)
	if net.IsValid() {
		for bits := range net.Bits() + 1 {
			if x.bits[bits] && among(x.nets[netip.PrefixFrom(net.Addr(), bits).Masked()]) {
				return true
			}
		}
	}
	for suffix != "" {
		if among(x.names[suffix]) {
			return true
		}
		_, suffix, _ = strings.Cut(suffix, ".")
	}
	return among(x.names[""])
}

// coverKey returns the addresses that a pattern matches, or the labels behind
// the last wildcard of a pattern of names: all of them, if it has none.
func coverKey(p domain.Pattern) (suffix string, net netip.Prefix) {
	if net := p.Prefix(); net.IsValid() {
		return "", net
	}
	host, _, _ := strings.Cut(p.String(), ":")
	if i := strings.LastIndexByte(host, '*'); i >= 0 {
		_, host, _ = strings.Cut(host[i:], ".")
	}
	return host, netip.Prefix{}
}
