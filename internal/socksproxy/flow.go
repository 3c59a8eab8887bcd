// A flow: what one client of UDP ASSOCIATE exchanges with one target. It is
// the unit that is judged and counted: opened, it is one allowed request;
// refused or out of reach, one refused or failed one, however many datagrams
// there are.

package socksproxy

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
	"example.com/networkproxy/internal/socksudp"
	"example.com/networkproxy/internal/udpbatch"
)

// flow has a task of its own from its beginning to its end: a name server or
// a decider that takes its time holds up nobody else.
type flow struct {
	of      *association
	key     string         // in of.flows
	address string         // of the target, as the client writes it
	from    netip.AddrPort // who sends the datagrams
	req     *gate.Request
	ctx     context.Context
	end     context.CancelFunc
	moved   lastMoved
	place   share.Item[*gate.Principal, *flow] // the budget's

	// Guarded by of.mu.
	state   flowState
	asks    bool              // it counts in of.asking
	waiting [][]byte          // while opening: what has come so far
	conn    gate.UDPConn      // once open; it does not change then
	live    *gate.LiveRequest // likewise
	out     *udpbatch.Sender  // likewise: to the target
	shut    shutFlow          // once shut
}

type flowState uint8

const (
	flowOpening flowState = iota
	flowOpen
	flowShut // refused or out of reach; it stays to say so for a while
)

// shutFlow is how long a flow stays shut.
type shutFlow struct {
	at         time.Time
	generation uint64
}

// flowBudget bounds the flows of all associations that have a task, shared
// fairly among the sessions. Safe for concurrent use.
type flowBudget struct {
	mu    sync.Mutex
	flows share.List[*gate.Principal, *flow]
}

func newFlowBudget(limit int) flowBudget {
	return flowBudget{flows: share.List[*gate.Principal, *flow]{Limit: limit}}
}

// take gives f a place. It returns the flow that has to end for that, if any:
// of the session that has the most, the one in which nothing has moved for
// longest.
func (b *flowBudget) take(f *flow) (displaced *flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if victim := b.flows.Victim(f.req.Principal); victim != nil {
		for other := range b.flows.Of(b.flows.UserOf(victim)) {
			if other.Value.moved.ago() > victim.Value.moved.ago() {
				victim = other
			}
		}
		b.flows.Remove(victim)
		displaced = victim.Value
	}
	f.place.Value = f
	b.flows.Push(f.req.Principal, &f.place)
	return displaced
}

// give takes back the place of f, which may be displaced already.
func (b *flowBudget) give(f *flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flows.Remove(&f.place)
}

// flowFor returns the flow that a datagram is to be sent by now. Without one,
// the datagram waits for its flow to open, or was dropped.
func (a *association) flowFor(d socksudp.Datagram, from netip.AddrPort) *flow {
	f, displaced := a.flowOrWait(d, from)
	if displaced != nil {
		displaced.of.displace(displaced) // without a.mu: it may be another association's
	}
	return f
}

// unsettledKey is the key of a flow while it is not settled where the client
// sends from: several senders may write the same address. The key is the
// address alone afterwards.
func unsettledKey(address []byte, from netip.AddrPort) string {
	b, _ := from.AppendBinary(slices.Clone(address)) // never fails
	return string(b)
}

// displace ends a flow that has lost its place to another.
func (a *association) displace(f *flow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(f)
}

