// Targets observed while allowlist misses pass.

package audit

import (
	"cmp"
	"slices"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// MaxObserved limits the number of distinct targets in Observations.
const MaxObserved = 10_000

// Observations is the set of targets that requests reached. The zero value is
// empty. A nil *Observations records nothing. Safe for concurrent use.
type Observations struct {
	mu       sync.Mutex
	seen     map[hostname.Target]bool
	overflow bool
}

// Add records a target that a request has reached.
func (o *Observations) Add(t hostname.Target) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) >= MaxObserved && !o.seen[t] {
		o.overflow = true
		return
	}
	if o.seen == nil {
		o.seen = make(map[hostname.Target]bool)
	}
	o.seen[t] = true
}

// Suggest returns allowlist entries for the recorded targets, sorted by host and
// port. complete is false if there were more than MaxObserved targets.
func (o *Observations) Suggest() (list []string, complete bool) {
	if o == nil {
		return nil, true
	}
	o.mu.Lock()
	targets := make([]hostname.Target, 0, len(o.seen))
	for t := range o.seen {
		targets = append(targets, t)
	}
	complete = !o.overflow
	o.mu.Unlock()

	slices.SortFunc(targets, func(a, b hostname.Target) int {
		return cmp.Or(cmp.Compare(a.Host.String(), b.Host.String()), cmp.Compare(a.Port, b.Port))
	})
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
