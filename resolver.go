// Resolver: the host's own name lookups.

package networkproxy

import (
	"context"
	"net"
	"net/netip"

	"example.com/networkproxy/internal/pindial"
)

// Resolver looks names up. A *[net.Resolver] is one.
//
// The proxy makes one lookup for a connection, and only for a name that the
// policy allows. It judges all addresses before it connects to any.
type Resolver interface {
	// LookupNetIP returns the addresses of host. network is "ip", or "ip4" or
	// "ip6" for a *net.Resolver. It is called from many goroutines at once.
	//
	// It should return when ctx ends, which is after [Limits.LookupTimeout] at
	// the latest. The request does not wait longer, and a later result is
	// dropped.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

var (
	_ Resolver         = (*net.Resolver)(nil)
	_ pindial.Resolver = Resolver(nil)
)
