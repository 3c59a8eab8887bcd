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

// Attribution says on whose behalf requests are made, in the host's words.
// The zero value says nothing.
type Attribution struct {
	Command        string            // the command line that runs
	ExecPolicyHint string            // what the host's execution policy said of the command
	Labels         map[string]string // anything else that the host wants back; not to be changed afterwards
}

// principal makes requests: a session, the clients of the shared listeners, or
// the host itself.
type principal struct {
	owner

	group        *track.Group    // the connections of its clients count in it; nil: where they were accepted
	requireToken bool            // its own listeners serve only requests with its token
	overlay      *policy.Overlay // the session's own rules; nil: none
	pools        *pools          // its connections for forwarding
	blocked      *refusalRecord  // the session's own; nil: only the proxy's is kept
}

func newPrincipal(ends context.Context, e *enforcer, a Attribution) *principal {
	return &principal{owner: owner{attribution: attribution(a), ctx: ends}, pools: newPools(e)}
}

// owns reports whether a context ends with what is under way for the
// principal, as that of a request by one of its own listeners does.
func (f *principal) owns(ctx context.Context) bool {
	x, ok := ctx.Value(clientStateKey{}).(*clientState)
	return ok && x.principal == f
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
