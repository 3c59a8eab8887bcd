// UDP ASSOCIATE (RFC 1928 section 7): an association, which relays datagrams
// between one client and any number of targets, each of them judged. Its
// client is whoever holds the TCP connection that asked for it, and it ends
// with that connection.

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

// Bounds of UDP. What is over one is dropped and counted, which is what the
// senders of datagrams have to expect anyway. The first three are defaults of
// Limits.
const (
	UDPFlowIdle   = 60 * time.Second   // a flow in which nothing moves
	UDPFlows      = 256                // of one association; the one idle for longest makes way
	UDPTotalFlows = 1024               // of all associations: each holds a socket
	UDPRefusalTTL = approval.DenialTTL // a target that was refused or out of reach is not tried again so long
	MaxQuestions  = 16                 // flows of one association that wait for the decider
	MaxWaiting    = 4                  // datagrams that wait for one flow to open
)

const (
	// The longest payloads: RFC 768 with RFC 791 and RFC 8200.
	maxPayload4 = 65535 - 20 - 8
	maxPayload6 = 65535 - 8

	// udpBuffer is what the system is asked to hold for a socket: a few of
	// the longest datagrams. Some send none longer than their buffer.
	udpBuffer = 256 << 10
)

// association relays for one client.
type association struct {
	front    *Proxy
	conn     *clientConn  // the TCP connection that it ends with
	relay    *net.UDPConn // faces the client
	ctx      context.Context
	cancel   context.CancelFunc
	activity activity
	tasks    sync.WaitGroup

	// client is where the client sends from, once that is settled: nil until a
	// target of one of its datagrams has been allowed. Set while mu is held.
	client atomic.Pointer[netip.AddrPort]

	// stated is where the client has said that it sends from. A zero address or
	// port leaves it open.
	stated netip.AddrPort

	// For receive alone.
	senderCheck senderCheck
	logged      [audit.DropCauses]bool // what the log has of it already
	batch       batch

	mu     sync.Mutex
	flows  map[string]*flow // by the address as the client writes it; see unsettledKey
	asking int              // flows that wait for the decider
}

// associate serves UDP ASSOCIATE. The request may say where the client will
// send from; most clients do not know and leave it open. Its address must be
// that of the TCP connection, which proves more than what a client says.
func (s *Proxy) associate(c *clientConn, r *wireRequest) {
	req := c.request(policy.ProtocolSOCKS5UDP, hostname.Target{})
	if !s.config.UDP {
		s.gate.Malformed(c.client, req.Protocol, errors.New("UDP ASSOCIATE is off; enable_socks5_udp = true turns it on"))
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
		s.gate.Malformed(c.client, req.Protocol, err)
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
		return // the client has gone
	}
	a := &association{front: s, conn: c, relay: relay, stated: stated, flows: make(map[string]*flow)}
	a.senderCheck = senderCheck{dir: s.procNet, client: c.client, proxy: gate.AddrPortOf(c.LocalAddr()), relay: gate.AddrPortOf(relay.LocalAddr())}
	a.run(r.rest)
}

// statedSender returns where a client says in its request that it will send
// from. What is zero in it is left open (RFC 1928 section 6).
func statedSender(c *clientConn, r *wireRequest) (netip.AddrPort, error) {
	addr := r.addr.Unmap()
	if !addr.IsValid() || addr.IsUnspecified() {
		return netip.AddrPortFrom(netip.Addr{}, r.port), nil
	}
	if addr != c.client.Addr().WithZone("") {
		return netip.AddrPort{}, fmt.Errorf("UDP ASSOCIATE is for datagrams from %s; they must come from the address of the TCP connection, %s, or 0.0.0.0 stand for it",
			addr, c.client.Addr())
	}
	return netip.AddrPortFrom(addr, r.port), nil
}

// mayBeClient reports whether a datagram from an address can be the client's,
// before it is settled where the client sends from.
func (a *association) mayBeClient(from netip.AddrPort) bool {
	return from.Addr().Unmap() == a.conn.client.Addr() && (a.stated.Port() == 0 || a.stated.Port() == from.Port())
}

