// The state of a running proxy, and what a host can change about it.

package networkproxy

import (
	"context"
	"time"

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

	count *audit.Counters // of the proxy; they go on counting

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

// status returns the state of the proxy. Policy, configuration and fault are of
// the same moment.
func (h *Handle) status() status {
	g := h.gate
	s := status{
		observing:       g.Observations != nil,
		httpAddr:        h.httpAddr,
		adminAddr:       h.adminAddr,
		socksAddr:       h.socksAddr,
		count:           &g.Counters,
		clients:         h.live.Len(),
		clientsRefused:  h.live.Refused(),
		sessions:        h.sessions.len(),
		grants:          len(h.Grants()),
		questions:       g.Asker.Len(),
		blockedKept:     h.settings.limits.BlockedKept,
		droppedRefusals: g.LostRefusals(),
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

// Config returns the configuration in force, without changes made at run time:
// see [Handle.Mode]. Values that exceed tightened managed limits are cut back
// in it. The caller owns the copy.
func (h *Handle) Config() Config { return h.active.current().Config.clone() }

// Mode returns the mode in force.
func (h *Handle) Mode() Mode { return h.gate.Policy().Mode }

// SetMode changes the mode until the configuration's own mode changes or the
// proxy ends. It cuts open tunnels that the new mode forbids. A mode that
// exceeds the managed limits is refused.
func (h *Handle) SetMode(m Mode) error { return h.active.setMode(m) }

// AllowDomain adds an allowlist entry until the proxy ends: it survives
// reloads and is not written to any file. The denylist, the protection of
// local networks and the mode apply to it as to every other entry. An entry
// outside the managed limits is refused; one that a reload puts outside them
// is dropped, with a warning in the log.
func (h *Handle) AllowDomain(entry string) error { return h.active.allow(entry) }

// DenyDomain adds a denylist entry until the proxy ends, as AllowDomain does
// for the allowlist. It cuts open connections that the entry denies.
func (h *Handle) DenyDomain(entry string) error { return h.active.deny(entry) }

// RemoveDomain removes an entry that AllowDomain or DenyDomain added. It does
// not remove entries of the configuration: the error says where such an entry
// is set.
func (h *Handle) RemoveDomain(entry string) error { return h.active.remove(entry) }

// Reload reads the configuration again and puts it in force, whole. On an
// error nothing changes: the last good policy stays in force. Managed limits
// are the exception: as soon as they can be read they take effect, even where
// the configuration cannot be read, and cut the last good configuration back.
// Open connections that the new policy refuses are cut. Changes of keys that
// need a restart are logged and take effect at the restart. All other changes
// take effect at once.
//
// Reload waits until the files have not changed for 200 ms, or for a second if
// a key that was there before is missing. This keeps it from reading a
// half-written file. If a file is still being written after eight times that
// wait, the error says so. Only one reload of files runs at a time.
//
// Where the configuration comes from a [Builder.ConfigSource], Reload returns
// [ErrReloading] at once while that function runs for another reload. Reload
// may be called from every callback. It returns early, with the reason, when
// ctx ends or the proxy begins to stop.
func (h *Handle) Reload(ctx context.Context) error {
	_, err := h.reload(ctx)
	return err
}

// reload is Reload that also returns what the reload did.
func (h *Handle) reload(ctx context.Context) (reloaded, error) { return h.reloader.reload(ctx) }

// Grant is a remembered Allow of the decider, as it was when [Handle.Grants] was
// called.
type Grant struct {
	ID      uint64 `json:"id"`      // unique in this proxy; later grants have higher ones
	Host    string `json:"host"`    // a pattern as in a list: "example.com", or "**.example.com" for it and all below
	Port    uint16 `json:"port"`    // 0: every port
	Command string `json:"command"` // of the session; empty for the shared listeners

	UsesLeft int       `json:"uses_left"` // further requests that it allows; -1: any number
	Active   int       `json:"active"`    // open requests and tunnels that it allowed
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: when the session or the proxy ends
}

// Grants returns the grants that can allow further requests or have open requests
// and tunnels, oldest first. It does not return those of closed sessions.
func (h *Handle) Grants() []Grant {
	list := h.gate.Grants.List()
	grants := make([]Grant, len(list))
	for i, g := range list {
		grants[i] = Grant(g)
	}
	return grants
}

// Revoke ends a grant. When it returns, the tunnels and connections that the grant
// allowed are cut. The decider is asked again about further requests. The error
// is [ErrNoGrant] if Grants does not list the ID.
func (h *Handle) Revoke(id uint64) error {
	_, err := h.revoke(id)
	return err
}

// revoke is Revoke that also returns how many connections were cut.
func (h *Handle) revoke(id uint64) (cut int, err error) { return h.gate.Revoke(id) }
