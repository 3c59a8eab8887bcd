// The configuration in force, and what is changed in it at run time.

package networkproxy

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/gate"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// activeConfig is the configuration in force, with the mode and the rules that
// were set at run time. Each change gives the gate a new policy. Safe for
// concurrent use.
type activeConfig struct {
	gate    *gate.Gate
	log     *slog.Logger
	alive   func() error  // returns why nothing can be changed; nil if it can
	exposed func() string // returns the address of a listener that other machines can reach, or ""

	// mu guards the fields below. While it is held, no function of the host
	// is called, no file is read and nothing is logged.
	mu     sync.Mutex
	base   *loadedConfig // the last good configuration
	loaded *loadedConfig // base, cut back to the managed limits
	mode   runtimeMode
	rules  runtimeRules
	fault  error // of the last reload; nil if it succeeded
}

// newActiveConfig puts the first configuration in force.
func newActiveConfig(first *loadedConfig, e *gate.Gate, log *slog.Logger, alive func() error, exposed func() string) *activeConfig {
	e.Install(first.compile(1, first.Config.Mode, runtimeRules{}, &e.Self))
	return &activeConfig{gate: e, log: log, alive: alive, exposed: exposed, base: first, loaded: first}
}

// current returns the configuration in force.
func (a *activeConfig) current() *loadedConfig {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loaded
}

// limits returns the managed limits in force, or an error if the proxy has
// ended or is disabled.
func (a *activeConfig) limits() (*requirements, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loaded.limits, a.alive()
}

// state returns the configuration and the policy in force, and the fault of the
// last reload. They belong together.
func (a *activeConfig) state() (*loadedConfig, *policy.Policy, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loaded, a.gate.Policy(), a.fault
}

// failed records the fault of a reload.
func (a *activeConfig) failed(fault error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = fault
}

// install compiles a configuration and puts it in force. a.mu is held. The
// caller calls the gate's Rejudge once it has released the lock.
func (a *activeConfig) install(l *loadedConfig) *policy.Policy {
	a.loaded = l
	if l.Config.Mode != a.mode.over {
		a.mode = runtimeMode{}
	}
	next := l.compile(a.gate.Policy().Generation+1, a.mode.effective(l.Config.Mode), a.rules, &a.gate.Self)
	if a.socketsWithheld(l) != "" {
		next.Sockets = nil
	}
	a.gate.Install(next)
	return next
}

// compile returns the policy of a configuration with a mode and run-time rules.
func (l *loadedConfig) compile(generation uint64, mode Mode, rules runtimeRules, self *policy.SelfListeners) *policy.Policy {
	return &policy.Policy{
		Generation:  generation,
		Enabled:     l.Config.Enabled,
		Mode:        mode,
		CheckSNI:    l.Config.SNICheck == SNIEnforce,
		AllowLocal:  l.Config.Policy.AllowLocalBinding,
		Allow:       rules.allow.over(l.allow),
		Deny:        rules.deny.over(l.deny),
		Self:        self,
		Bounds:      l.limits.bounds(),
		SOCKSOff:    l.limits.forbidsSOCKS(),
		SOCKSUDPOff: l.limits.forbidsUDP(),
		Upstream:    l.Config.AllowUpstreamProxy,
		Sockets:     l.sockets,
	}
}

// socketsWithheld returns the reason why the Unix sockets of a configuration
// stay off, or "". It applies to reloads only: a start moves the listeners to
// loopback instead, see clampAddr.
func (a *activeConfig) socketsWithheld(l *loadedConfig) string {
	exposed := a.exposed()
	if exposed == "" || len(l.Config.Policy.AllowUnixSockets) == 0 {
		return ""
	}
	return fmt.Sprintf("%s stays off: other machines can reach the listener on %s, and must not reach the sockets; "+
		"the next start puts the listener on loopback, and the sockets are allowed then", keyAllowUnixSockets, exposed)
}

// change is the effect of a new configuration or of new limits.
type change struct {
	policy, before *policy.Policy
	warnings       []string
}

