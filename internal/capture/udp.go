// Captured datagrams.

package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/approval"
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

const (
	maxFlows   = 256              // of one room; a new flow replaces the one that has been idle longest
	maxWaiting = 4                // datagrams that one flow queues while it opens
	flowIdle   = 60 * time.Second // a flow ends after this time without a datagram
	refusalTTL = approval.DenialTTL
	maxPayload = 65535
)

// flows are the UDP flows of one room.
type flows struct {
	front  *Front
	room   *Room
	socket Datagrams
	tasks  sync.WaitGroup

	mu  sync.Mutex
	all map[flowKey]*flow
}

// flowKey identifies a flow by its two ends as the command sees them.
type flowKey struct{ client, target netip.AddrPort }

// flow is the traffic between one socket of the command and one target. It is judged
// and counted as one request. Each flow has a goroutine, so that a slow decider delays
// no other flow.
type flow struct {
	flows *flows
	key   flowKey
	ctx   context.Context
	end   context.CancelFunc
	last  atomic.Int64 // time of the last datagram in nanoseconds
	sent  atomic.Int64 // bytes

	// Guarded by flows.mu.
	conn   *net.UDPConn // nil while the flow opens, and after a refusal; then constant, like live
	live   *gate.LiveRequest
	queued [][]byte // while the flow opens
	closed bool     // refused or failed: its datagrams are dropped
}

// ServeUDP serves the datagrams that d receives, until d is closed. It returns when
// every flow has ended.
func (f *Front) ServeUDP(d Datagrams, r *Room) error {
	fs := &flows{front: f, room: r, socket: d, all: make(map[flowKey]*flow)}
	defer fs.tasks.Wait()
	defer fs.endAll()
	buf := make([]byte, maxPayload)
	for {
		n, client, target, err := d.Receive(buf)
		if err != nil {
			return err
		}
		fs.datagram(flowKey{client, target}, buf[:n])
	}
}

func (fs *flows) endAll() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.all {
		f.end()
	}
}

// datagram sends a datagram of the command on its flow. The first one opens the flow.
func (fs *flows) datagram(key flowKey, b []byte) {
	if f := fs.enqueue(key, b); f != nil {
		f.send(b)
	}
}

// enqueue queues a datagram until its flow is open, or drops it. If the flow is open,
// enqueue returns it and does not keep b.
func (fs *flows) enqueue(key flowKey, b []byte) *flow {
	now := time.Now()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.all[key]
	switch {
	case f == nil:
		if len(fs.all) >= maxFlows {
			fs.makeRoom()
		}
		f = fs.open(key, now)
		f.queued = append(f.queued, append([]byte(nil), b...))
	case f.closed:
		fs.front.gate.Counters.Drop(audit.DropRefused, 1)
	case f.conn == nil && len(f.queued) >= maxWaiting:
		fs.front.gate.Counters.Drop(audit.DropOverflow, 1)
	case f.conn == nil:
		f.queued = append(f.queued, append([]byte(nil), b...))
	default:
		f.last.Store(now.UnixNano())
		return f
	}
	return nil
}

// makeRoom ends the flow that has been idle longest. The caller holds fs.mu.
func (fs *flows) makeRoom() {
	var oldest *flow
	for _, f := range fs.all {
		if oldest == nil || f.last.Load() < oldest.last.Load() {
			oldest = f
		}
	}
	delete(fs.all, oldest.key)
	oldest.end()
}

// open starts a flow. The caller holds fs.mu.
func (fs *flows) open(key flowKey, now time.Time) *flow {
	f := &flow{flows: fs, key: key}
	f.last.Store(now.UnixNano())
	f.ctx, f.end = context.WithCancel(fs.room.Principal.Context)
	fs.all[key] = f
	fs.tasks.Go(f.run)
	return f
}

// remove removes f if it is still the flow of its key.
func (fs *flows) remove(f *flow) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.all[f.key] == f {
		delete(fs.all, f.key)
	}
}