// flowOrWait is flowFor. The flow that it displaces, if any, is the caller's to
// end.
func (a *association) flowOrWait(d socksudp.Datagram, from netip.AddrPort) (_, displaced *flow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var f *flow
	switch client := a.client.Load(); {
	case client == nil:
		f = a.flows[unsettledKey(d.Address, from)]
	case *client == from:
		f = a.flows[string(d.Address)]
	default: // it was settled a moment ago
		a.drop(audit.DropSource, "from", from)
		return nil, nil
	}
	if f != nil && f.state == flowShut && f.shut.over(a) {
		a.remove(f)
		f = nil
	}
	if f == nil {
		if f, displaced = a.begin(d, from); f == nil {
			return nil, nil
		}
	}
	f.moved.touch()
	switch {
	case f.state == flowOpen:
		return f, displaced
	case f.state == flowShut:
		a.front.gate.Count.Drop(audit.DropRefused, 1)
	case len(f.waiting) == MaxWaiting:
		a.front.gate.Count.Drop(audit.DropOverflow, 1)
	default:
		f.waiting = append(f.waiting, slices.Clone(d.Data))
	}
	return nil, displaced
}

// begin begins the flow of a datagram, or drops the datagram and returns nil.
// displaced is the flow that had to make room. a.mu is held.
func (a *association) begin(d socksudp.Datagram, from netip.AddrPort) (f, displaced *flow) {
	target, err := socksTarget(d.Addr, string(d.Name), d.Port)
	if err != nil {
		a.drop(audit.DropMalformed, "error", a.front.gate.LogText(err))
		return nil, nil
	}
	req := a.conn.request(policy.ProtocolSOCKS5UDP, target)
	asks := a.front.gate.Asks(req)
	if asks && a.asking == MaxQuestions {
		a.drop(audit.DropOverflow, "questions", a.asking)
		return nil, nil
	}
	if len(a.flows) == a.front.config.UDPFlows {
		a.remove(a.oldest())
	}
	f = &flow{of: a, address: string(d.Address), from: from, req: req, asks: asks}
	f.key = f.address
	if a.client.Load() == nil {
		f.key = unsettledKey(d.Address, from)
	}
	f.ctx, f.end = context.WithCancel(a.ctx)
	f.moved.start()
	displaced = a.front.budget.take(f)
	if asks {
		a.asking++
	}
	a.flows[f.key] = f
	a.tasks.Go(f.run)
	return f, displaced
}

// over reports whether the target may be tried again: a decider may think
// otherwise by now, a name may resolve, and another policy is another matter.
func (s shutFlow) over(a *association) bool {
	return time.Since(s.at) >= a.front.config.RefusalStands || s.generation != a.front.gate.Policy().Generation
}

// oldest returns the flow to make way for another: one that is shut, if there
// is any, and of those the one in which nothing has moved for longest. a.mu is
// held, and there is a flow.
func (a *association) oldest() *flow {
	var oldest *flow
	for _, f := range a.flows {
		switch {
		case oldest == nil,
			f.state == flowShut && oldest.state != flowShut,
			(f.state == flowShut) == (oldest.state == flowShut) && f.moved.ago() > oldest.moved.ago():
			oldest = f
		}
	}
	return oldest
}

// remove ends a flow and forgets it. a.mu is held.
func (a *association) remove(f *flow) {
	if a.flows[f.key] == f {
		delete(a.flows, f.key)
	}
	f.end()
	if f.state == flowOpen {
		f.conn.Close()
	}
}

// run is the flow's task.
func (f *flow) run() {
	a := f.of
	defer a.front.budget.give(f)
	defer a.guard()
	generation := a.front.gate.Policy().Generation
	conn, live, err := f.open()
	if err != nil {
		// In this order: who acts on the record finds the flow shut, and who
		// waits for the count finds the record.
		waited := f.stayShut(generation)
		a.front.notAdmitted(f.req, err)
		a.front.gate.Count.Drop(audit.DropRefused, waited)
		return
	}
	defer live.End()
	defer conn.Close()
	if !a.settle(f) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.front.gate.Count.Drop(audit.DropSource, len(f.waiting))
		f.waiting = nil
		a.remove(f)
		return
	}
	a.front.gate.Count.Allow(f.req.Protocol)
	a.front.gate.ClientLog.Debug("flow open", "host", f.req.Target.Host.String(), "port", f.req.Target.Port, "client", f.req.Client)
	out, err := udpbatch.NewSender(conn.UDPConn, netip.AddrPort{}, nil)
	if err == nil && f.sendWaiting(conn, live, out) {
		f.receive()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(f)
}

