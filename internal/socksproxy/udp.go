package socksproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/socksudp"
	"example.com/networkproxy/internal/udpbatch"
)

// Limits of UDP. Datagrams over a limit are dropped and counted. The first three
// are the defaults of networkproxy.Limits.
const (
	UDPFlowIdle   = 60 * time.Second   // a flow ends after this time without a datagram
	UDPFlows      = 256                // of one association; a new flow replaces the one idle for longest
	UDPTotalFlows = 1024               // of all associations, because each holds a socket
	UDPRefusalTTL = approval.DenialTTL // time until a target that was refused or failed is tried again
	MaxUndecided  = 16                 // flows of one association that wait for the decider
	MaxWaiting    = 4                  // datagrams that one flow queues while it opens
)

const (
	// The maximum payloads over IPv4 and IPv6 (RFC 768, RFC 791, RFC 8200).
	maxPayload4 = 65535 - 20 - 8
	maxPayload6 = 65535 - 8

	// udpBuffer is the size of the system's buffers for a socket. It holds a
	// few datagrams of maximum size. Some systems send no datagram larger than
	// the buffer.
	udpBuffer = 256 << 10
)

// association is one UDP ASSOCIATE request (RFC 1928 section 7). It relays
// datagrams between one client and any number of targets, and judges each
// target. The client is the peer of the TCP connection that made the request,
// and the association ends with that connection.
type association struct {
	front    *Proxy
	conn     *clientConn  // the TCP connection of the request
	relay    *net.UDPConn // exchanges datagrams with the client
	ctx      context.Context
	cancel   context.CancelFunc
	activity activity
	tasks    sync.WaitGroup

	// client is the address that the client sends from. It is nil until that is
	// settled, which is when the target of one of its datagrams is allowed. It is
	// set with mu held.
	client atomic.Pointer[netip.AddrPort]

	// stated is the address that the client, in its request, stated to send
	// from. A zero address or port stands for any.
	stated netip.AddrPort

	// Used by receive only.
	senderCheck senderCheck
	logged      [audit.DropCauses]bool // causes with a line in the log
	batch       batch

	mu     sync.Mutex
	flows  map[string]*flow // by the target address as the client writes it; see unsettledKey
	asking int              // flows that wait for the decider
}

// associate serves UDP ASSOCIATE. The request may state the address that the
// client will send from. Most clients do not know it and state none. If stated,
// it must be the client's address of the TCP connection, because that one is
// proven.
func (s *Proxy) associate(c *clientConn, r *wireRequest) {
	req := c.request(policy.ProtocolSOCKS5UDP, hostname.Target{})
	if !s.config.UDP {
		s.gate.Malformed(c.principal, c.client, req.Protocol, errors.New("UDP ASSOCIATE is off; enable_socks5_udp = true turns it on"))
		c.refuse(replyCommandUnsupported)
		return
	}
	if v := s.gate.Policy().JudgeProtocol(&req.Query); !v.Allowed {
		s.gate.Refused(req, v)
		c.refuse(replyNotAllowed)
		return
	}
	stated, err := statedSender(c, r)
	if err != nil {
		s.gate.Malformed(c.principal, c.client, req.Protocol, err)
		c.refuse(replyNotAllowed)
		return
	}
	relay, err := listenRelay(c.LocalAddr())
	if err != nil {
		s.gate.Failed(req, err)
		c.refuse(replyFailure)
		return
	}
	defer relay.Close()
	s.gate.Self.Add(relay.LocalAddr())
	defer s.gate.Self.Remove(relay.LocalAddr())
	if c.accept(relay.LocalAddr()) != nil {
		return // the client has disconnected
	}
	a := &association{front: s, conn: c, relay: relay, stated: stated, flows: make(map[string]*flow)}
	a.senderCheck = senderCheck{dir: s.procNet, client: c.client, proxy: gate.AddrPortOf(c.LocalAddr()), relay: gate.AddrPortOf(relay.LocalAddr())}
	a.run(r.rest)
}

// statedSender returns the address that a client states to send from in its
// request. A zero address or port stands for any (RFC 1928 section 7).
func statedSender(c *clientConn, r *wireRequest) (netip.AddrPort, error) {
	addr := r.addr.Unmap()
	if !addr.IsValid() || addr.IsUnspecified() {
		return netip.AddrPortFrom(netip.Addr{}, r.port), nil
	}
	if addr != c.client.Addr().WithZone("") {
		return netip.AddrPort{}, fmt.Errorf("UDP ASSOCIATE states the client address %s; it must be that of the TCP connection, %s, or 0.0.0.0",
			addr, c.client.Addr())
	}
	return netip.AddrPortFrom(addr, r.port), nil
}

// mayBeClient reports whether a datagram from an address may be the client's. It
// is used until the client's address is settled.
func (a *association) mayBeClient(from netip.AddrPort) bool {
	return from.Addr().Unmap() == a.conn.client.Addr() && (a.stated.Port() == 0 || a.stated.Port() == from.Port())
}

// settle makes the sender of f the client of the association, and ends the flows
// of other senders. The target of f must be allowed. settle returns false if another
// sender is the client already, or if f has ended.
func (a *association) settle(f *flow) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f.ctx.Err() != nil {
		return false
	}
	if client := a.client.Load(); client != nil {
		return *client == f.sender
	}
	a.client.Store(&f.sender)
	flows := a.flows
	a.flows = make(map[string]*flow, len(flows))
	for _, other := range flows {
		if other.sender == f.sender {
			other.key = other.address
			a.flows[other.key] = other
			continue
		}
		a.front.gate.Counters.Drop(audit.DropSource, len(other.queued))
		other.queued = nil
		other.cancel()
	}
	return true
}

