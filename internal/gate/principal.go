// Principals, listeners and requests. A request belongs to the session of its
// listener or of its token. No other header field identifies the session.

package gate

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// Principal is the source of requests: a session, the clients of the shared
// listeners, or the host.
type Principal struct {
	audit.Owner

	Clients      *track.Group                   // counts its clients' connections; nil means the group of the listener
	RequireToken bool                           // its listeners serve only requests with its token
	Overlay      atomic.Pointer[policy.Overlay] // the rules in force of the session; nil if none
	Decider      approval.Decider               // its own; nil means that of the proxy
	HTTP         any                            // state of the HTTP front
	Blocked      *audit.Record                  // the session's record beside the proxy's; nil if none
	Traffic      audit.Traffic                  // of its ended requests
	Account      *audit.Account                 // of a session; nil if none
	Credentials  *credential.Session            // its placeholders; nil if it has none
	opened       time.Time                      // of its session
}

// NewPrincipal returns a principal that ends with ctx.
func NewPrincipal(ctx context.Context, a *audit.Attribution) *Principal {
	p := &Principal{Owner: audit.Owner{Context: ctx}}
	p.SetAttribution(a)
	return p
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
	trace     *trace         // for events; nil if no consumer wants them

	attribution *audit.Attribution // that of the principal at the last Decide; nil before
	checked     httprule.Content   // what CheckContent has found the body to be

	// Listener is the principal whose context is a parent of the request's
	// context; nil if there is none. If it equals Principal, the request ends
	// with its principal without a second watcher.
	Listener *Principal
}

// Attribution returns the attribution that the principal had when the request was
// judged, or has now if the request was not judged yet.
func (r *Request) Attribution() *audit.Attribution {
	if r.attribution != nil {
		return r.attribution
	}
	return r.Principal.Attribution()
}

// ApprovalRequest returns the request for the decider.
func (r *Request) ApprovalRequest() *approval.Request {
	a := &approval.Request{
		Owner: &r.Principal.Owner, Attribution: r.Attribution(), Decider: r.Principal.Decider,
		Protocol: r.Protocol, Target: r.Target, Method: r.Method, Client: r.Client,
	}
	if r.Protocol == policy.ProtocolHTTPS {
		a.Path = r.path()
	}
	return a
}

// maxPath is the longest part of a path that is shown, in bytes.
const maxPath = 200

// path returns the path of an HTTP request for people, without the query, which may
// contain secrets.
func (r *Request) path() string {
	if r.HTTP == nil {
		return ""
	}
	path, _, _ := strings.Cut(r.HTTP.Target, "?")
	return strings.Clone(policy.CleanText(path, maxPath))
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
