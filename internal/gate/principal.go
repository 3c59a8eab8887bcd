// Principals, listeners and requests. A request belongs to the session of its
// listener or of its token. No other header field identifies the session.

package gate

import (
	"context"
	"maps"
	"net"
	"net/netip"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// Principal is the source of requests: a session, the clients of the shared
// listeners, or the host.
type Principal struct {
	audit.Owner

	Group        *track.Group    // counts its clients' connections; nil means the group of the listener
	RequireToken bool            // its listeners serve only requests with its token
	Overlay      *policy.Overlay // the session's rules; nil if none
	HTTP         any             // state of the HTTP front
	Blocked      *audit.Record   // the session's record beside the proxy's; nil if none
}

// NewPrincipal returns a principal that ends with ctx.
func NewPrincipal(ctx context.Context, a audit.Attribution) *Principal {
	a.Labels = maps.Clone(a.Labels) // the host may change its map
	return &Principal{Owner: audit.Owner{Attribution: a, Context: ctx}}
}

// Listener is a listener with the principal of its clients.
type Listener struct {
	*track.Listener
	Principal *Principal
}

// Request is one request.
type Request struct {
	policy.Query
	Client    netip.AddrPort
	Principal *Principal
	policy    *policy.Policy // the policy of the last Decide; nil before

	// Listener is the principal whose context is a parent of the request's
	// context; nil if there is none. If it equals Principal, the request ends
	// with its principal without a second watcher.
	Listener *Principal
}

// ApprovalRequest returns the request for the decider.
func (r *Request) ApprovalRequest() *approval.Request {
	return &approval.Request{Owner: &r.Principal.Owner, Protocol: r.Protocol, Target: r.Target, Method: r.Method, Client: r.Client}
}

// AddrPortOf converts a TCP or UDP address. It returns zero for other addresses, such
// as that of a Unix socket or a pipe.
func AddrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	case *net.UDPAddr:
		ap := a.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

var loopbackAddrs = [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// FixedAddrs returns the addresses of a host that needs no lookup: an IP address, or
// localhost, which RFC 6761 section 6.3 keeps off the network. It returns nil for
// other hosts.
func FixedAddrs(h hostname.Host) []netip.Addr {
	switch {
	case h.IsIP():
		return []netip.Addr{h.ScopedAddr()}
	case h.IsLocalhost():
		return loopbackAddrs[:]
	}
	return nil
}
