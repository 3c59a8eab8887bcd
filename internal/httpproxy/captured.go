// Plain HTTP on connections that a fence captured. Their clients send requests as to
// an origin server.

package httpproxy

import (
	"context"
	"errors"
	"net/http"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/track"
)

// captured is the part of a clientState that only a captured connection has.
type captured struct {
	target hostname.Target
	local  bool             // the client knows the target by a loopback address
	ruling *gate.Ruling     // for the first request; nil afterwards
	origin *gate.PooledConn // for the first request; nil afterwards
}

// takeOrigin returns the connection to the target if it was not used yet.
func (c *captured) takeOrigin() *gate.PooledConn {
	if c == nil {
		return nil
	}
	origin := c.origin
	c.origin = nil
	return origin
}

// ServeCaptured serves HTTP on a captured connection of p until it ends. It closes
// both connections of c. The origin server is only asked for the host that the
// connection was opened for.
func (h *Proxy) ServeCaptured(p *gate.Principal, entry *track.Entry, c gate.Captured) {
	state := &clientState{
		client: gate.AddrPortOf(c.Conn.RemoteAddr()), principal: p, entry: entry,
		captured: &captured{target: c.Target.Clone(), local: c.Local, ruling: c.Ruling, origin: c.Origin},
	}
	state.live.Persistent = true
	defer state.live.Leave()
	defer state.closeOrigin()
	h.server.ServeConn(context.WithValue(p.Context, clientStateKey{}, state), c.Conn)
	if refused := state.captured.takeRefusal(); refused != nil {
		h.gate.Refused(state.capturedRequest(""), refused.Verdict) // there was no valid request
	}
}

// takeRefusal returns the refusal of the connection if it was not used yet.
func (c *captured) takeRefusal() *gate.Ruling {
	if c.ruling == nil || c.ruling.Allowed {
		return nil
	}
	refused := c.ruling
	c.ruling = nil
	return refused
}

// capturedRequest returns a request to the target of the connection.
func (s *clientState) capturedRequest(method string) *gate.Request {
	return s.newRequest(policy.ProtocolCapturedTCP, s.captured.target, method)
}

// closeOrigin closes the connection to the target if no request has used it.
func (s *clientState) closeOrigin() {
	if origin := s.captured.takeOrigin(); origin != nil {
		origin.Close()
	}
}

// admitCaptured is admit for a request on a captured connection.
func (h *Proxy) admitCaptured(w http.ResponseWriter, r *http.Request, state *clientState) *gate.Request {
	req := state.capturedRequest(r.Method)
	named, err := originTarget(r, state.captured.target)
	if err != nil {
		if refused := state.captured.takeRefusal(); refused != nil {
			h.refuse(w, req, refused.Verdict)
			return nil
		}
		h.malformed(w, state.principal, state.client, policy.ProtocolCapturedTCP, r.Method, gate.RedactError(err))
		return nil
	}
	req.HTTP.Target, req.HTTP.Header = requestTarget(r, "", false), r.Header
	req.Upgrade = r.ProtoAtLeast(1, 1) && UpgradeOffer(r.Header) != ""
	if named != req.Target && !(state.captured.local && policy.IsLoopback(named.Host) && named.Port == req.Target.Port) {
		v := policy.Verdict{
			Reason: policy.ReasonHostMismatch, Source: policy.SourceBaselinePolicy, Check: policy.CheckServerName,
			ServerName: named.String(), Generation: h.gate.Policy().Generation,
		}
		if refused := state.captured.takeRefusal(); refused != nil {
			v = refused.Verdict
		}
		h.refuse(w, req, v)
		return nil
	}
	return req
}

// decideCaptured returns the ruling on a request of a captured connection. The first
// request has the ruling of the connection. Each later one gets a ruling of its own.
func (h *Proxy) decideCaptured(ctx context.Context, c *captured, req *gate.Request) gate.Ruling {
	first := c.ruling
	if first == nil {
		return h.gate.Decide(ctx, req)
	}
	c.ruling = nil
	return h.gate.Confirm(req, first)
}

// originTarget returns the target that a request names for an origin server: by the
// URL in absolute-form, or else by the Host field (RFC 9112 section 3.3). A request
// without a port, or without a Host field, has that of the connection.
func originTarget(r *http.Request, of hostname.Target) (hostname.Target, error) {
	if r.ProtoMajor != 1 {
		return hostname.Target{}, errors.New("HTTP/2 without TLS cannot be judged; use HTTP/1.1 or https")
	}
	if r.Method == http.MethodConnect {
		return hostname.Target{}, errors.New("a CONNECT request on this connection cannot be judged; use the proxy that the environment names")
	}
	if r.URL.Scheme == "https" {
		return hostname.Target{}, errors.New("an https:// URL on this connection cannot be judged; use the proxy that the environment names")
	}
	if r.URL.Scheme != "" {
		if _, err := URLTarget(r.URL, r.RequestURI); err != nil {
			return hostname.Target{}, err
		}
	}
	if r.Host == "" {
		return of, nil // HTTP/1.0
	}
	return hostname.ParseTargetDefault(r.Host, of.Port)
}
