// The bounded record of refusals, for the host, the admin API and whoever
// wonders why something did not work.

package networkproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/share"
)

// refusal is one refusal, as recorded.
type refusal struct {
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

// refusalRecord keeps the newest refusals, up to its limit, and counts them
// all. The limit is shared fairly: a session with many refusals does not
// displace the few of another. The sessions that have ended count as one, or
// those of a long-lived proxy would leave one place to each new session. Safe
// for concurrent use.
type refusalRecord struct {
	limit int // Limits.BlockedKept; does not change

	mu    sync.Mutex
	kept  share.List[*owner, blocked] // nil: of sessions that have ended
	total uint64
}

// blocked is a refusal and the number that it was recorded as.
type blocked struct {
	refusal
	n uint64
}

func (b *refusalRecord) add(from *owner, r *refusal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from.ctx.Err() != nil {
		from = nil // also where forget has been here already
	}
	b.total++
	b.kept.Limit = b.limit
	item := b.kept.Victim(from)
	if item == nil {
		item = new(share.Item[*owner, blocked])
	} else {
		b.kept.Remove(item)
	}
	item.Value.refusal, item.Value.n = *r, b.total
	b.kept.Push(from, item)
}

// drop counts the refusals of a session that has ended among those of all
// such sessions.
func (b *refusalRecord) drop(from *owner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for item := range b.kept.Of(from) {
		b.kept.Remove(item)
		b.kept.Push(nil, item)
	}
}

// list returns what is kept, oldest first, and the count of all refusals.
func (b *refusalRecord) list() ([]refusal, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := slices.SortedFunc(b.kept.All(), func(x, y *share.Item[*owner, blocked]) int {
		return cmp.Compare(x.Value.n, y.Value.n)
	})
	list := make([]refusal, 0, len(items)) // never nil: it is [] in JSON
	for _, item := range items {
		list = append(list, item.Value.refusal)
	}
	return list, b.total
}
