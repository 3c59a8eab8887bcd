package networkproxy

import "time"

// Grant is a decider's allow while it lasts, as it stood when it was listed.
type Grant struct {
	ID      uint64 `json:"id"`      // unique in this proxy, growing with time
	Host    string `json:"host"`    // a pattern as in a list: "example.com", or "**.example.com" for it and all below
	Port    uint16 `json:"port"`    // 0: every port
	Command string `json:"command"` // the session's; empty for the shared listeners

	UsesLeft int       `json:"uses_left"` // requests that may still pass; -1: any number
	Active   int       `json:"active"`    // tunnels and requests under way that it let in
	Created  time.Time `json:"created"`
	Expires  time.Time `json:"expires,omitzero"` // zero: with the session, or the proxy
}

// Grants returns the grants that can let more requests through or have let in
// something that is still under way, oldest first. Those that are used up or
// over, and done with, are gone; so are those of sessions that were closed.
func (h *Handle) Grants() []Grant {
	list := h.gate.Grants.List()
	grants := make([]Grant, len(list))
	for i, g := range list {
		grants[i] = Grant(g)
	}
	return grants
}

// Revoke ends a grant and cuts the tunnels and connections that it opened,
// before it returns. What it would have covered is asked about again. The
// error is [ErrNoGrant] for an ID that Grants would not list now.
func (h *Handle) Revoke(id uint64) error {
	_, err := h.revoke(id)
	return err
}

// revoke is Revoke that also returns how many connections were cut.
func (h *Handle) revoke(id uint64) (cut int, err error) { return h.gate.Revoke(id) }
