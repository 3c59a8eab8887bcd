// The ways in: a request belongs to the session of the listener that accepted
// it, or of the token that it carries, and never to whom its header names.

package networkproxy

import (
	"context"
	"net"
	"net/netip"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// principal makes requests: a session, the clients of the shared listeners, or
// the host itself.
type principal struct {
	owner

	group        *track.Group    // the connections of its clients count in it; nil: where they were accepted
	requireToken bool            // its own listeners serve only requests with its token
	overlay      *policy.Overlay // the session's own rules; nil: none
	http         any             // belongs to the HTTP front
	blocked      *refusalRecord  // the session's own; nil: only the proxy's is kept
}

func newPrincipal(ctx context.Context, a attribution) *principal {
	return &principal{owner: owner{attribution: a, ctx: ctx}}
}

// principalListener is a listener of one principal.
type principalListener struct {
	*track.Listener
	principal *principal
}

// request is one request on its way through the checks.
type request struct {
	policy.Query
	client    netip.AddrPort
	principal *principal
	policy    *policy.Policy // that it was decided under; nil before

	// listener is the principal whose context the request's context is derived
	// from. The request then ends with it, and needs no second watcher. It is
	// nil if there is none.
	listener *principal
}

// asked returns the request as the asker sees it.
func (r *request) asked() *askedRequest {
	return &askedRequest{Owner: &r.principal.owner, Protocol: r.Protocol, Target: r.Target, Method: r.Method, Client: r.client}
}

// addrPortOf is a connection's address as netip has it; zero where it is not
// one of IP (a unix socket, a pipe).
func addrPortOf(a net.Addr) netip.AddrPort {
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

// fixedAddrs are the addresses of a target that needs no lookup: a literal,
// and localhost, which RFC 6761 section 6.3 keeps off the network.
func fixedAddrs(h hostname.Host) []netip.Addr {
	switch {
	case h.IsIP():
		return []netip.Addr{h.ScopedAddr()}
	case h.IsLocalhost():
		return loopbackAddrs[:]
	}
	return nil
}