// change puts a configuration in force that is within its limits. It drops the
// mode and the rules set at run time that exceed them. a.mu is held.
func (a *activeConfig) change(next *loadedConfig) change {
	c := change{before: a.gate.Policy(), warnings: a.dropExceeding(next.limits)}
	c.policy = a.install(next)
	c.warnings = append(c.warnings, next.cutBack...)
	return c
}

// dropExceeding drops the mode and the rules set at run time that exceed the
// limits. It returns a warning for each.
func (a *activeConfig) dropExceeding(limits *requirements) (warnings []string) {
	if a.mode.mode != "" {
		if err := limits.checkMode(a.mode.mode); err != nil {
			a.mode = runtimeMode{}
			warnings = append(warnings, fmt.Sprintf("the mode set at run time is outside the managed limits and is dropped: %v", err))
		}
	}
	a.rules = a.rules.within(limits, func(entry string, err error) {
		warnings = append(warnings, fmt.Sprintf("the run-time rule %s is outside the managed limits and is dropped: %v", tomltable.Quote(entry), err))
	})
	return warnings
}

// setMode implements [Handle.SetMode].
func (a *activeConfig) setMode(m Mode) error {
	if _, err := ParseMode(string(m)); err != nil {
		return err
	}
	a.mu.Lock()
	err := a.alive()
	if err == nil {
		err = a.loaded.limits.checkMode(m)
	}
	if err == nil {
		a.mode = runtimeMode{mode: m, over: a.loaded.Config.Mode}
		a.install(a.loaded)
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	cut := a.gate.Rejudge()
	a.log.Info("mode set", "mode", string(m), "connections_cut", cut)
	return nil
}

// changeRules replaces the run-time rules by what change returns for them.
// change is called with a.mu held.
func (a *activeConfig) changeRules(change func(runtimeRules) (runtimeRules, error)) error {
	a.mu.Lock()
	err := a.alive()
	rules := a.rules
	if err == nil {
		rules, err = change(rules)
	}
	if err == nil {
		a.rules = rules
		a.install(a.loaded)
	}
	a.mu.Unlock()
	if err != nil {
		return err
	}
	cut := a.gate.Rejudge()
	a.log.Info("run-time rules changed", "allowed", rules.allow.entries, "denied", rules.deny.entries, "connections_cut", cut)
	return nil
}

// allow implements [Handle.AllowDomain].
func (a *activeConfig) allow(entry string) error {
	return a.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := parseAllowed(entry)
		if err != nil {
			return r, err
		}
		if err := a.loaded.limits.checkAllowed(p); err != nil {
			return r, fmt.Errorf("%q cannot be allowed: %w", entry, err)
		}
		r.allow = r.allow.with(entry, p)
		return r, nil
	})
}

// deny implements [Handle.DenyDomain].
func (a *activeConfig) deny(entry string) error {
	return a.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := parseDenied(entry)
		if err != nil {
			return r, err
		}
		r.deny = r.deny.with(entry, p)
		return r, nil
	})
}

// remove implements [Handle.RemoveDomain].
func (a *activeConfig) remove(entry string) error {
	return a.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := domain.Parse(entry)
		if err != nil {
			return r, err
		}
		allowed, denied := r.allow.index(p), r.deny.index(p)
		if allowed >= 0 {
			r.allow = r.allow.without(allowed)
		}
		if denied >= 0 {
			r.deny = r.deny.without(denied)
		}
		if allowed >= 0 || denied >= 0 {
			return r, nil
		}
		for _, list := range []*policy.RuleSet{a.loaded.allow, a.loaded.deny} {
			if slices.Contains(list.Entries, entry) {
				return r, fmt.Errorf("%q was not added at run time: it is an entry of %s (%s); edit the configuration",
					entry, list.List, a.loaded.describe(keyPolicy+"."+list.List))
			}
		}
		return r, fmt.Errorf("%q was not added at run time", entry)
	})
}
