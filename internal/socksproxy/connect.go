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
		s.gate.Malformed(c.principal, c.client, policy.ProtocolSOCKS5TCP, err)
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
		s.gate.Malformed(c.principal, c.client, policy.ProtocolSOCKS5TCP, err)
		c.refuse(replyNotAllowed)
		return
	}
	req := c.request(policy.ProtocolSOCKS5TCP, target)
	req.CanOpen = true
	ctx, stop := c.watch(r.rest)
	v := s.gate.Decide(ctx, req)
	if v.Open {
		s.open(ctx, stop, c, r, req, &v)
		return
	}
	req.CanOpen = false // a later policy that requires an opened tunnel cuts this one
	live := new(gate.LiveRequest)
	conn, err := s.dial(ctx, req, &v, live)
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

// dial dials the target of a request if it is allowed.
func (s *Proxy) dial(ctx context.Context, req *gate.Request, v *gate.Ruling, lr *gate.LiveRequest) (net.Conn, error) {
	if !v.Allowed {
		return nil, gate.NewRefusedError(req, v.Verdict)
	}
	return s.gate.Dial(ctx, req, v, lr)
}

// open serves an allowed request whose tunnel must be opened. stop ends the watch of
// the client.
func (s *Proxy) open(ctx context.Context, stop func(), c *clientConn, r *wireRequest, req *gate.Request, v *gate.Ruling) {
	ruling := *v // it lasts as long as the tunnel
	t, err := s.gate.DialOpened(ctx, req, &ruling)
	stop()
	if err != nil {
		s.recordError(req, err)
		c.refuse(replyCode(err))
		return
	}
	if err := c.accept(t.Origin.LocalAddr()); err != nil {
		t.Failed(err)
		t.Origin.Close()
		t.End()
		return
	}
	early, _ := r.rest.Peek(r.rest.Buffered()) // never fails: it asks for buffered bytes only
	s.config.Open(c.entry, c.Conn, early, t)
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
	s.gate.Malformed(c.principal, c.client, policy.ProtocolSOCKS5TCP, errors.New("BIND is not supported"))
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
