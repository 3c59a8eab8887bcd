// Counters of requests, connections and datagrams.

package audit

import (
	"sync/atomic"

	"example.com/networkproxy/internal/policy"
)

// Counters count requests by outcome, protocol and reason. Every request has
// exactly one outcome. The zero value is ready to use, and its fields are safe
// for concurrent use.
type Counters struct {
	Requests [Outcomes][len(Protocols)][len(Reasons)]atomic.Uint64

	Cut     atomic.Uint64 // connections ended because a later policy refuses them or their grant was revoked
	Tunnels atomic.Int64  // open tunnels

	// Bytes of ended tunnels, sent to targets and received from them.
	BytesSent, BytesReceived atomic.Uint64

	ReloadsOK, ReloadsFailed atomic.Uint64

	// Dropped counts dropped datagrams by cause. The request is the flow that a
	// datagram belongs to, so a dropped datagram is not a request by itself.
	Dropped [DropCauses]atomic.Uint64
}

// Outcome says how a request ended.
type Outcome uint8

const (
	Allowed  Outcome = iota // reached its target
	Refused                 // by policy or a limit, or malformed
	Failed                  // allowed, but the target could not be reached
	Outcomes                // number of outcomes
)

// String returns the outcome as metrics show it.
func (o Outcome) String() string { return [...]string{"allowed", "refused", "failed"}[o] }

// Protocols lists all protocols.
var Protocols = [...]policy.Protocol{policy.ProtocolHTTP, policy.ProtocolHTTPSConnect, policy.ProtocolHTTPS, policy.ProtocolSOCKS5TCP, policy.ProtocolSOCKS5UDP,
	policy.ProtocolCapturedTCP, policy.ProtocolCapturedUDP, policy.ProtocolDNS}

// Placeholders for free-form reasons, so that metric cardinality stays bounded:
// one for all texts from deciders, one for any reason not in Reasons.
const (
	countedDecider policy.Reason = "decider"
	countedOther   policy.Reason = "other"
)

// Reasons lists the reasons that have counters of their own. The first belongs
// to allowed requests, the last to all reasons that are not in the list.
var Reasons = [...]policy.Reason{
	"",
	policy.ReasonInvalidTarget, policy.ReasonProxyDisabled, policy.ReasonNotAllowed, policy.ReasonNotAllowedLocal, policy.ReasonDenied,
	policy.ReasonMethodNotAllowed, policy.ReasonSNIMismatch, policy.ReasonHostMismatch,
	policy.ReasonMITMRequired, policy.ReasonMITMHookDenied, policy.ReasonCredentialNotAllowed, policy.ReasonUpstreamCertificate, policy.ReasonClientCertificateRequired,
	policy.ReasonCertificateDistrusted, policy.ReasonDeciderFailed, policy.ReasonDeciderTimeout, policy.ReasonDeciderBusy,
	policy.ReasonGrantRevoked, policy.ReasonCanceled, policy.ReasonSessionRequired, policy.ReasonSessionUnknown, policy.ReasonTooManyConnections,
	policy.ReasonUpstreamNotAllowed,
	policy.ReasonDNSFailure, policy.ReasonConnectFailure, policy.ReasonProxyFailure, policy.ReasonUpstreamError, policy.ReasonInvalidContent, policy.ReasonTimeout,
	countedDecider, countedOther,
}

// Add counts a request.
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

// countedReason returns the reason to count a refusal under. All texts from a
// decider count as one reason. They are free-form, and may equal a reason of the
// proxy.
func countedReason(v *policy.Verdict) policy.Reason {
	if v.Source != policy.SourceDecider || v.OwnReason {
		return v.Reason
	}
	return countedDecider
}

// Total returns the number of requests with an outcome.
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
	DropOversize                   // too long to send to the client
	DropRefused                    // its target was refused or is unreachable
	DropOverflow                   // over a limit: flows, decider questions, waiting datagrams
	DropLost                       // the operating system did not send it
	DropCauses                     // number of causes
)

// String returns the cause as logs and metrics show it.
func (d DropCause) String() string {
	return [...]string{"source", "fragment", "malformed", "oversize", "refused", "overflow", "lost"}[d]
}

// Drop counts n dropped datagrams.
func (c *Counters) Drop(why DropCause, n int) { c.Dropped[why].Add(uint64(n)) }

// DatagramsDropped returns the number of dropped datagrams.
func (c *Counters) DatagramsDropped() uint64 {
	var sum uint64
	for i := range c.Dropped {
		sum += c.Dropped[i].Load()
	}
	return sum
}
