package socksproxy

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
	"example.com/networkproxy/internal/socksudp"
	"example.com/networkproxy/internal/udpbatch"
)

// flow is the traffic between the client of an association and one target. It
// is judged and counted as one request, however many datagrams there are: as
// allowed when it opens, or as refused or failed.
//
// Each flow has its own goroutine, so that a slow name server or decider delays
// no other flow.
type flow struct {
	assoc      *association
	key        string         // in assoc.flows
	address    string         // the target's address, as the client writes it
	sender     netip.AddrPort // the client's address, from which the datagrams come
	req        *gate.Request
	ctx        context.Context
	cancel     context.CancelFunc
	activity   activity
	sent       atomic.Int64                       // bytes to the target
	budgetItem share.Item[*gate.Principal, *flow] // guarded by the budget

	// Guarded by assoc.mu.
	state   flowState
	mayAsk  bool              // it may wait for the decider, and counts in assoc.asking until decided
	queued  [][]byte          // datagrams that arrived while the flow opens
	conn    gate.UDPConn      // set before the flow opens; constant while it is open
	live    *gate.LiveRequest // like conn
	out     *udpbatch.Sender  // sends to the target; like conn
	refusal refusal           // set when the flow is refused
}

type flowState uint8

const (
	flowOpening flowState = iota
	flowOpen
	flowRefused // refused or failed; it is kept for a while, to drop datagrams without another decision
)

// refusal records when a flow was refused or failed, and under which rules.
type refusal struct {
	at    time.Time
	rules rulesInForce
}

// rulesInForce identifies the policy and the rules of a session that are in force.
type rulesInForce struct {
	generation uint64
	overlay    *policy.Overlay
}

func (f *flow) rulesInForce() rulesInForce {
	return rulesInForce{f.assoc.front.gate.Policy().Generation, f.req.Principal.Overlay.Load()}
}

// flowBudget limits the number of flows with a goroutine, in all associations
// together. It shares them fairly among the principals. Safe for concurrent use.
type flowBudget struct {
	mu    sync.Mutex
	flows share.List[*gate.Principal, *flow]
}

func newFlowBudget(limit int) flowBudget {
	return flowBudget{flows: share.List[*gate.Principal, *flow]{Limit: limit}}
}

// acquire adds f to the budget. If the budget is full, it removes and returns
// another flow, which the caller must end: of the principal with the most flows,
// the one that has been idle for longest.
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

// release removes f from the budget, unless acquire has removed it.
func (b *flowBudget) release(f *flow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flows.Remove(&f.budgetItem)
}

// flowFor returns the open flow that can send d now. If it returns nil, d is
// queued until its flow opens, or was dropped.
func (a *association) flowFor(d socksudp.Datagram, from netip.AddrPort) *flow {
	f, displaced, dropped := a.flowOrQueue(d, from)
	if dropped != nil {
		a.drop(dropped.cause, dropped.key, dropped.value)
	}
	if displaced != nil {
		displaced.assoc.displace(displaced) // without a.mu, because the flow may belong to another association
	}
	return f
}

// drop is the cause of a dropped datagram, with a key and a value for the log.
type drop struct {
	cause audit.DropCause
	key   string
	value any
}

// unsettledKey returns the key of a flow while the client's address is not settled.
// It includes the sender, because several senders may write the same target address.
// Once the address is settled, the key is the target address alone.
func unsettledKey(address []byte, from netip.AddrPort) string {
	b, _ := from.AppendBinary(slices.Clone(address)) // never fails
	return string(b)
}

// displace ends a flow that the budget has removed in favor of another.
func (a *association) displace(f *flow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(f)
}

// flowOrQueue is flowFor, but neither ends the displaced flow nor counts a dropped
// datagram. The caller does both, without a.mu.
func (a *association) flowOrQueue(d socksudp.Datagram, from netip.AddrPort) (_, displaced *flow, _ *drop) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var f *flow
	switch client := a.client.Load(); {
	case client == nil:
		f = a.flows[unsettledKey(d.Address, from)]
	case *client == from:
		f = a.flows[string(d.Address)]
	default: // another sender was settled since the caller checked
		return nil, nil, &drop{audit.DropSource, "from", from}
	}
	if f != nil && f.state == flowRefused && f.refusalExpired() {
		a.remove(f)
		f = nil
	}
	if f == nil {
		var dropped *drop
		if f, displaced, dropped = a.startFlow(d, from); f == nil {
			return nil, nil, dropped
		}
	}
	f.activity.touch()
	switch {
	case f.state == flowOpen:
		return f, displaced, nil
	case f.state == flowRefused:
		a.front.gate.Counters.Drop(audit.DropRefused, 1)
	case len(f.queued) == MaxWaiting:
		a.front.gate.Counters.Drop(audit.DropOverflow, 1)
	default:
		f.queued = append(f.queued, slices.Clone(d.Data))
	}
	return nil, displaced, nil
}

