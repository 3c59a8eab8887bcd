// The rules that a session adds to the policy.

package networkproxy

import (
	"fmt"

	"example.com/networkproxy/internal/policy"
)

// newOverlay compiles the rules of a session. It returns nil if there are none,
// and an error if one of them is invalid or beyond the managed limits.
func newOverlay(c *SessionConfig, limits *requirements) (*policy.Overlay, error) {
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
	allow.List, deny.List = policy.SessionAllowed, policy.SessionDenied
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	patterns := src.patterns(keyAllowedDomains, &errs)
	for _, p := range patterns {
		if err := limits.checkAllowed(p); err != nil {
			errs.add(err)
		}
	}
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	return policy.NewOverlay(allow, patterns, deny, c.Mode), nil
}
