// Connections of the host itself, under the policy of its commands.

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

// DialContext returns a dial function for connections of the host itself, which
// http.Transport, gRPC and database drivers can use. It judges each connection
// with attribution a as it would judge a CONNECT request. network must be "tcp".
// addr is host:port, where host must not be resolved yet, because the policy
// judges names. A refusal is an error that wraps *[RefusedError].
//
// The caller closes the connections. They are cut when a change of the policy
// refuses them, and when the proxy ends.
func (h *Handle) DialContext(a Attribution) func(ctx context.Context, network, addr string) (net.Conn, error) {
	t := &transport{gate: h.gate, from: gate.NewPrincipal(h.drain, audit.Attribution(a))}
	return t.dialContext
}

func (t *transport) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("unsupported network %q; use \"tcp\"", network)
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
	t.gate.Allowed(req)
	return &dialedConn{gate.TargetConn{Conn: conn}, live}, nil
}

// dialedConn is a connection of the host. After the policy has cut it, its errors
// are the refusal.
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
	c.live.Leave() // not End, so that a Read after it can still return the reason
	c.live.Done()
	return c.Conn.Close()
}

func (t *transport) request(protocol Protocol, target hostname.Target, method string) *gate.Request {
	if protocol == ProtocolHTTPSConnect {
		method = http.MethodConnect // as in a request to the proxy
	}
	return &gate.Request{Query: policy.Query{Protocol: protocol, Target: target, Method: method}, Principal: t.from}
}

// admit decides about a request. It records a refusal and returns it as the error.
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

// failedWith records that an allowed request has failed, and returns the error for
// the host.
func (t *transport) failedWith(req *gate.Request, err error) error {
	var refused *gate.RefusedError
	if errors.As(err, &refused) { // because of its addresses, or by a later policy
		t.gate.Refused(req, refused.Verdict)
		return publicError(refused)
	}
	t.gate.Failed(req, err)
	if t.from.Context.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}
