// NetworkProxy: a proxy that is built and checked, and does not run yet.

package networkproxy

import (
	"cmp"
	"net/netip"
	"sync/atomic"
)

// NetworkProxy is a proxy that has been built and checked but binds nothing
// yet. Safe for concurrent use.
type NetworkProxy struct {
	settings settings
	first    *loadedConfig // what Build loaded
	files    *filesRead    // and what it read for that
	ran      atomic.Bool
}

// plannedAddrs are the addresses that Run would listen on. One of port 0 is
// not known yet, and left out.
func (s *settings) plannedAddrs(l *loadedConfig) []netip.AddrPort {
	var addrs []netip.AddrPort
	for _, ep := range s.endpoints() {
		if ep.key == keySOCKSURL && !l.Config.EnableSOCKS5 {
			continue
		}
		raw := cmp.Or(ep.override, l.addr(ep.key))
		if asked, err := parseListener(ep.key, raw, Position{}); err == nil && asked.addr.Port() != 0 {
			addr, _ := clampAddr(asked.addr, kindOf(ep.key), &l.Config)
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
