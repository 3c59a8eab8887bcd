// The bounded record of refusals.

package audit

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

// Refusal is a recorded refusal.
type Refusal struct {
	Time       time.Time
	Target     hostname.Target
	Protocol   policy.Protocol
	Method     string
	Upgrade    bool   // see policy.Query
	UnixSocket string // the requested path; empty unless the target is a Unix socket
	Path       string // of the URL, without the query; set if a request rule decided
	Client     netip.AddrPort
	Session    string // ID of the session; empty if there is none
	Group      string // name of the session's group; empty if there is none
	Command    string
	Labels     map[string]string
	Verdict    policy.Verdict
}

// Explain returns the message and the hint of the response to the request. See
// [policy.Verdict.Explain].
func (r *Refusal) Explain() (message, hint string) {
	return r.Verdict.Explain(&policy.Query{
		Protocol: r.Protocol,
		Target:   r.Target,
		Method:   r.Method,
		Upgrade:  r.Upgrade,
		Socket:   policy.Socket{Asked: r.UnixSocket},
		CanOpen:  r.Protocol.IsTunnel() && !(r.Protocol == policy.ProtocolCapturedTCP && r.Method != ""),
	})
}

// CloneStrings copies the strings that are parts of a whole request header, so
// that the refusal does not keep the header in memory.
func (r *Refusal) CloneStrings() {
	r.Target, r.Method, r.UnixSocket = r.Target.Clone(), strings.Clone(r.Method), strings.Clone(r.UnixSocket)
	r.Path, r.Verdict.ServerName = strings.Clone(r.Path), strings.Clone(r.Verdict.ServerName)
}

// Record keeps the newest refusals, up to its limit, and counts all of them. The
// limit is shared fairly among the owners, so that a session with many refusals
// does not displace the few of another. All ended sessions count as one owner,
// because the many of a long-lived proxy would otherwise take nearly all places.
// Safe for concurrent use.
type Record struct {
	Limit int // Required. Number of refusals to keep.

	mu    sync.Mutex
	kept  share.List[*Owner, numbered] // under the owner nil: those of ended sessions
	total uint64
}

// numbered is a refusal with its number in the order of recording.
type numbered struct {
	Refusal
	n uint64
}

// Add records a refusal of a request of owner.
func (r *Record) Add(owner *Owner, refusal *Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if owner.Context.Err() != nil {
		owner = nil // Release may have run already
	}
	r.total++
	r.kept.Limit = r.Limit
	item := r.kept.Victim(owner)
	if item == nil {
		item = new(share.Item[*Owner, numbered])
	} else {
		r.kept.Remove(item)
	}
	item.Value.Refusal, item.Value.n = *refusal, r.total
	r.kept.Push(owner, item)
}

// Release moves the refusals of an owner whose context has ended to the common
// share of all ended sessions.
func (r *Record) Release(owner *Owner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for item := range r.kept.Of(owner) {
		r.kept.Remove(item)
		r.kept.Push(nil, item)
	}
}

// List returns the kept refusals, oldest first, and the number of all refusals.
func (r *Record) List() ([]Refusal, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	items := slices.SortedFunc(r.kept.All(), func(x, y *share.Item[*Owner, numbered]) int {
		return cmp.Compare(x.Value.n, y.Value.n)
	})
	list := make([]Refusal, 0, len(items)) // not nil, because nil is null in JSON
	for _, item := range items {
		list = append(list, item.Value.Refusal)
	}
	return list, r.total
}
