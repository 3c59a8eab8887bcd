// The bounded record of refusals, for the host, the admin API and whoever
// wonders why something did not work.

package networkproxy

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"

	"example.com/networkproxy/internal/share"
)

// BlockedRequest is one refusal, as recorded.
type BlockedRequest struct {
	Time       time.Time      `json:"time"`
	Host       string         `json:"host"`
	Port       uint16         `json:"port"`
	Protocol   Protocol       `json:"protocol"`
	Method     string         `json:"method,omitempty"`
	UnixSocket string         `json:"unix_socket,omitempty"` // the path that was asked for in place of the host
	Client     netip.AddrPort `json:"client,omitzero"`
	Reason     Reason         `json:"reason"`
	Source     Source         `json:"source,omitempty"`
	Decision   string         `json:"decision"` // "deny", or "ask" when the user may lift it
	Rule       Rule           `json:"rule,omitzero"`
	Address    netip.Addr     `json:"address,omitzero"`      // the resolved address that decided
	ServerName string         `json:"server_name,omitempty"` // the name in the ClientHello that decided
	Command    string         `json:"command,omitempty"`
	Generation uint64         `json:"generation"` // of the policy that refused
}

// blockedRecord keeps the newest refusals, up to its limit, and counts them
// all. The limit is shared fairly: a session with many refusals does not
// displace the few of another. The sessions that have ended count as one, or
// those of a long-lived proxy would leave one place to each new session. Safe
// for concurrent use.
type blockedRecord struct {
	limit int // Limits.BlockedKept; does not change

	mu    sync.Mutex
	kept  share.List[*principal, blocked] // nil: of sessions that have ended
	total uint64
}

// blocked is a refusal and the number that it was recorded as.
type blocked struct {
	BlockedRequest
	n uint64
}

func (b *blockedRecord) add(from *principal, r *BlockedRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if from.ctx.Err() != nil {
		from = nil // also where forget has been here already
	}
	b.total++
	b.kept.Limit = b.limit
	item := b.kept.Victim(from)
	if item == nil {
		item = new(share.Item[*principal, blocked])
	} else {
		b.kept.Remove(item)
	}
	item.Value.BlockedRequest, item.Value.n = *r, b.total
	b.kept.Push(from, item)
}

// drop counts the refusals of a session that has ended among those of all
// such sessions.
func (b *blockedRecord) drop(from *principal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for item := range b.kept.Of(from) {
		b.kept.Remove(item)
		b.kept.Push(nil, item)
	}
}

// list returns what is kept, oldest first, and the count of all refusals.
func (b *blockedRecord) list() ([]BlockedRequest, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	items := slices.SortedFunc(b.kept.All(), func(x, y *share.Item[*principal, blocked]) int {
		return cmp.Compare(x.Value.n, y.Value.n)
	})
	list := make([]BlockedRequest, 0, len(items)) // never nil: it is [] in JSON
	for _, item := range items {
		list = append(list, item.Value.BlockedRequest)
	}
	return list, b.total
}
