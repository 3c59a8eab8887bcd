// The state of a running proxy, as the admin API and the metrics report it.

package networkproxy

import (
	"example.com/networkproxy/internal/audit"
	"example.com/networkproxy/internal/policy"
)

// status is the state of a proxy at one moment.
type status struct {
	policy    *policy.Policy // in force
	loaded    *loadedConfig  // the configuration in force
	fault     error          // of the last reload; nil if it succeeded
	observing bool

	httpAddr, adminAddr, socksAddr string

	count *audit.Counters // these go on counting

	clients        int    // open connections of clients
	clientsRefused uint64 // connections of clients beyond the limit
	sessions       int
	grants         int
	questions      int // that the decider has not answered yet
	blockedKept    int

	// Calls of the host's functions that were dropped because the function
	// did not return in time.
	droppedRefusals, droppedLogLines uint64
}

// status returns the state of the proxy. Policy, configuration and fault belong
// together.
func (h *Handle) status() status {
	e := h.gate
	s := status{
		observing:       e.Observed != nil,
		httpAddr:        h.httpAddr,
		adminAddr:       h.adminAddr,
		socksAddr:       h.socksAddr,
		count:           &e.Count,
		clients:         h.live.Len(),
		clientsRefused:  h.live.Refused(),
		sessions:        h.sessions.len(),
		grants:          len(h.Grants()),
		questions:       e.Asker.Len(),
		blockedKept:     h.settings.limits.BlockedKept,
		droppedRefusals: e.Observer.Lost(),
		droppedLogLines: h.logQueue.Lost(),
	}
	s.loaded, s.policy, s.fault = h.active.state()
	return s
}

// refusals returns the recorded refusals, oldest first, and the number of
// refusals since the start.
func (h *Handle) refusals() (list []BlockedRequest, total uint64) {
	kept, total := h.gate.Blocked.List()
	return publicRefusals(kept), total
}

// adminReadOnly reports whether the configuration in force makes the admin API
// read-only.
func (h *Handle) adminReadOnly() bool {
	return h.active.current().Config.AdminReadOnly
}
