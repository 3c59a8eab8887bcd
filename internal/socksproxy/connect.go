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

// wireRequest is a request as it came (RFC 1928 section 4).
type wireRequest struct {
	addr netip.Addr // zero when name stands for it
	name string
	port uint16
	rest *bufio.Reader // what the client sends after it
}

// refuseOverLimit refuses a request that came by a connection too many.
func (s *Proxy) refuseOverLimit(c *clientConn, r *wireRequest) {
	target, err := parseTarget(r.addr, r.name, r.port)
	if err != nil {
		s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, err)
	} else {
		s.gate.Refused(c.request(policy.ProtocolSOCKS5TCP, target), s.gate.OverLimit())
	}
	c.refuse(replyFailure)
}

// connect dials, and only then answers: a client must be able to tell a
// target that is out of reach from one that closes.
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
	early, _ := r.rest.Peek(r.rest.Buffered()) // what is buffered can be peeked at
	s.gate.Relay(c.Conn, conn, req, tunnel.Options{Early: early})
}

// admit decides about a request, and dials if the answer is yes.
func (s *Proxy) admit(ctx context.Context, req *gate.Request, lr *gate.LiveRequest) (net.Conn, error) {
	v := s.gate.Decide(ctx, req)
	if !v.Allowed {
		return nil, gate.NewRefusedError(req, v.Verdict)
	}
	return s.gate.Dial(ctx, req, &v, lr)
}

// recordError keeps account of a request that was refused, or whose target
// could not be reached.
func (s *Proxy) recordError(req *gate.Request, err error) {
	var refused *gate.RefusedError
	if errors.As(err, &refused) {
		s.gate.Refused(req, refused.Verdict)
		return
	}
	s.gate.Failed(req, err)
}

// bind refuses BIND (RFC 1928 section 4), by which a client would have a
// third party connect to this machine.
func (s *Proxy) bind(c *clientConn, _ *wireRequest) {
	s.gate.Malformed(c.client, policy.ProtocolSOCKS5TCP, errors.New("BIND is not supported"))
	c.refuse(replyCommandUnsupported)
}

// parseTarget is a destination as SOCKS5 spells it (RFC 1928 section 5): an
// address, or else a name, in whose place an address in text may stand.
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
