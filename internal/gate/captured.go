// Captured connections: what the front of captured connections passes to the HTTP
// front, and the check of a ruling that was made before the request was read.

package gate

import (
	"net"

	"example.com/networkproxy/internal/hostname"
)

// Captured is a connection that a fence captured on its way to a target. Its client
// believes that it talks to the origin server.
type Captured struct {
	Conn   net.Conn
	Target hostname.Target

	// Local means that the client knows the target by a loopback address.
	Local bool

	// Ruling is the ruling on the connection, which the first request uses. If it
	// refuses, the first request gets the refusal. It is nil if the requests
	// themselves are to be judged.
	Ruling *Ruling

	// Origin is a connection to the target that was opened under Ruling. It is nil
	// if there is none.
	Origin *PooledConn
}

// Confirm judges a request under a ruling that was made for its connection. It asks
// no decider: an allow of the decider holds unless the policy refuses the request.
func (g *Gate) Confirm(req *Request, r *Ruling) Ruling {
	req.attribution = req.Principal.Attribution()
	req.Overlay = req.Principal.Overlay.Load()
	p := g.Policy()
	req.policy = p
	if !r.Allowed {
		return *r
	}
	v, _ := p.Judge(&req.Query, r.Approval(), nil)
	if !v.Allowed {
		return Ruling{Verdict: v}
	}
	return Ruling{v, r.Grant}
}
