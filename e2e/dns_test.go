//go:build e2e && linux

// This file has the zone's name server, which counts the queries for each name.

package e2e

import (
	"net/netip"
	"sync"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/e2e/harness"
)

// dnsServer answers from a zone. Its answers for rebind.example alternate between the
// public address and loopback, like those of an attacker's server.
type dnsServer struct {
	*harness.DNS
	zone map[string][]netip.Addr

	mu      sync.Mutex
	queries map[string]int
	rebinds int
}

func listenDNS(zone map[string][]netip.Addr) (*dnsServer, error) {
	s := &dnsServer{zone: zone, queries: make(map[string]int)}
	var err error
	s.DNS, err = harness.ListenDNS(s.lookup)
	return s, err
}

// queryCount returns the number of queries for exactly this host, of all types.
func (s *dnsServer) queryCount(host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queries[host]
}

func (s *dnsServer) lookup(host string, t dnsmessage.Type) (addrs []netip.Addr, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queries[host]++
	if host == "rebind.example" && t == dnsmessage.TypeA {
		s.rebinds++
		if s.rebinds%2 == 0 {
			return []netip.Addr{loopback4}, true
		}
	}
	addrs, known = s.zone[host]
	return addrs, known
}