// settle makes the sender of a flow, whose target was allowed, the client of
// the association. It reports false if another sender is, or the flow has
// ended. The flows of other senders end.
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

// listenRelay opens the socket that faces a client, on the address by which
// the client reached the TCP listener: it can reach that one.
func listenRelay(reached net.Addr) (*net.UDPConn, error) {
	tcp, ok := reached.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("the client came by %s, which has no place for datagrams", reached.Network())
	}
	relay, err := net.ListenUDP("udp", &net.UDPAddr{IP: tcp.IP, Zone: tcp.Zone})
	if err != nil {
		return nil, err
	}
	growBuffers(relay)
	return relay, nil
}

// growBuffers asks for room for long datagrams. The system gives what it will.
func growBuffers(conn *net.UDPConn) {
	conn.SetReadBuffer(udpBuffer)
	conn.SetWriteBuffer(udpBuffer)
}

// run relays until the TCP connection ends, nothing has moved for long, or
// the proxy stops. rest is what the client still sends on that connection:
// nothing that means anything.
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

// close ends every wait of every task.
func (a *association) close() {
	a.relay.Close()
	a.conn.Close()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, f := range a.flows {
		a.remove(f)
	}
}

// recoverPanic is deferred by the tasks that run code of the host's or parse what
// others sent: a panic costs one association.
func (a *association) recoverPanic() {
	if p := recover(); p != nil {
		a.front.gate.ClientLog.Error("panic in a UDP association", "client", a.conn.client, "panic", p, "stack", string(debug.Stack()))
		a.cancel()
	}
}

// receive takes in what comes to the relay's socket.
func (a *association) receive() {
	r, err := udpbatch.NewReader(a.relay, &a.front.buffers)
	if err != nil {
		return // it is closed
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

// datagram forwards what is a datagram of the client's, once something comes
// that does not go the same way.
func (a *association) datagram(b []byte, from netip.AddrPort, scratch []byte) {
	client := a.client.Load()
	if client != nil && *client != from || client == nil && !a.mayBeClient(from) {
		a.drop(audit.DropSource, "from", from)
		return
	}
	d, err := socksudp.Parse(b)
	switch {
	case errors.Is(err, socksudp.ErrFragment):
		a.drop(audit.DropFragment, "error", a.front.gate.LogText(err))
		return
	case err != nil:
		a.drop(audit.DropMalformed, "error", a.front.gate.LogText(err))
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

// batch is what a read has for one flow in a row. It goes out at once.
type batch struct {
	flow    *flow // nil: there is none
	address []byte
	data    [udpbatch.MaxBatch][]byte
	n       int
}

// add takes a datagram in that goes where those before it go, if there is
// room.
func (b *batch) add(d socksudp.Datagram) bool {
	if b.flow == nil || b.n == len(b.data) || !bytes.Equal(b.address, d.Address) {
		return false
	}
	b.data[b.n] = d.Data
	b.n++
	return true
}

// start takes in the first datagram for a flow, if there is one.
func (b *batch) start(f *flow, d socksudp.Datagram) {
	if b.flow = f; f != nil {
		b.address, b.data[0], b.n = d.Address, d.Data, 1
	}
}

// send sends what there is, and forgets it: it is the batch's.
func (b *batch) send(scratch []byte) {
	if b.flow != nil {
		b.flow.send(b.data[:b.n], scratch)
		clear(b.data[:b.n])
		b.flow, b.address, b.n = nil, nil, 0
	}
}

// drop keeps account of a datagram that goes nowhere. The log gets one line
// of each cause: a client that can fill it must not.
func (a *association) drop(why audit.DropCause, key string, value any) {
	a.front.gate.Counters.Drop(why, 1)
	if a.logged[why] {
		return
	}
	a.logged[why] = true
	if !a.front.gate.LogLimiter.Allow(&a.conn.principal.Owner) {
		return
	}
	a.front.gate.Log.Warn("datagrams are dropped", "client", a.conn.client, "cause", why.String(), key, value)
}
