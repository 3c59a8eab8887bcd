// The bounded record of refusals, for the host, the admin API and whoever
// wonders why something did not work.

package audit

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

// Refusal is one refusal, as recorded.
type Refusal struct {
	Time       time.Time
	Host       string
	Port       uint16
	Protocol   policy.Protocol
	Method     string
	UnixSocket string // the path that was asked for in place of the host
	Client     netip.AddrPort
	Command    string
	Verdict    policy.Verdict
}

// Record keeps the newest refusals, up to its limit, and counts them
// all. The limit is shared fairly: a session with many refusals does not
// displace the few of another. The sessions that have ended count as one, or
// those of a long-lived proxy would leave one place to each new session. Safe
// for concurrent use.
type Record struct {
	Limit int // Limits.BlockedKept; does not change

	mu    sync.Mutex
	kept  share.List[*Owner, blocked] // nil: of sessions that have ended
	total uint64
}

// blocked is a refusal and the number that it was recorded as.
type blocked struct {
	Refusal
	n uint64
}

func (b *Record) Add(from *Owner, r *Refusal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from.Context.Err() != nil {
		from = nil // also where forget has been here already
	}
	b.total++
	b.kept.Limit = b.Limit
	item := b.kept.Victim(from)
	if item == nil {
		item = new(share.Item[*Owner, blocked])
	} else {
		b.kept.Remove(item)
	}
	item.Value.Refusal, item.Value.n = *r, b.total
	b.kept.Push(from, item)
}

// Release counts the refusals of a session that has ended among those of all
// such sessions.
func (b *Record) Release(from *Owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for item := range b.kept.Of(from) {
		b.kept.Remove(item)
		b.kept.Push(nil, item)
	}
}

// List returns what is kept, oldest first, and the count of all refusals.
func (b *Record) List() ([]Refusal, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := slices.SortedFunc(b.kept.All(), func(x, y *share.Item[*Owner, blocked]) int {
		return cmp.Compare(x.Value.n, y.Value.n)
	})
	list := make([]Refusal, 0, len(items)) // never nil: it is [] in JSON
	for _, item := range items {
		list = append(list, item.Value.Refusal)
	}
	return list, b.total
}
