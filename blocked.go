// The bounded record of refusals, for the host, the admin API and whoever
// wonders why something did not work.

package networkproxy

import (
	"net/netip"
	"sync"
	"time"
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
// all. Safe for concurrent use.
type blockedRecord struct {
	limit int // Limits.Record; does not change

	mu    sync.Mutex
	ring  []BlockedRequest
	next  int // where the next one goes, once the ring is full
	total uint64
}

func (b *blockedRecord) add(r *BlockedRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.total++
	if len(b.ring) < b.limit {
		b.ring = append(b.ring, *r)
		return
	}
	b.ring[b.next] = *r
	b.next = (b.next + 1) % b.limit
}

// list returns what is kept, oldest first, and the count of all refusals.
func (b *blockedRecord) list() ([]BlockedRequest, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]BlockedRequest, 0, len(b.ring)) // never nil: it is [] in JSON
	return append(append(list, b.ring[b.next:]...), b.ring[:b.next]...), b.total
}
