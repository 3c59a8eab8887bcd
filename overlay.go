// Overlays: rules that a session adds to the policy, for its own requests.

package networkproxy

import (
	"fmt"
	"sync/atomic"

	"example.com/networkproxy/internal/domain"
)

// How the rules of an overlay name their list.
const (
	sessionAllowed = "session_allowed_domains"
	sessionDenied  = "session_denied_domains"
	sessionMode    = "session_mode"
)

// overlay is what a session adds to every policy that is in force during its
// life. It does not change. A nil overlay adds nothing.
//
// The managed limits bound it under each policy anew: an entry of the
// allowlist that a reload of the limits has put out of bounds counts for
// nothing until they hold it again. A request is judged by one policy, and so
// by one set of limits.
type overlay struct {
	patterns []domain.Pattern // of allow
	allow    ruleSets
	deny     ruleSets
	mode     Mode // empty: whatever is in force

	within atomic.Pointer[withinLimits] // the last answer of allowed
}

// withinLimits is the part of an overlay's allowlist that some limits hold.
type withinLimits struct {
	limits *requirements
	allow  ruleSets
}

// newOverlay compiles the overlay of a session, nil if it adds nothing. What
// is wrong with it, or beyond the limits, is the error.
func newOverlay(c *SessionConfig, limits *requirements) (*overlay, error) {
	if len(c.AllowedDomains) == 0 && len(c.DeniedDomains) == 0 && c.Mode == "" {
		return nil, nil
	}
	if c.Mode != "" {
		if _, err := ParseMode(string(c.Mode)); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		if err := limits.checkMode(c.Mode); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
	}
	src := sourcedFromGo(Config{Policy: PolicyConfig{
		AllowedDomains: c.AllowedDomains,
		DeniedDomains:  c.DeniedDomains,
	}})
	var errs errorList
	allow := compileList(src, keyAllowedDomains, src.Config.Policy.AllowedDomains, &errs)
	deny := compileList(src, keyDeniedDomains, src.Config.Policy.DeniedDomains, &errs)
	allow.list, deny.list = sessionAllowed, sessionDenied
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	o := &overlay{
		patterns: src.patterns(keyAllowedDomains, &errs),
		allow:    ruleSets{allow},
		deny:     ruleSets{deny},
		mode:     c.Mode,
	}
	for _, p := range o.patterns {
		if err := limits.checkAllowed(p); err != nil {
			errs.add(err)
		}
	}
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return o, nil
}

// allowed is the allowlist as far as the limits hold it.
func (o *overlay) allowed(limits *requirements) ruleSets {
	if o == nil || len(o.patterns) == 0 {
		return nil
	}
	if limits == nil {
		return o.allow
	}
	if w := o.within.Load(); w != nil && w.limits == limits {
		return w.allow
	}
	held := make([]domain.Pattern, len(o.patterns)) // a zero pattern matches nothing
	for i, p := range o.patterns {
		if limits.allowedLimit(p) == nil {
			held[i] = p
		}
	}
	within := *o.allow[0]
	within.set = domain.Compile(held)
	allow := ruleSets{&within}
	o.within.Store(&withinLimits{limits, allow})
	return allow
}

func (o *overlay) denied() ruleSets {
	if o == nil {
		return nil
	}
	return o.deny
}

// permits reports whether the session's mode lets a request through, and which
// mode does not.
func (o *overlay) permits(q *query) (Mode, bool) {
	if o == nil || o.mode.permits(q) {
		return "", true
	}
	return o.mode, false
}
