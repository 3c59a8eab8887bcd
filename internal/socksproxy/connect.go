package socksproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tunnel"
)

// wireRequest is a request as the client sent it (RFC 1928 section 4).
type wireRequest struct {
	addr netip.Addr // zero if the client sent name instead
	name string
	port uint16
	rest *bufio.Reader // reads what the client sends after the request
}

// refuseOverLimit refuses a request on a connection that exceeds the limit.
func (s *Proxy) refuseOverLimit(c *clientConn, r *wireRequest) {
	target, err := parseTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
	} else {
		s.gate.Refused(c.request(policy.ProtocolSOCKS5TCP, target), s.gate.OverLimit())
	}
	c.refuse(replyFailure)
}

// connect serves CONNECT. It replies after it has dialed, so that the client
// can tell an unreachable target from one that closes the connection.
func (s *Proxy) connect(c *clientConn, r *wireRequest) {
	target, err := parseTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
		c.refuse(replyNotAllowed)
		return
	}
	req := c.request(policy.ProtocolSOCKS5TCP, target)
	ctx, stop := c.watch(r.rest)
	live := new(gate.LiveRequest)
	conn, err := s.admit(ctx, req, live)
	stop()
	if err != nil {
		s.recordError(req, err)
		c.refuse(replyCode(err))
		return
	}
	defer live.End()
	if err := c.accept(conn.LocalAddr()); err != nil {
		conn.Close()
		s.gate.Failed(req, err)
		return
	}
	if !c.entry.SetCloser(tunnel.Pair{A: c.Conn, B: gate.UnderlyingConn(conn)}) {
		conn.Close() // the proxy is stopping
		s.gate.Failed(req, gate.ErrClosed)
		return
	}
	early, _ := r.rest.Peek(r.rest.Buffered()) // never fails: it asks for buffered bytes only
	s.gate.Relay(c.Conn, conn, req, tunnel.Options{Early: early})
}

// admit decides about a request and dials its target if the request is allowed.
func (s *Proxy) admit(ctx context.Context, req *gate.Request, lr *gate.LiveRequest) (net.Conn, error) {
	v := s.gate.Decide(ctx, req)
	if !v.Allowed {
		return nil, gate.NewRefusedError(req, v.Verdict)
	}
	return s.gate.Dial(ctx, req, &v, lr)
}

// recordError records a request that was refused, or whose target could not be
// reached.
func (s *Proxy) recordError(req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		s.gate.Refused(req, refused.Verdict)
		return
	}
	s.gate.Failed(req, err)
}

// bind refuses BIND (RFC 1928 section 4), which would let a third party connect
// to this machine.
func (s *Proxy) bind(c *clientConn, _ *wireRequest) {
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, errors.New("BIND is not supported"))
	c.refuse(replyCommandUnsupported)
}

// parseTarget returns the target that a SOCKS5 address names (RFC 1928 section
// 5): addr, or name if addr is zero. name may also be an address in text form.
func parseTarget(addr netip.Addr, name string, port uint16) (hostname.Target, error) {
	host := hostname.FromAddr(addr)
	if host.IsZero() {
		var err error
		if host, err = hostname.Parse(name); err != nil {
			return hostname.Target{}, err
		}
	}
	if port == 0 {
		return hostname.Target{}, fmt.Errorf("invalid target %s: port 0 cannot be reached", host)
	}
	return hostname.Target{Host: host, Port: port}, nil
}
