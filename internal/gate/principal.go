// The ways in: a request belongs to the session of the listener that accepted
// it, or of the token that it carries, and never to whom its header names.

package gate

import (
	"context"
	"net"
	"net/netip"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// Principal makes requests: a session, the clients of the shared listeners, or
// the host itself.
type Principal struct {
	audit.Owner

	Group        *track.Group    // the connections of its clients count in it; nil: where they were accepted
	RequireToken bool            // its own listeners serve only requests with its token
	Overlay      *policy.Overlay // the session's own rules; nil: none
	HTTP         any             // belongs to the HTTP front
	Blocked      *audit.Record   // the session's own; nil: only the proxy's is kept
}

func NewPrincipal(ctx context.Context, a audit.Attribution) *Principal {
	return &Principal{Owner: audit.Owner{Attribution: a, Context: ctx}}
}

// Listener is a listener of one principal.
type Listener struct {
	*track.Listener
	Principal *Principal
}

// Request is one request on its way through the checks.
type Request struct {
	policy.Query
	Client    netip.AddrPort
	Principal *Principal
	policy    *policy.Policy // that it was decided under; nil before

	// Listener is the principal whose context the request's context is derived
	// from. The request then ends with it, and needs no second watcher. It is
	// nil if there is none.
	Listener *Principal
}

// ApprovalRequest returns the request as the asker sees it.
func (r *Request) ApprovalRequest() *approval.Request {
	return &approval.Request{Owner: &r.Principal.Owner, Protocol: r.Protocol, Target: r.Target, Method: r.Method, Client: r.Client}
}

// AddrPortOf is a connection's address as netip has it; zero where it is not
// one of IP (a unix socket, a pipe).
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

// FixedAddrs are the addresses of a target that needs no lookup: a literal,
// and localhost, which RFC 6761 section 6.3 keeps off the network.
func FixedAddrs(h hostname.Host) []netip.Addr {
	switch {
	case h.IsIP():
		return []netip.Addr{h.ScopedAddr()}
	case h.IsLocalhost():
		return loopbackAddrs[:]
	}
	return nil
}
