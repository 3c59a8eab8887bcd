// Connections of the host itself, under the policy.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

// DialContext returns a dial function for the host's own connections, which
// fits http.Transport, gRPC and database drivers. Each is judged as a CONNECT
// to its address would be, by attribution a. The network is "tcp", and addr
// is host:port with a name that is not resolved yet, for the name is what is
// judged. A refusal is a *[RefusedError].
//
// The caller closes the connections; a change of the policy that refuses one,
// and the end of the proxy, cut it.
func (h *Handle) DialContext(a Attribution) func(ctx context.Context, network, addr string) (net.Conn, error) {
	t := &transport{gate: h.gate, from: gate.NewPrincipal(h.drain, audit.Attribution(a))}
	return t.dialContext
}

func (t *transport) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("cannot dial network %q: only \"tcp\" is carried", network)
	}
	target, err := hostname.ParseTarget(addr)
	if err != nil {
		t.gate.Malformed(netip.AddrPort{}, ProtocolHTTPSConnect, err)
		return nil, err
	}
	req := t.request(ProtocolHTTPSConnect, target, http.MethodConnect)
	v, err := t.admit(ctx, req)
	if err != nil {
		return nil, err
	}
	live := new(gate.LiveRequest)
	conn, err := t.gate.Dial(ctx, req, &v, live)
	if err != nil {
		return nil, t.failedWith(req, err)
	}
	t.gate.Count.Allow(req.Protocol)
	return &dialedConn{gate.TargetConn{Conn: conn}, live}, nil
}

// dialedConn is a connection that a host was given. It fails with the refusal
// where the policy closed it.
type dialedConn struct {
	gate.TargetConn
	live *gate.LiveRequest
}

func (c *dialedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, publicError(c.live.Cause(err))
}

func (c *dialedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	return n, publicError(c.live.Cause(err))
}

func (c *dialedConn) Close() error {
	c.live.Leave() // not end: a Read that fails afterwards still says why
	c.live.Done()
	return c.Conn.Close()
}

func (t *transport) request(protocol Protocol, target hostname.Target, method string) *gate.Request {
	if protocol == ProtocolHTTPSConnect {
		method = http.MethodConnect // as a proxy would see it
	}
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: method}, Principal: t.from}
}

// admit decides about a request; the error is the refusal, which is recorded.
func (t *transport) admit(ctx context.Context, req *gate.Request) (gate.Ruling, error) {
	if t.from.Context.Err() != nil {
		return gate.Ruling{}, ErrClosed
	}
	v := t.gate.Decide(ctx, req)
	if !v.Allowed {
		t.gate.Refused(req, v.Verdict)
		return v, publicError(gate.NewRefusedError(req, v.Verdict))
	}
	return v, nil
}

// failedWith keeps account of a request that was allowed and came to nothing,
// and returns why.
func (t *transport) failedWith(req *gate.Request, err error) error {
	var refused *gate.RefusedError
	if errors.As(err, &refused) { // for the addresses, or by a later policy
		t.gate.Refused(req, refused.Verdict)
		return publicError(refused)
	}
	t.gate.Failed(req, err)
	if t.from.Context.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}
