// Targets observed while allowlist misses pass.

package audit

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// MaxObserved limits the number of distinct targets in Observations: of those
// that requests reached, and of the local ones that were refused.
const MaxObserved = 10_000

// Observations is the set of targets that requests reached, and of local targets
// that were refused. The zero value is empty. A nil *Observations records nothing.
// Safe for concurrent use.
type Observations struct {
	mu       sync.Mutex
	reached  map[hostname.Target]netip.Addr // the addresses are zero
	local    map[hostname.Target]netip.Addr
	overflow bool
}

// LocalTarget is a local target that was refused.
type LocalTarget struct {
	Target  hostname.Target
	Address netip.Addr // the local address that a name resolved to; zero if the target itself is local
}

// Add records a target that a request has reached.
func (o *Observations) Add(t hostname.Target) {
	if o != nil {
		o.add(&o.reached, t, netip.Addr{})
	}
}

// AddLocal records a target that was refused because it is local, or because its
// name resolved to the local address a.
func (o *Observations) AddLocal(t hostname.Target, a netip.Addr) {
	if o != nil {
		o.add(&o.local, t, a)
	}
}

// add adds t to a set unless the set is full.
func (o *Observations) add(set *map[hostname.Target]netip.Addr, t hostname.Target, a netip.Addr) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, known := (*set)[t]; known {
		return
	}
	if len(*set) >= MaxObserved {
		o.overflow = true
		return
	}
	if *set == nil {
		*set = make(map[hostname.Target]netip.Addr)
	}
	(*set)[t.Clone()] = a // t is a part of a whole request header
}

// Suggest returns allowlist entries for the recorded targets that were reached,
// sorted by host and port. complete is false if there were more than MaxObserved
// targets of either kind.
func (o *Observations) Suggest() (list []string, complete bool) {
	if o == nil {
		return nil, true
	}
	o.mu.Lock()
	targets := sorted(o.reached)
	complete = !o.overflow
	o.mu.Unlock()

	list = []string{}
	for i := 0; i < len(targets); {
		host := targets[i].Host
		n := slices.IndexFunc(targets[i:], func(t hostname.Target) bool { return t.Host != host })
		if n < 0 {
			n = len(targets) - i
		}
		list = append(list, entriesFor(targets[i:i+n])...)
		i += n
	}
	return list, complete
}

// Local returns the recorded local targets, sorted by host and port.
func (o *Observations) Local() []LocalTarget {
	if o == nil {
		return nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []LocalTarget
	for _, t := range sorted(o.local) {
		list = append(list, LocalTarget{t, o.local[t]})
	}
	return list
}

// sorted returns the targets of a set by host and port.
func sorted(set map[hostname.Target]netip.Addr) []hostname.Target {
	return slices.SortedFunc(maps.Keys(set), func(a, b hostname.Target) int {
		return cmp.Or(cmp.Compare(a.Host.String(), b.Host.String()), cmp.Compare(a.Port, b.Port))
	})
}

// entriesFor returns the entries for the targets of one host: the host alone if
// it was reached on ports 80 and 443 only, else one entry with a port for each.
func entriesFor(targets []hostname.Target) []string {
	web := func(t hostname.Target) bool { return t.Port == 80 || t.Port == 443 }
	if !slices.ContainsFunc(targets, func(t hostname.Target) bool { return !web(t) }) {
		return []string{targets[0].Host.String()}
	}
	var entries []string
	for _, t := range targets {
		entries = append(entries, t.String())
	}
	return entries
}
