// Events, which tell consumers what happens in the proxy.

package audit

import (
	"net/netip"
	"time"

	"example.com/networkproxy/internal/policy"
)

// Kind is the kind of an [Event]. The root package documents the kinds.
type Kind string

const (
	KindAllowed       Kind = "allowed"
	KindRefused       Kind = "refused"
	KindFailed        Kind = "failed"
	KindAsked         Kind = "asked"
	KindAnswered      Kind = "answered"
	KindGranted       Kind = "granted"
	KindRevoked       Kind = "revoked"
	KindCut           Kind = "cut"
	KindOpened        Kind = "opened"
	KindClosed        Kind = "closed"
	KindReload        Kind = "reload"
	KindMode          Kind = "mode"
	KindRule          Kind = "rule"
	KindSessionOpened Kind = "session_opened"
	KindSessionClosed Kind = "session_closed"
	KindDropped       Kind = "dropped"
)

// Kinds lists all kinds.
var Kinds = [...]Kind{
	KindAllowed, KindRefused, KindFailed, KindAsked, KindAnswered, KindGranted, KindRevoked, KindCut,
	KindOpened, KindClosed, KindReload, KindMode, KindRule, KindSessionOpened, KindSessionClosed, KindDropped,
}

// Event is something that happened. Fields that do not apply to its kind are zero.
// What its pointers point to does not change.
//
// It is small, because events are copied into queues, and the events of a request
// share what does not change.
type Event struct {
	Kind Kind
	Seq  uint64    // set by Publish
	Time time.Time // set by Publish if it is zero

	Owner       *Owner       // set by Publish; nil if it has none
	Attribution *Attribution // set by Publish if it is nil; nil if the owner has none

	Request uint64          // the number of the request; 0 if the event is not about a request
	Query   *policy.Query   // the request; nil if there is none, or its target is malformed
	Client  netip.AddrPort  // of the request
	Verdict *policy.Verdict // on the request; nil if the event has none
	Grant   uint64          // the ID of a grant

	Sent, Received int64
	Duration       time.Duration

	Rare *Rare // nil means zero
}

// Rare has the fields that most events do not have.
type Rare struct {
	Protocol   policy.Protocol     // of a malformed request
	Reason     policy.Reason       // in place of that of the verdict
	Decision   policy.DecisionKind // in place of that of the verdict
	Pattern    string              // the hosts of a grant
	Port       uint16              // of a grant; 0 means every port
	Mode       policy.Mode
	Generation uint64 // in place of that of the verdict
	Message    string
	Error      string
	Dropped    uint64 // events
}

// Dropped returns the number of events that an event of the kind dropped stands for.
func (e *Event) Dropped() uint64 {
	if e.Rare == nil {
		return 0
	}
	return e.Rare.Dropped
}