// send sends a datagram to the target. A datagram that cannot be sent is lost, as on
// any network.
func (f *flow) send(b []byte) {
	if !f.flows.front.gate.StillAllowed(f.live) {
		f.flows.front.gate.Counters.Drop(audit.DropRefused, 1)
		return
	}
	if _, err := f.conn.Write(b); err != nil {
		f.flows.front.gate.Counters.Drop(audit.DropLost, 1)
		return
	}
	f.sent.Add(int64(len(b)))
}

// run decides about the flow and relays the datagrams of the target until the flow has
// ended.
func (f *flow) run() {
	defer f.flows.remove(f)
	defer f.end()
	g, p := f.flows.front.gate, f.flows.room.Principal
	host, err := f.flows.room.Names.Host(f.key.target.Addr())
	if err != nil {
		g.Malformed(p, f.key.client, policy.ProtocolCapturedUDP, err)
		f.stayClosed()
		return
	}
	req := &gate.Request{
		Query: policy.Query{
			Protocol: policy.ProtocolCapturedUDP, Target: hostname.Target{Host: host, Port: f.key.target.Port()}, Overlay: p.Overlay.Load(),
		},
		Client: f.key.client, Principal: p, Listener: p,
	}
	v := g.Decide(f.ctx, req)
	if !v.Allowed {
		g.Refused(req, v.Verdict)
		f.stayClosed()
		return
	}
	live := new(gate.LiveRequest)
	conn, err := g.DialUDP(f.ctx, req, &v, live)
	if err != nil {
		f.fail(req, err)
		return
	}
	defer live.End()
	defer conn.Close()
	defer context.AfterFunc(f.ctx, func() { conn.Close() })()
	if !f.opened(conn.UDPConn, live) {
		return
	}
	g.Allowed(req)
	received := f.relay(conn.UDPConn, live)
	g.Ended(req, f.sent.Load(), received)
}

// fail records that an allowed flow failed or was refused by its addresses.
func (f *flow) fail(req *gate.Request, err error) {
	g := f.flows.front.gate
	if refused := (*gate.RefusedError)(nil); errors.As(err, &refused) {
		g.Refused(req, refused.Verdict)
	} else {
		g.Failed(req, err)
	}
	f.stayClosed()
}

// opened makes conn the socket of the flow and sends the queued datagrams. It returns
// false if the flow has ended meanwhile.
func (f *flow) opened(conn *net.UDPConn, live *gate.LiveRequest) bool {
	f.flows.mu.Lock()
	defer f.flows.mu.Unlock()
	if f.ctx.Err() != nil {
		return false
	}
	f.conn, f.live = conn, live
	for _, b := range f.queued {
		f.send(b)
	}
	f.queued = nil
	return true
}

// relay passes the datagrams of the target on until the flow is idle, ends, or is cut.
// It returns the number of bytes.
func (f *flow) relay(conn *net.UDPConn, live *gate.LiveRequest) (received int64) {
	buf := make([]byte, maxPayload)
	for {
		conn.SetReadDeadline(time.Unix(0, f.last.Load()).Add(flowIdle))
		n, err := conn.Read(buf)
		switch {
		case gate.IsTimeout(err):
			if time.Since(time.Unix(0, f.last.Load())) >= flowIdle {
				return received
			}
			continue
		case errors.Is(err, net.ErrClosed), f.ctx.Err() != nil:
			return received
		case err != nil:
			continue // such as an ICMP error for an earlier datagram
		}
		if !f.flows.front.gate.StillAllowed(live) {
			return received
		}
		f.last.Store(time.Now().UnixNano())
		if f.flows.socket.Send(buf[:n], f.key.target, f.key.client) == nil {
			received += int64(n)
		}
	}
}

// stayClosed drops the datagrams of a refused flow for a while, so that each does not
// cause another decision.
func (f *flow) stayClosed() {
	f.flows.mu.Lock()
	f.closed = true
	f.flows.front.gate.Counters.Drop(audit.DropRefused, len(f.queued))
	f.queued = nil
	f.flows.mu.Unlock()
	timer := time.NewTimer(refusalTTL)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.ctx.Done():
	}
}
