// Counters: what became of the requests, kept where they end, without a lock
// and without an allocation.

package audit

import (
	"sync/atomic"

	"example.com/networkproxy/internal/policy"
)

// Counters count requests by how they ended: every request ends as exactly
// one of allowed, refused and failed. The zero value is ready.
type Counters struct {
	Requests [Outcomes][len(Protocols)][len(Reasons)]atomic.Uint64

	Cut     atomic.Uint64 // connections ended because a later policy refuses them, or their grant was revoked
	Tunnels atomic.Int64  // open now

	// Bytes of the tunnels that have ended, by direction as seen from here.
	BytesSent, BytesReceived atomic.Uint64

	ReloadsOK, ReloadsFailed atomic.Uint64

	// A datagram is part of a flow, which is the request. Those that came to
	// nothing beside that are counted by cause, and are no requests.
	Dropped [DropCauses]atomic.Uint64
}

// Outcome is how a request ended.
type Outcome uint8

const (
	Allowed  Outcome = iota // reached its target
	Refused                 // by policy or a limit, or malformed
	Failed                  // allowed, but the target could not be reached
	Outcomes                // how many there are
)

// String is for metrics.
func (o Outcome) String() string { return [...]string{"allowed", "refused", "failed"}[o] }

// Protocols are all of them.
var Protocols = [...]policy.Protocol{policy.ProtocolHTTP, policy.ProtocolHTTPSConnect, policy.ProtocolSOCKS5TCP, policy.ProtocolSOCKS5UDP}

// What stands for reasons without end, so that the series of the metrics have
// one: a decider's own words, and whatever is not in the list below.
const (
	countedDecider policy.Reason = "decider"
	countedOther   policy.Reason = "other"
)

// Reasons are the reasons that requests are told apart by. The first is
// that of an allowed one; the last stands for all others.
var Reasons = [...]policy.Reason{
	"",
	policy.ReasonInvalidTarget, policy.ReasonProxyDisabled, policy.ReasonNotAllowed, policy.ReasonNotAllowedLocal, policy.ReasonDenied,
	policy.ReasonMethodNotAllowed, policy.ReasonSNIMismatch, policy.ReasonDeciderFailed, policy.ReasonDeciderTimeout, policy.ReasonDeciderBusy,
	policy.ReasonGrantRevoked, policy.ReasonCanceled, policy.ReasonSessionRequired, policy.ReasonSessionUnknown, policy.ReasonTooManyConnections,
	policy.ReasonUpstreamNotAllowed,
	policy.ReasonDNSFailure, policy.ReasonConnectFailure, policy.ReasonProxyFailure, policy.ReasonUpstreamError, policy.ReasonInvalidContent, policy.ReasonTimeout,
	countedDecider, countedOther,
}

func (c *Counters) Add(o Outcome, p policy.Protocol, r policy.Reason) {
	protocol := 0
	for i := range Protocols {
		if Protocols[i] == p {
			protocol = i
			break
		}
	}
	reason := len(Reasons) - 1
	for i := range Reasons {
		if Reasons[i] == r {
			reason = i
			break
		}
	}
	c.Requests[o][protocol][reason].Add(1)
}

// Allow counts a request that reached its target.
func (c *Counters) Allow(p policy.Protocol) { c.Add(Allowed, p, "") }

// Refuse counts a request that was refused with a verdict.
func (c *Counters) Refuse(p policy.Protocol, v *policy.Verdict) {
	c.Add(Refused, p, countedReason(v))
}

// Fail counts a request whose target could not be reached.
func (c *Counters) Fail(p policy.Protocol, r policy.Reason) { c.Add(Failed, p, r) }

// countedReason is what a refusal is counted under: a decider's own words,
// which may be any and may be those of the proxy, under one.
func countedReason(v *policy.Verdict) policy.Reason {
	if v.Source != policy.SourceDecider {
		return v.Reason
	}
	switch v.Reason {
	case policy.ReasonDeciderFailed, policy.ReasonDeciderTimeout, policy.ReasonDeciderBusy, policy.ReasonGrantRevoked, policy.ReasonCanceled:
		return v.Reason
	}
	return countedDecider
}

// Total is how many requests ended so.
func (c *Counters) Total(o Outcome) uint64 {
	var sum uint64
	for p := range c.Requests[o] {
		for r := range c.Requests[o][p] {
			sum += c.Requests[o][p][r].Load()
		}
	}
	return sum
}

// DropCause says why a datagram was dropped.
type DropCause uint8

const (
	DropSource    DropCause = iota // not from the client of the association
	DropFragment                   // a fragment (RFC 1928 section 7)
	DropMalformed                  // without a valid header or target
	DropOversize                   // too long for the way to the client
	DropRefused                    // its target was refused, or is out of reach
	DropOverflow                   // over a bound: flows, questions, datagrams that wait
	DropLost                       // the system would not take it
	DropCauses                     // how many there are
)

// String is for logs and metrics.
func (d DropCause) String() string {
	return [...]string{"source", "fragment", "malformed", "oversize", "refused", "overflow", "lost"}[d]
}

func (c *Counters) Drop(why DropCause, n int) { c.Dropped[why].Add(uint64(n)) }

// DatagramsDropped is the sum of all causes.
func (c *Counters) DatagramsDropped() uint64 {
	var sum uint64
	for i := range c.Dropped {
		sum += c.Dropped[i].Load()
	}
	return sum
}
