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
	assoc      *association
	key        string         // in assoc.flows
	address    string         // of the target, as the client writes it
	sender     netip.AddrPort // who sends the datagrams
	req        *gate.Request
	ctx        context.Context
	cancel     context.CancelFunc
	activity   activity
	budgetItem share.Item[*gate.Principal, *flow] // the budget's

	// Guarded by assoc.mu.
	state   flowState
	mayAsk  bool              // it counts in assoc.asking
	queued  [][]byte          // while opening: what has come so far
	conn    gate.UDPConn      // once open; it does not change then
	live    *gate.LiveRequest // likewise
	out     *udpbatch.Sender  // likewise: to the target
	refusal refusal           // once refused
}

type flowState uint8

const (
	flowOpening flowState = iota
	flowOpen
	flowRefused // refused or out of reach; it stays to say so for a while
)

// refusal is how long a flow stays shut.
type refusal struct {
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

// acquire gives f a place. It returns the flow that has to end for that, if any:
// of the session that has the most, the one in which nothing has moved for
// longest.
func (b *flowBudget) acquire(f *flow) (displaced *flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if victim := b.flows.Victim(f.req.Principal); victim != nil {
		for other := range b.flows.Of(b.flows.UserOf(victim)) {
			if other.Value.activity.idle() > victim.Value.activity.idle() {
				victim = other
			}
		}
		b.flows.Remove(victim)
		displaced = victim.Value
	}
	f.budgetItem.Value = f
	b.flows.Push(f.req.Principal, &f.budgetItem)
	return displaced
}

// release takes back the place of f, which may be displaced already.
func (b *flowBudget) release(f *flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flows.Remove(&f.budgetItem)
}

// flowFor returns the flow that a datagram is to be sent by now. Without one,
// the datagram waits for its flow to open, or was dropped.
func (a *association) flowFor(d socksudp.Datagram, from netip.AddrPort) *flow {
	f, displaced := a.flowOrQueue(d, from)
	if displaced != nil {
		displaced.assoc.displace(displaced) // without a.mu: it may be another association's
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

// flowOrQueue is flowFor. The flow that it displaces, if any, is the caller's to
// end.
func (a *association) flowOrQueue(d socksudp.Datagram, from netip.AddrPort) (_, displaced *flow) {
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
	if f != nil && f.state == flowRefused && f.refusal.expired(a) {
		a.remove(f)
		f = nil
	}
	if f == nil {
		if f, displaced = a.startFlow(d, from); f == nil {
			return nil, nil
		}
	}
	f.activity.touch()
	switch {
	case f.state == flowOpen:
		return f, displaced
	case f.state == flowRefused:
		a.front.gate.Counters.Drop(audit.DropRefused, 1)
	case len(f.queued) == MaxWaiting:
		a.front.gate.Counters.Drop(audit.DropOverflow, 1)
	default:
		f.queued = append(f.queued, slices.Clone(d.Data))
	}
	return nil, displaced
}

// startFlow begins the flow of a datagram, or drops the datagram and returns nil.
// displaced is the flow that had to make room. a.mu is held.
func (a *association) startFlow(d socksudp.Datagram, from netip.AddrPort) (f, displaced *flow) {
	target, err := parseTarget(d.Addr, string(d.Name), d.Port)
	if err != nil {
		a.drop(audit.DropMalformed, "error", a.front.gate.LogText(err))
		return nil, nil
	}
	req := a.conn.request(policy.ProtocolSOCKS5UDP, target)
	mayAsk := a.front.gate.NeedsDecider(req)
	if mayAsk && a.asking == MaxQuestions {
		a.drop(audit.DropOverflow, "questions", a.asking)
		return nil, nil
	}
	if len(a.flows) == a.front.config.UDPFlows {
		a.remove(a.oldest())
	}
	f = &flow{assoc: a, address: string(d.Address), sender: from, req: req, mayAsk: mayAsk}
	f.key = f.address
	if a.client.Load() == nil {
		f.key = unsettledKey(d.Address, from)
	}
	f.ctx, f.cancel = context.WithCancel(a.ctx)
	f.activity.start()
	displaced = a.front.budget.acquire(f)
	if mayAsk {
		a.asking++
	}
	a.flows[f.key] = f
	a.tasks.Go(f.run)
	return f, displaced
}

// expired reports whether the target may be tried again: a decider may think
// otherwise by now, a name may resolve, and another policy is another matter.
func (r refusal) expired(a *association) bool {
	return time.Since(r.at) >= a.front.config.RefusalTTL || r.generation != a.front.gate.Policy().Generation
}

// oldest returns the flow to make way for another: one that is shut, if there
// is any, and of those the one in which nothing has moved for longest. a.mu is
// held, and there is a flow.
func (a *association) oldest() *flow {
	var oldest *flow
	for _, f := range a.flows {
		switch {
		case oldest == nil,
			f.state == flowRefused && oldest.state != flowRefused,
			(f.state == flowRefused) == (oldest.state == flowRefused) && f.activity.idle() > oldest.activity.idle():
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
	f.cancel()
	if f.state == flowOpen {
		f.conn.Close()
	}
}

// run is the flow's task.
func (f *flow) run() {
	a := f.assoc
	defer a.front.budget.release(f)
	defer a.recoverPanic()
	generation := a.front.gate.Policy().Generation
	conn, live, err := f.open()
	if err != nil {
		// In this order: who acts on the record finds the flow shut, and who
		// waits for the count finds the record.
		waited := f.markRefused(generation)
		a.front.recordError(f.req, err)
		a.front.gate.Counters.Drop(audit.DropRefused, waited)
		return
	}
	defer live.End()
	defer conn.Close()
	if !a.settle(f) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.front.gate.Counters.Drop(audit.DropSource, len(f.queued))
		f.queued = nil
		a.remove(f)
		return
	}
	a.front.gate.Allowed(f.req)
	a.front.gate.ClientLog.Debug("flow open", "host", f.req.Target.Host.String(), "port", f.req.Target.Port, "client", f.req.Client)
	out, err := udpbatch.NewSender(conn.UDPConn, netip.AddrPort{}, nil)
	if err == nil && f.sendQueued(conn, live, out) {
		f.receive()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(f)
}

// open decides about the flow and opens its socket.
func (f *flow) open() (gate.UDPConn, *gate.LiveRequest, error) {
	a := f.assoc
	v := a.front.gate.Decide(f.ctx, f.req)
	a.mu.Lock()
	if f.mayAsk {
		a.asking--
	}
	a.mu.Unlock()
	if !v.Allowed {
		return gate.UDPConn{}, nil, gate.NewRefusedError(f.req, v.Verdict)
	}
	live := new(gate.LiveRequest)
	conn, err := a.front.gate.DialUDP(f.ctx, f.req, &v, live)
	if err == nil {
		growBuffers(conn.UDPConn)
	}
	return conn, live, err
}

// markRefused leaves the flow behind as one that was refused or out of reach
// under a generation, and returns how many datagrams have waited in vain.
func (f *flow) markRefused(generation uint64) (waited int) {
	a := f.assoc
	a.mu.Lock()
	defer a.mu.Unlock()
	f.cancel()
	f.state = flowRefused
	f.refusal = refusal{at: time.Now(), generation: generation}
	waited = len(f.queued)
	f.queued = nil
	return waited
}

// sendQueued sends what has come while the flow was opening, in order, and
// then opens it for what comes. It reports false if the flow has ended.
func (f *flow) sendQueued(conn gate.UDPConn, live *gate.LiveRequest, out *udpbatch.Sender) bool {
	a := f.assoc
	for {
		a.mu.Lock()
		if f.ctx.Err() != nil {
			a.mu.Unlock()
			return false
		}
		waiting := f.queued
		f.queued = nil
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
	if !f.assoc.front.gate.StillAllowed(f.live) {
		f.assoc.front.gate.Counters.Drop(audit.DropRefused, len(datagrams))
		return
	}
	f.assoc.front.gate.Counters.Drop(audit.DropLost, f.out.Send(datagrams, scratch))
}

// receive passes on what the target sends, until the flow ends. The header
// names the target by its address, whatever the client called it.
func (f *flow) receive() {
	a := f.assoc
	client := f.sender
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
	readLoop(f.conn.UDPConn, &f.activity, a.front.config.UDPIdle, func() error {
		n, err := in.Read()
		if err != nil {
			return err
		}
		f.activity.touch()
		a.activity.touch()
		for i := 0; i < n; {
			fit := replies[:0]
			for ; i < n && len(fit) < len(replies); i++ {
				if data := in.Data(i); len(header)+len(data) <= longest {
					fit = append(fit, data)
				} else {
					a.front.gate.Counters.Drop(audit.DropOversize, 1)
				}
			}
			if !a.front.gate.StillAllowed(f.live) {
				a.front.gate.Counters.Drop(audit.DropRefused, len(fit))
				continue // the socket is closed now
			}
			a.front.gate.Counters.Drop(audit.DropLost, out.Send(fit, in.Scratch()))
		}
		return nil
	})
}