// open decides about the flow and opens its socket.
func (f *flow) open() (gate.UDPConn, *gate.LiveRequest, error) {
	a := f.of
	v := a.front.gate.Decide(f.ctx, f.req)
	a.mu.Lock()
	if f.asks {
		a.asking--
	}
	a.mu.Unlock()
	if !v.Allowed {
		return gate.UDPConn{}, nil, gate.NewRefusedError(f.req, v.Verdict)
	}
	live := new(gate.LiveRequest)
	conn, err := a.front.gate.DialUDP(f.ctx, f.req, &v, live)
	if err == nil {
		widen(conn.UDPConn)
	}
	return conn, live, err
}

// stayShut leaves the flow behind as one that was refused or out of reach
// under a generation, and returns how many datagrams have waited in vain.
func (f *flow) stayShut(generation uint64) (waited int) {
	a := f.of
	a.mu.Lock()
	defer a.mu.Unlock()
	f.end()
	f.state = flowShut
	f.shut = shutFlow{at: time.Now(), generation: generation}
	waited = len(f.waiting)
	f.waiting = nil
	return waited
}

// sendWaiting sends what has come while the flow was opening, in order, and
// then opens it for what comes. It reports false if the flow has ended.
func (f *flow) sendWaiting(conn gate.UDPConn, live *gate.LiveRequest, out *udpbatch.Sender) bool {
	a := f.of
	for {
		a.mu.Lock()
		if f.ctx.Err() != nil {
			a.mu.Unlock()
			return false
		}
		waiting := f.waiting
		f.waiting = nil
		f.conn, f.live, f.out = conn, live, out
		if len(waiting) == 0 {
			f.state = flowOpen
			a.mu.Unlock()
			return true
		}
		a.mu.Unlock()
		f.send(waiting, nil)
	}
}

// send sends datagrams, if the policy in force lets them. scratch is memory
// to put them together in, if there is any.
func (f *flow) send(datagrams [][]byte, scratch []byte) {
	if !f.of.front.gate.StillAllowed(f.live) {
		f.of.front.gate.Count.Drop(audit.DropRefused, len(datagrams))
		return
	}
	f.of.front.gate.Count.Drop(audit.DropLost, f.out.Send(datagrams, scratch))
}

// receive passes on what the target sends, until the flow ends. The header
// names the target by its address, whatever the client called it.
func (f *flow) receive() {
	a := f.of
	client := f.from
	longest := maxPayload6
	if client.Addr().Unmap().Is4() {
		longest = maxPayload4
	}
	in, err := udpbatch.NewReader(f.conn.UDPConn, &a.front.buffers)
	if err != nil {
		return // it is closed
	}
	defer in.Close()
	header := socksudp.AppendHeader(nil, f.conn.Target)
	out, err := udpbatch.NewSender(a.relay, client, header)
	if err != nil {
		return // likewise
	}
	var replies [udpbatch.MaxBatch][]byte
	pump(f.conn.UDPConn, &f.moved, a.front.config.UDPIdle, func() error {
		n, err := in.Read()
		if err != nil {
			return err
		}
		f.moved.touch()
		a.moved.touch()
		for i := 0; i < n; {
			fit := replies[:0]
			for ; i < n && len(fit) < len(replies); i++ {
				if data := in.Data(i); len(header)+len(data) <= longest {
					fit = append(fit, data)
				} else {
					a.front.gate.Count.Drop(audit.DropOversize, 1)
				}
			}
			if !a.front.gate.StillAllowed(f.live) {
				a.front.gate.Count.Drop(audit.DropRefused, len(fit))
				continue // the socket is closed now
			}
			a.front.gate.Count.Drop(audit.DropLost, out.Send(fit, in.Scratch()))
		}
		return nil
	})
}
