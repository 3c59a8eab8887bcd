// Observing, to learn what an allowlist has to contain: the proxy lets allowlist
// misses pass and records their targets.

package networkproxy

import (
	"fmt"
	"strings"

	"example.com/networkproxy/internal/audit"
)

// Suggest returns the smallest allowlist that would have allowed every request
// that passed since the start, sorted. It lists a host by its name if only the
// ports of HTTP and HTTPS were used, and with its ports otherwise. It does not
// propose wildcards, because the other hosts of a domain may serve anything. It
// returns nil unless the proxy observes.
func (h *Handle) Suggest() []string {
	list, _ := h.gate.Observations.Suggest()
	return list
}

// suggestion returns the same allowlist as TOML that a user can paste. ok is
// false unless the proxy observes.
func (h *Handle) suggestion() (text string, ok bool) {
	if h.gate.Observations == nil {
		return "", false
	}
	return suggestion(h.gate.Observations.Suggest()), true
}

// suggestion returns an allowlist as TOML. complete is false if there were more
// targets than the proxy records.
func suggestion(list []string, complete bool) string {
	var b strings.Builder
	b.WriteString("# The targets of requests that passed while observing. Review them before you paste\n# this: a tricked agent may have reached hosts that it should not.\n")
	if !complete {
		fmt.Fprintf(&b, "# The list is incomplete, because there were more than %d targets.\n", audit.MaxObserved)
	}
	b.WriteString("[network_proxy.policy]\nallowed_domains = [\n")
	for _, entry := range list {
		fmt.Fprintf(&b, "  %q,\n", entry)
	}
	b.WriteString("]\n")
	return b.String()
}
