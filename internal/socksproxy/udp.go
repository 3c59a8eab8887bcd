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
	UDPFlowIdle      = 60 * time.Second      // a flow in which nothing moves
	UDPFlows         = 256                   // of one association; the one idle for longest makes way
	UDPTotalFlows    = 1024                  // of all associations: each holds a socket
	UDPRefusalStands = approval.DenialMemory // a target that was refused or out of reach is not tried again so long
	MaxQuestions     = 16                    // flows of one association that wait for the decider
	MaxWaiting       = 4                     // datagrams that wait for one flow to open
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
	front *Proxy
	conn  *socksConn   // the TCP connection that it ends with
	relay *net.UDPConn // faces the client
	ctx   context.Context
	end   context.CancelFunc
	moved lastMoved
	tasks sync.WaitGroup

	// client is where the client sends from, once that is settled: nil until a
	// target of one of its datagrams has been allowed. Set while mu is held.
	client atomic.Pointer[netip.AddrPort]

	// said is where the client has said that it sends from. A zero address or
	// port leaves it open.
	said netip.AddrPort

	// For receive alone.
	sender senderCheck
	told   [audit.DropCauses]bool // what the log has of it already
	next   run

	mu     sync.Mutex
	flows  map[string]*flow // by the address as the client writes it; see unsettledKey
	asking int              // flows that wait for the decider
}

// associate serves UDP ASSOCIATE. The request may say where the client will
// send from; most clients do not know and leave it open. Its address must be
// that of the TCP connection, which proves more than what a client says.
func (s *Proxy) associate(c *socksConn, r *socksRequest) {
	req := c.request(policy.ProtocolSOCKS5UDP, hostname.Target{})
	if !s.config.UDP {
		s.gate.Malformed(c.client, req.Protocol, errors.New("UDP ASSOCIATE is off; enable_socks5_udp = true turns it on"))
		c.refuse(socksCommandUnsupported)
		return
	}
	if v := s.gate.Policy().JudgeProtocol(&req.Query); !v.Allowed {
		s.gate.Refused(req, v)
		c.refuse(socksNotAllowed)
		return
	}
	said, err := saidSender(c, r)
	if err != nil {
		s.gate.Malformed(c.client, req.Protocol, err)
		c.refuse(socksNotAllowed)
		return
	}
	relay, err := listenRelay(c.LocalAddr())
	if err != nil {
		s.gate.Failed(req, err)
		c.refuse(socksFailure)
		return
	}
	defer relay.Close()
	s.gate.Self.Add(relay.LocalAddr())
	defer s.gate.Self.Remove(relay.LocalAddr())
	if c.accept(relay.LocalAddr()) != nil {
		return // the client has gone
	}
	a := &association{front: s, conn: c, relay: relay, said: said, flows: make(map[string]*flow)}
	a.sender = senderCheck{dir: s.procNet, client: c.client, proxy: gate.AddrPortOf(c.LocalAddr()), relay: gate.AddrPortOf(relay.LocalAddr())}
	a.run(r.rest)
}

// saidSender returns where a client says in its request that it will send
// from. What is zero in it is left open (RFC 1928 section 6).
func saidSender(c *socksConn, r *socksRequest) (netip.AddrPort, error) {
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
	return from.Addr().Unmap() == a.conn.client.Addr() && (a.said.Port() == 0 || a.said.Port() == from.Port())
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
		return *client == f.from
	}
	a.client.Store(&f.from)
	flows := a.flows
	a.flows = make(map[string]*flow, len(flows))
	for _, other := range flows {
		if other.from == f.from {
			other.key = other.address
			a.flows[other.key] = other
			continue
		}
		a.front.gate.Count.Drop(audit.DropSource, len(other.waiting))
		other.waiting = nil
		other.end()
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
	widen(relay)
	return relay, nil
}

// widen asks for room for long datagrams. The system gives what it will.
func widen(conn *net.UDPConn) {
	conn.SetReadBuffer(udpBuffer)
	conn.SetWriteBuffer(udpBuffer)
}

// run relays until the TCP connection ends, nothing has moved for long, or
// the proxy stops. rest is what the client still sends on that connection:
// nothing that means anything.
func (a *association) run(rest io.Reader) {
	a.ctx, a.end = context.WithCancel(a.conn.from.Context)
	if life := a.front.config.TunnelLifetime; life > 0 {
		defer time.AfterFunc(life, a.end).Stop()
	}
	a.front.gate.ClientLog.Debug("association open", "client", a.conn.client, "relay", a.relay.LocalAddr().String())
	a.moved.start()
	a.tasks.Go(func() {
		defer a.end()
		io.Copy(io.Discard, rest)
	})
	a.tasks.Go(func() {
		<-a.ctx.Done()
		a.close()
	})
	defer a.tasks.Wait()
	defer a.end()
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

// guard is deferred by the tasks that run code of the host's or parse what
// others sent: a panic costs one association.
func (a *association) guard() {
	if p := recover(); p != nil {
		a.front.gate.ClientLog.Error("panic in a UDP association", "client", a.conn.client, "panic", p, "stack", string(debug.Stack()))
		a.end()
	}
}

// receive takes in what comes to the relay's socket.
func (a *association) receive() {
	r, err := udpbatch.NewReader(a.relay, &a.front.buffers)
	if err != nil {
		return // it is closed
	}
	defer r.Close()
	pump(a.relay, &a.moved, a.front.config.TunnelIdle, func() error {
		n, err := r.Read()
		if err != nil {
			return err
		}
		for i := range n {
			a.datagram(r.Data(i), r.From(i), r.Scratch())
		}
		a.next.send(r.Scratch())
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
	if client == nil && !a.sender.owns(from) {
		a.drop(audit.DropSource, "from", from)
		return
	}
	if !a.next.goesOn(d) {
		a.next.send(scratch)
		a.moved.touch()
		a.next.begin(a.flowFor(d, from), d)
	}
}

// run is what a batch has for one flow in a row. It goes out at once.
type run struct {
	flow    *flow // nil: there is none
	address []byte
	data    [udpbatch.MaxBatch][]byte
	n       int
}

// goesOn takes a datagram in that goes where those before it go, if there is
// room.
func (r *run) goesOn(d socksudp.Datagram) bool {
	if r.flow == nil || r.n == len(r.data) || !bytes.Equal(r.address, d.Address) {
		return false
	}
	r.data[r.n] = d.Data
	r.n++
	return true
}

// begin takes in the first datagram for a flow, if there is one.
func (r *run) begin(f *flow, d socksudp.Datagram) {
	if r.flow = f; f != nil {
		r.address, r.data[0], r.n = d.Address, d.Data, 1
	}
}

// send sends what there is, and forgets it: it is the batch's.
func (r *run) send(scratch []byte) {
	if r.flow != nil {
		r.flow.send(r.data[:r.n], scratch)
		clear(r.data[:r.n])
		r.flow, r.address, r.n = nil, nil, 0
	}
}

// drop keeps account of a datagram that goes nowhere. The log gets one line
// of each cause: a client that can fill it must not.
func (a *association) drop(why audit.DropCause, key string, value any) {
	a.front.gate.Count.Drop(why, 1)
	if a.told[why] {
		return
	}
	a.told[why] = true
	if !a.front.gate.Lines.Allow(&a.conn.from.Owner) {
		return
	}
	a.front.gate.Log.Warn("datagrams are dropped", "client", a.conn.client, "cause", why.String(), key, value)
}
