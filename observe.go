// Observing, to learn what a policy has to allow: allowlist misses pass, and
// what passed is remembered, so that an allowlist can be made of it.

package networkproxy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"example.com/networkproxy/internal/hostname"
)

// observedLimit bounds how many different targets are remembered.
const observedLimit = 10_000

// observingWarning is said wherever the state of the proxy is told.
const observingWarning = "OBSERVING: hosts that no list names are let through and recorded, not refused; " +
	"the denylist and the protection of local networks still hold. Turn it off to enforce the allowlist"

// Observe lets allowlist misses pass and records them, in place of refusing
// them or asking the decider: for learning, once, what a piece of work needs.
// The denylist, the protection of local and private networks and the mode
// hold all the same. [Handle.Suggest] and GET /suggest then tell the allowlist
// that would have been enough. The log, /health and the warnings say that it
// is on.
func (b *Builder) Observe() *Builder {
	b.settings.observe = true
	return b
}

func (s *settings) observed() *observations {
	if !s.observe {
		return nil
	}
	return &observations{seen: make(map[hostname.Target]bool)}
}

// standingApproval is who lets allowlist misses pass without being asked.
func (e *enforcer) standingApproval() Source {
	if e.observed == nil {
		return ""
	}
	return SourceObserver
}

// observations are the targets that passed while observing. Safe for
// concurrent use.
type observations struct {
	mu       sync.Mutex
	seen     map[hostname.Target]bool
	overflow bool
}

// add takes note of a target that was reached. nil takes no notes.
func (o *observations) add(t hostname.Target) {
	if o == nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.seen) >= observedLimit && !o.seen[t] {
		o.overflow = true
		return
	}
	o.seen[t] = true
}

// Suggest returns the smallest allowlist that would have let through what has
// passed since the start, sorted: a host that was used on the ports of HTTP
// and HTTPS alone stands by its name, others with their ports. It does not
// widen to wildcards: what else a domain's owner serves is not for a guess.
// nil unless observing.
func (h *Handle) Suggest() []string {
	list, _ := h.enforcer.observed.suggest()
	return list
}

// suggestion returns the same allowlist as TOML, to be pasted. ok is false
// unless the proxy is observing.
func (h *Handle) suggestion() (text string, ok bool) {
	if h.enforcer.observed == nil {
		return "", false
	}
	return suggestion(h.enforcer.observed.suggest()), true
}

func (o *observations) suggest() (list []string, complete bool) {
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

// entriesFor are the entries for the targets of one host.
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

// suggestion is an allowlist as TOML, to be pasted.
func suggestion(list []string, complete bool) string {
	var b strings.Builder
	b.WriteString("# What passed while observing. Read it before you paste it:\n# an agent that is tricked reaches out too.\n")
	if !complete {
		fmt.Fprintf(&b, "# More than %d targets were seen; this is not all of them.\n", observedLimit)
	}
	b.WriteString("[network_proxy.policy]\nallowed_domains = [\n")
	for _, entry := range list {
		fmt.Fprintf(&b, "  %q,\n", entry)
	}
	b.WriteString("]\n")
	return b.String()
}
