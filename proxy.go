// NetworkProxy: a proxy that is built and checked, but not running.

package networkproxy

import (
	"cmp"
	"net/netip"
	"sync/atomic"
)

// NetworkProxy is a proxy that is built and checked, but not running. All
// methods are safe for concurrent use.
type NetworkProxy struct {
	settings settings
	first    *loadedConfig // the configuration that Build loaded
	files    *filesRead    // the files that Build read
	ran      atomic.Bool   // Run was called
}

// plannedAddrs returns the addresses that Run would listen on, except those of
// port 0, which the system chooses.
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
