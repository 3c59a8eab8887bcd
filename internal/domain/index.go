package domain

// This file holds Index, which finds covering patterns in long lists.

import (
	"net/netip"
	"strings"
)

// Index is a set of patterns that reports whether one of them covers a given
// pattern. It groups them by the labels after their last wildcard, or by block, so
// that it calls [Pattern.Covers] for few of them. The zero value is empty. An Index
// is safe for concurrent use once nothing is added any more.
type Index struct {
	names map[string][]Pattern       // by literal suffix
	nets  map[netip.Prefix][]Pattern // an address is a block of one
	bits  [129]bool                  // prefix lengths in nets
}

// Add adds p to x.
func (x *Index) Add(p Pattern) {
	suffix, net := indexKey(p)
	if net.IsValid() {
		if x.nets == nil {
			x.nets = make(map[netip.Prefix][]Pattern)
		}
		x.nets[net] = append(x.nets[net], p)
		x.bits[net.Bits()] = true
		return
	}
	if x.names == nil {
		x.names = make(map[string][]Pattern)
	}
	x.names[suffix] = append(x.names[suffix], p)
}

// Covers reports whether a single pattern of x covers q. Several patterns that
// cover q only together do not count.
func (x *Index) Covers(q Pattern) bool {
	anyCovers := func(list []Pattern) bool {
		for _, p := range list {
			if p.Covers(q) {
				return true
			}
		}
		return false
	}

	suffix, net := indexKey(q)
	if net.IsValid() {
		for bits := range net.Bits() + 1 {
			if x.bits[bits] && anyCovers(x.nets[netip.PrefixFrom(net.Addr(), bits).Masked()]) {
				return true
			}
		}
	}
	for suffix != "" {
		if anyCovers(x.names[suffix]) {
			return true
		}
		_, suffix, _ = strings.Cut(suffix, ".")
	}
	return anyCovers(x.names[""])
}

// indexKey returns the block of addresses that p matches or, for a pattern of
// names, the labels after its last wildcard. These are all labels if p has no
// wildcard.
func indexKey(p Pattern) (suffix string, net netip.Prefix) {
	if net := p.Prefix(); net.IsValid() {
		return "", net
	}
	host, _, _ := strings.Cut(p.String(), ":")
	if i := strings.LastIndexByte(host, '*'); i >= 0 {
		_, host, _ = strings.Cut(host[i:], ".")
	}
	return host, netip.Prefix{}
}