// startFlow starts the flow of a datagram, or returns why the datagram is dropped.
// displaced is the flow that the budget removed for it, if any. The caller must
// hold a.mu.
func (a *association) startFlow(d socksudp.Datagram, from netip.AddrPort) (f, displaced *flow, _ *drop) {
	target, err := parseTarget(d.Addr, string(d.Name), d.Port)
	if err != nil {
		return nil, nil, &drop{audit.DropMalformed, "error", a.front.gate.ErrorText(err)}
	}
	req := a.conn.request(policy.ProtocolSOCKS5UDP, target)
	mayAsk := a.front.gate.NeedsDecider(req)
	if mayAsk && a.asking == MaxUndecided {
		return nil, nil, &drop{audit.DropOverflow, "questions", a.asking}
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
	return f, displaced, nil
}

// refusalExpired reports whether the target of a refused flow may be tried again:
// after a while, because the decider or the name server may answer differently,
// or under other rules.
func (f *flow) refusalExpired() bool {
	return time.Since(f.refusal.at) >= f.assoc.front.config.RefusalTTL || f.refusal.rules != f.rulesInForce()
}

// oldest returns the flow to remove in favor of another: the one that has been
// idle for longest, among the refused flows if there are any. There must be a
// flow. The caller must hold a.mu.
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

// remove ends a flow and deletes it. The caller must hold a.mu.
func (a *association) remove(f *flow) {
	if a.flows[f.key] == f {
		delete(a.flows, f.key)
	}
	f.cancel()
	if f.state == flowOpen {
		f.conn.Close()
	}
}

// run decides about the flow, opens it and relays until it ends.
func (f *flow) run() {
	a := f.assoc
	defer a.front.budget.release(f)
	defer a.recoverPanic()
	rules := f.rulesInForce()
	conn, live, err := f.open()
	if err != nil {
		// Order matters: mark the flow, then record, then count, so that a reader
		// of a later step also sees the earlier ones.
		dropped := f.markRefused(rules)
		a.front.recordError(f.req, err)
		a.front.gate.Counters.Drop(audit.DropRefused, dropped)
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
	var received int64
	a.front.gate.Opened(f.req)
	defer func() { a.front.gate.Ended(f.req, f.sent.Load(), received) }()
	a.front.gate.Allowed(f.req)
	a.front.gate.ClientLog.Debug("flow open", "host", f.req.Target.Host.String(), "port", f.req.Target.Port, "client", f.req.Client)
	out, err := udpbatch.NewSender(conn.UDPConn, netip.AddrPort{}, nil)
	if err == nil && f.sendQueued(conn, live, out) {
		received = f.receive()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(f)
}

// open decides about the flow and opens its socket to the target.
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

// markRefused makes f a refused flow under the given rules. It drops the queued
// datagrams and returns their number.
func (f *flow) markRefused(rules rulesInForce) (dropped int) {
	a := f.assoc
	a.mu.Lock()
	defer a.mu.Unlock()
	f.cancel()
	f.state = flowRefused
	f.refusal = refusal{at: time.Now(), rules: rules}
	dropped = len(f.queued)
	f.queued = nil
	return dropped
}

// sendQueued sends the datagrams that arrived while the flow was opening, in
// order, and then opens the flow. It returns false if the flow has ended.
func (f *flow) sendQueued(conn gate.UDPConn, live *gate.LiveRequest, out *udpbatch.Sender) bool {
	a := f.assoc
	for {
		a.mu.Lock()
		if f.ctx.Err() != nil {
			a.mu.Unlock()
			return false
		}
		queued := f.queued
		f.queued = nil
		f.conn, f.live, f.out = conn, live, out
		if len(queued) == 0 {
			f.state = flowOpen
			a.mu.Unlock()
			return true
		}
		a.mu.Unlock()
		f.send(queued, nil)
	}
}

// send sends datagrams to the target if the policy in force still allows the
// flow. It may use scratch, which may be nil, as memory to join them in.
func (f *flow) send(datagrams [][]byte, scratch []byte) {
	if !f.assoc.front.gate.StillAllowed(f.live) {
		f.assoc.front.gate.Counters.Drop(audit.DropRefused, len(datagrams))
		return
	}
	f.assoc.front.gate.Counters.Drop(audit.DropLost, f.out.Send(datagrams, scratch))
	f.sent.Add(size(datagrams))
}

// size returns the number of bytes in datagrams.
func size(datagrams [][]byte) (n int64) {
	for _, data := range datagrams {
		n += int64(len(data))
	}
	return n
}

// receive relays the datagrams of the target to the client until the flow ends,
// and returns the number of their bytes. Their header contains the target's IP
// address, even if the client sent a name.
func (f *flow) receive() (received int64) {
	a := f.assoc
	client := f.sender
	longest := maxPayload6
	if client.Addr().Unmap().Is4() {
		longest = maxPayload4
	}
	in, err := udpbatch.NewReader(f.conn.UDPConn, &a.front.buffers)
	if err != nil {
		return 0 // the socket is closed
	}
	defer in.Close()
	header := socksudp.AppendHeader(nil, f.conn.Target)
	out, err := udpbatch.NewSender(a.relay, client, header)
	if err != nil {
		return 0 // the relay is closed
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
				continue // and the next read fails, because the socket is closed now
			}
			a.front.gate.Counters.Drop(audit.DropLost, out.Send(fit, in.Scratch()))
			received += size(fit)
		}
		return nil
	})
	return received
}
