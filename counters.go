// Counters: what became of the requests, kept where they end, without a lock
// and without an allocation.

package networkproxy

import (
	"sync/atomic"

	"example.com/networkproxy/internal/policy"
)

// counters count requests by how they ended: every request ends as exactly
// one of allowed, refused and failed. The zero value is ready.
type counters struct {
	requests [outcomes][len(countedProtocols)][len(countedReasons)]atomic.Uint64

	cut     atomic.Uint64 // connections ended because a later policy refuses them, or their grant was revoked
	tunnels atomic.Int64  // open now

	// Bytes of the tunnels that have ended, by direction as seen from here.
	bytesSent, bytesReceived atomic.Uint64

	reloadsOK, reloadsFailed atomic.Uint64

	// A datagram is part of a flow, which is the request. Those that came to
	// nothing beside that are counted by cause, and are no requests.
	dropped [dropCauses]atomic.Uint64
}

// outcome is how a request ended.
type outcome uint8

const (
	outcomeAllowed outcome = iota // reached its target
	outcomeRefused                // by policy or a limit, or malformed
	outcomeFailed                 // allowed, but the target could not be reached
	outcomes                      // how many there are
)

// String is for metrics.
func (o outcome) String() string { return [...]string{"allowed", "refused", "failed"}[o] }

// countedProtocols are all of them.
var countedProtocols = [...]policy.Protocol{policy.ProtocolHTTP, policy.ProtocolHTTPSConnect, policy.ProtocolSOCKS5TCP, policy.ProtocolSOCKS5UDP}

// What stands for reasons without end, so that the series of the metrics have
// one: a decider's own words, and whatever is not in the list below.
const (
	countedDecider policy.Reason = "decider"
	countedOther   policy.Reason = "other"
)

// countedReasons are the reasons that requests are told apart by. The first is
// that of an allowed one; the last stands for all others.
var countedReasons = [...]policy.Reason{
	"",
	policy.ReasonInvalidTarget, policy.ReasonProxyDisabled, policy.ReasonNotAllowed, policy.ReasonNotAllowedLocal, policy.ReasonDenied,
	policy.ReasonMethodNotAllowed, policy.ReasonSNIMismatch, policy.ReasonDeciderFailed, policy.ReasonDeciderTimeout, policy.ReasonDeciderBusy,
	policy.ReasonGrantRevoked, policy.ReasonCanceled, policy.ReasonSessionRequired, policy.ReasonSessionUnknown, policy.ReasonTooManyConnections,
	policy.ReasonUpstreamNotAllowed,
	policy.ReasonDNSFailure, policy.ReasonConnectFailure, policy.ReasonProxyFailure, policy.ReasonUpstreamError, policy.ReasonInvalidContent, policy.ReasonTimeout,
	countedDecider, countedOther,
}

func (c *counters) add(o outcome, p policy.Protocol, r policy.Reason) {
	protocol := 0
	for i := range countedProtocols {
		if countedProtocols[i] == p {
			protocol = i
			break
		}
	}
	reason := len(countedReasons) - 1
	for i := range countedReasons {
		if countedReasons[i] == r {
			reason = i
			break
		}
	}
	c.requests[o][protocol][reason].Add(1)
}

// allow counts a request that reached its target.
func (c *counters) allow(p policy.Protocol) { c.add(outcomeAllowed, p, "") }

// refuse counts a request that was refused with a verdict.
func (c *counters) refuse(p policy.Protocol, v *policy.Verdict) {
	c.add(outcomeRefused, p, countedReason(v))
}

// fail counts a request whose target could not be reached.
func (c *counters) fail(p policy.Protocol, r policy.Reason) { c.add(outcomeFailed, p, r) }

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

// total is how many requests ended so.
func (c *counters) total(o outcome) uint64 {
	var sum uint64
	for p := range c.requests[o] {
		for r := range c.requests[o][p] {
			sum += c.requests[o][p][r].Load()
		}
	}
	return sum
}

// dropCause says why a datagram was dropped.
type dropCause uint8

const (
	dropSource    dropCause = iota // not from the client of the association
	dropFragment                   // a fragment (RFC 1928 section 7)
	dropMalformed                  // without a valid header or target
	dropOversize                   // too long for the way to the client
	dropRefused                    // its target was refused, or is out of reach
	dropOverflow                   // over a bound: flows, questions, datagrams that wait
	dropLost                       // the system would not take it
	dropCauses                     // how many there are
)

// String is for logs and metrics.
func (d dropCause) String() string {
	return [...]string{"source", "fragment", "malformed", "oversize", "refused", "overflow", "lost"}[d]
}

func (c *counters) drop(why dropCause, n int) { c.dropped[why].Add(uint64(n)) }

// datagramsDropped is the sum of all causes.
func (c *counters) datagramsDropped() uint64 {
	var sum uint64
	for i := range c.dropped {
		sum += c.dropped[i].Load()
	}
	return sum
}