// listenRelay opens the socket that exchanges datagrams with a client. It
// listens on the IP address to which the client's TCP connection was made,
// because the client can reach that.
func listenRelay(reached net.Addr) (*net.UDPConn, error) {
	tcp, ok := reached.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("UDP ASSOCIATE needs a TCP control connection over IP, not %s", reached.Network())
	}
	relay, err := net.ListenUDP("udp", &net.UDPAddr{IP: tcp.IP, Zone: tcp.Zone})
	if err != nil {
		return nil, err
	}
	growBuffers(relay)
	return relay, nil
}

// growBuffers requests buffers for large datagrams. The system may grant less.
func growBuffers(conn *net.UDPConn) {
	conn.SetReadBuffer(udpBuffer)
	conn.SetWriteBuffer(udpBuffer)
}

// run relays until the TCP connection ends, the association is idle for too
// long, its lifetime is over, or its principal ends. rest reads the TCP
// connection, whose bytes have no meaning.
func (a *association) run(rest io.Reader) {
	a.ctx, a.cancel = context.WithCancel(a.conn.principal.Context)
	if life := a.front.config.TunnelLifetime; life > 0 {
		defer time.AfterFunc(life, a.cancel).Stop()
	}
	a.front.gate.ClientLog.Debug("association open", "client", a.conn.client, "relay", a.relay.LocalAddr().String())
	a.activity.start()
	a.tasks.Go(func() {
		defer a.cancel()
		io.Copy(io.Discard, rest)
	})
	a.tasks.Go(func() {
		<-a.ctx.Done()
		a.close()
	})
	defer a.tasks.Wait()
	defer a.cancel()
	a.receive()
}

// close closes the sockets and ends all flows, so that every goroutine returns.
func (a *association) close() {
	a.relay.Close()
	a.conn.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flows {
		a.remove(f)
	}
}

// recoverPanic is deferred by the goroutines that call code of the host or parse
// received data. A panic ends one association only.
func (a *association) recoverPanic() {
	if p := recover(); p != nil {
		a.front.gate.ClientLog.Error("panic in a UDP association", "client", a.conn.client, "panic", p, "stack", string(debug.Stack()))
		a.cancel()
	}
}

// receive reads the datagrams of the relay until it is closed or idle.
func (a *association) receive() {
	r, err := udpbatch.NewReader(a.relay, &a.front.buffers)
	if err != nil {
		return // the relay is closed
	}
	defer r.Close()
	readLoop(a.relay, &a.activity, a.front.config.TunnelIdle, func() error {
		n, err := r.Read()
		if err != nil {
			return err
		}
		for i := range n {
			a.datagram(r.Data(i), r.From(i), r.Scratch())
		}
		a.batch.send(r.Scratch())
		return nil
	})
}

// datagram checks a received datagram and adds it to the batch. If it has
// another destination than the batch, it sends the batch and starts another.
func (a *association) datagram(b []byte, from netip.AddrPort, scratch []byte) {
	client := a.client.Load()
	if client != nil && *client != from || client == nil && !a.mayBeClient(from) {
		a.drop(audit.DropSource, "from", from)
		return
	}
	d, err := socksudp.Parse(b)
	switch {
	case errors.Is(err, socksudp.ErrFragment):
		a.drop(audit.DropFragment, "error", a.front.gate.ErrorText(err))
		return
	case err != nil:
		a.drop(audit.DropMalformed, "error", a.front.gate.ErrorText(err))
		return
	}
	if client == nil && !a.senderCheck.allows(from) {
		a.drop(audit.DropSource, "from", from)
		return
	}
	if !a.batch.add(d) {
		a.batch.send(scratch)
		a.activity.touch()
		a.batch.start(a.flowFor(d, from), d)
	}
}

// batch collects consecutive datagrams for one flow from one read of the relay,
// to be sent together.
type batch struct {
	flow    *flow // nil if the batch is empty
	address []byte
	data    [udpbatch.MaxBatch][]byte
	n       int
}

// add appends d if it has the batch's destination and there is room. It reports
// whether it did.
func (b *batch) add(d socksudp.Datagram) bool {
	if b.flow == nil || b.n == len(b.data) || !bytes.Equal(b.address, d.Address) {
		return false
	}
	b.data[b.n] = d.Data
	b.n++
	return true
}

// start makes d the first datagram of the batch, for f. A nil f leaves the batch
// empty.
func (b *batch) start(f *flow, d socksudp.Datagram) {
	if b.flow = f; f != nil {
		b.address, b.data[0], b.n = d.Address, d.Data, 1
	}
}

// send sends the datagrams and empties the batch, because their memory belongs
// to the next read.
func (b *batch) send(scratch []byte) {
	if b.flow != nil {
		b.flow.send(b.data[:b.n], scratch)
		clear(b.data[:b.n])
		b.flow, b.address, b.n = nil, nil, 0
	}
}

// drop counts a dropped datagram. It logs one line for each cause only, so that
// a client cannot fill the log. Only receive's goroutine calls it, without a.mu.
func (a *association) drop(cause audit.DropCause, key string, value any) {
	a.front.gate.Counters.Drop(cause, 1)
	if a.logged[cause] {
		return
	}
	a.logged[cause] = true
	if !a.front.gate.LogLimiter.Allow(&a.conn.principal.Owner) {
		return
	}
	a.front.gate.Log.Warn("datagrams are dropped", "client", a.conn.client, "cause", cause.String(), key, value)
}
