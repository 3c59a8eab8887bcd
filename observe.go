// Observing, to learn what a policy has to allow: allowlist misses pass, and
// what passed is remembered, so that an allowlist can be made of it.

package networkproxy

import (
	"fmt"
	"strings"
)

// observingWarning is said wherever the state of the proxy is told.
const observingWarning = "OBSERVING: hosts that no list names are let through and recorded, not refused; " +
	"the denylist and the protection of local networks still hold. Turn it off to enforce the allowlist"

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
