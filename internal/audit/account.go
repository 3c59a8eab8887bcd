// The account of one session: its requests, the hosts that it reached, and its
// refusals without repetition.

package audit

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/policy"
)

const (
	// MaxHosts limits the hosts that an Account lists. It is more than a person
	// reads.
	MaxHosts = 100

	// maxRefusals limits the distinct refusals that an Account keeps. A report
	// has room for fewer.
	maxRefusals = 100
)

// Account sums up the requests of one session. The zero value is empty. A nil
// *Account counts nothing. Safe for concurrent use.
//
// Counting an allowed request takes no lock, unless its host is new.
type Account struct {
	requests [Outcomes]atomic.Uint64

	// hosts is replaced by a copy to add a host, so that readers need no lock.
	hosts     atomic.Pointer[map[hostname.Host]*hostCount]
	moreHosts atomic.Bool // there were more than MaxHosts

	mu       sync.Mutex
	command  *Attribution      // that of the refusals below; nil means any
	refusals []*countedRefusal // distinct, in the order in which they first happened
	index    map[refusalKey]*countedRefusal
	refused  uint64 // requests, including those that refusals has no place for
	byUser   bool   // the user refused one of the requests
}

// hostCount counts the requests to one host.
type hostCount struct {
	position        int // in the order of the first requests
	allowed, failed atomic.Uint64
	traffic         Traffic
}

// countedRefusal is a refusal and the number of requests that were refused alike.
type countedRefusal struct {
	Refusal // the first of them
	count   uint64
}

// refusalKey identifies refusals with the same texts.
type refusalKey struct {
	target hostname.Target
	socket string

	// Empty, except for a refusal by the mode.
	protocol policy.Protocol
	method   string
	upgrade  bool

	rule    policy.Rule    // without its position
	verdict policy.Verdict // without its generation and entry, which differ from policy to policy
}

// Allow counts a request that reached its target.
func (a *Account) Allow(t hostname.Target) {
	if a == nil {
		return
	}
	a.requests[Allowed].Add(1)
	if h := a.host(t.Host); h != nil {
		h.allowed.Add(1)
	}
}

// Fail counts an allowed request whose target could not be reached.
func (a *Account) Fail(t hostname.Target) {
	if a == nil {
		return
	}
	a.requests[Failed].Add(1)
	if h := a.host(t.Host); h != nil {
		h.failed.Add(1)
	}
}

// Transfer counts the bytes of an ended request for its host. The Traffic of the
// principal counts them for the session.
func (a *Account) Transfer(t hostname.Target, sent, received int64) {
	if a == nil {
		return
	}
	if h := a.host(t.Host); h != nil {
		h.traffic.Add(sent, received)
	}
}

// host returns the counters of a host. It returns nil if there is no place for
// one more host, and for the zero Host of a Unix socket.
func (a *Account) host(host hostname.Host) *hostCount {
	if p := a.hosts.Load(); p != nil {
		if h := (*p)[host]; h != nil {
			return h
		}
	}
	if host.IsZero() || a.moreHosts.Load() {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	hosts := make(map[hostname.Host]*hostCount)
	if p := a.hosts.Load(); p != nil {
		if h := (*p)[host]; h != nil {
			return h
		}
		maps.Copy(hosts, *p)
	}
	if len(hosts) == MaxHosts {
		a.moreHosts.Store(true)
		return nil
	}
	h := &hostCount{position: len(hosts)}
	hosts[hostname.Target{Host: host}.Clone().Host] = h // the host may be part of a request header
	a.hosts.Store(&hosts)
	return h
}

// Begin begins a new report, about refused requests with this attribution only. It
// does not reset the summary.
func (a *Account) Begin(command *Attribution) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.command = command
	a.refusals, a.index, a.refused, a.byUser = nil, nil, 0, false
}

// Refuse counts a refused request. command is its attribution.
func (a *Account) Refuse(r *Refusal, command *Attribution) {
	if a == nil {
		return
	}
	a.requests[Refused].Add(1)
	key := refusalKey{target: r.Target, socket: r.UnixSocket, rule: r.Verdict.Rule(), verdict: r.Verdict}
	key.rule.Position = policy.Position{}
	key.verdict.Generation, key.verdict.Entry = 0, policy.Entry{}
	if r.Verdict.Check == policy.CheckMode {
		key.protocol, key.method, key.upgrade = r.Protocol, r.Method, r.Upgrade
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.command != nil && a.command != command {
		return
	}
	a.refused++
	a.byUser = a.byUser || r.Verdict.ByUser()
	if c := a.index[key]; c != nil {
		c.count++
		return
	}
	if len(a.refusals) == maxRefusals {
		return
	}
	c := &countedRefusal{Refusal: *r, count: 1}
	c.Refusal.CloneStrings()
	key.target, key.socket, key.method, key.verdict.ServerName = c.Target, c.UnixSocket, strings.Clone(key.method), c.Verdict.ServerName
	if a.index == nil {
		a.index = make(map[refusalKey]*countedRefusal)
	}
	a.index[key] = c
	a.refusals = append(a.refusals, c)
}

// Summary is a snapshot of an Account.
type Summary struct {
	Requests  [Outcomes]uint64
	Hosts     []HostSummary // in the order of the first request to each
	MoreHosts bool          // there were more than MaxHosts
}

// HostSummary sums up the allowed requests to one host.
type HostSummary struct {
	Host            string
	Allowed, Failed uint64
	Sent, Received  uint64 // bytes of ended requests
}

// Summary returns a snapshot. Requests that are counted meanwhile may be part of
// some of its numbers only.
func (a *Account) Summary() Summary {
	s := Summary{MoreHosts: a.moreHosts.Load()}
	for o := range a.requests {
		s.Requests[o] = a.requests[o].Load()
	}
	p := a.hosts.Load()
	if p == nil {
		return s
	}
	s.Hosts = make([]HostSummary, len(*p))
	for host, h := range *p {
		s.Hosts[h.position] = HostSummary{
			Host: host.String(), Allowed: h.allowed.Load(), Failed: h.failed.Load(),
			Sent: h.traffic.Sent.Load(), Received: h.traffic.Received.Load(),
		}
	}
	return s
}

// Refused returns the number of refused requests in the report, and whether the
// user refused one of them.
func (a *Account) Refused() (n uint64, byUser bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.refused, a.byUser
}
