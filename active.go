// The configuration in force, and its changes at run time.

package networkproxy

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"example.com/networkproxy/internal/ca"
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

	authority func() (*ca.Authority, error) // of TLS inspection; made on first use

	// mu guards the fields below. While it is held, no function of the host
	// is called, no file is read and nothing is logged.
	mu     sync.Mutex
	base   *loadedConfig // the last good configuration
	loaded *loadedConfig // base, cut back to the managed limits
	mode   runtimeMode
	rules  runtimeRules // of AllowDomain and DenyDomain
	fault  error        // of the last reload; nil if it succeeded

	// remembered are the entries of Remember that are not in the learned file:
	// they could not be saved, or the host's AmendmentWriter saves them.
	remembered runtimeRules
	learnings  uint64 // number of calls of learn
}

// newActiveConfig puts the first configuration in force.
func newActiveConfig(first *loadedConfig, e *gate.Gate, log *slog.Logger, alive func() error, exposed func() string) *activeConfig {
	e.Install(first.compile(1, first.Config.Mode, &e.Self))
	return &activeConfig{gate: e, log: log, alive: alive, exposed: exposed, base: first, loaded: first}
}

// checkAuthority returns an error if l needs a certificate authority and it cannot be
// used.
func (a *activeConfig) checkAuthority(l *loadedConfig) error {
	if !l.Config.MITM {
		return nil
	}
	_, err := a.authority()
	return err
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
	next := l.compile(a.gate.Policy().Generation+1, a.mode.effective(l.Config.Mode), &a.gate.Self, a.remembered, a.rules)
	if a.socketsWithheld(l) != "" {
		next.Sockets = nil
	}
	a.gate.Install(next)
	return next
}

// compile returns the policy of a configuration with a mode and run-time rules.
func (l *loadedConfig) compile(generation uint64, mode Mode, self *policy.SelfListeners, rules ...runtimeRules) *policy.Policy {
	allow, deny := []runtimeList{l.learned.allow}, []runtimeList{l.learned.deny}
	for _, r := range rules {
		allow, deny = append(allow, r.allow), append(deny, r.deny)
	}
	return &policy.Policy{
		Generation:  generation,
		Enabled:     l.Config.Enabled,
		Mode:        mode,
		CheckSNI:    l.Config.SNICheck == SNIEnforce,
		AllowLocal:  l.Config.Policy.AllowLocalBinding,
		AskLocal:    l.Config.Policy.AskLocal,
		Allow:       ruleSets(l.allow, allow...),
		Deny:        ruleSets(l.deny, deny...),
		Self:        self,
		Bounds:      l.limits.bounds(),
		SOCKSOff:    l.limits.forbidsSOCKS(),
		SOCKSUDPOff: l.limits.forbidsUDP(),
		Upstream:    l.Config.AllowUpstreamProxy,
		Sockets:     l.sockets,
		Inspection:  l.inspection,
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

// reloaded is the result of a reload.
type reloaded struct {
	Generation uint64   `json:"generation"`
	Cut        int      `json:"connections_cut"`
	Restart    []string `json:"restart_required,omitempty"` // changed keys that take effect at the next start
	Warnings   []string `json:"warnings,omitempty"`         // settings of the configuration that did not take effect
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
	a.gate.PublishReload(c.before.Generation+1, nil) // first, so that the cause comes before the effects
	c.policy = a.install(next)
	c.warnings = slices.Concat(c.warnings, next.cutBack, next.withoutEffect)
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
	for _, rules := range []*runtimeRules{&a.rules, &a.remembered} {
		*rules = rules.within(limits, func(entry string, _ policy.Position, err error) {
			warnings = append(warnings, fmt.Sprintf("the run-time rule %s is outside the managed limits and is dropped: %v", tomltable.Quote(entry), err))
		})
	}
	return warnings
}

// update calls change with a.mu held, and puts the result in force unless change
// returns an error. It returns the number of connections that were cut.
func (a *activeConfig) update(change func() error) (cut int, err error) {
	a.mu.Lock()
	err = a.alive()
	if err == nil {
		err = change()
	}
	if err == nil {
		a.install(a.loaded)
	}
	a.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return a.gate.Rejudge(), nil
}

// setMode implements [Handle.SetMode].
func (a *activeConfig) setMode(m Mode) error {
	if _, err := ParseMode(string(m)); err != nil {
		return err
	}
	cut, err := a.update(func() error {
		if err := a.loaded.limits.checkMode(m); err != nil {
			return err
		}
		a.mode = runtimeMode{mode: m, over: a.loaded.Config.Mode}
		return nil
	})
	if err != nil {
		return err
	}
	a.log.Info("mode set", "mode", string(m), "connections_cut", cut)
	return nil
}

// changeRules replaces the run-time rules by the result of change, which it calls with
// a.mu held.
func (a *activeConfig) changeRules(change func(runtimeRules) (runtimeRules, error)) error {
	var rules runtimeRules
	cut, err := a.update(func() (err error) {
		if rules, err = change(a.rules); err == nil {
			a.rules = rules
		}
		return err
	})
	if err != nil {
		return err
	}
	a.log.Info("run-time rules changed", "allowed", rules.allow.entries, "denied", rules.deny.entries, "connections_cut", cut)
	return nil
}

// allow implements [Handle.AllowDomain].
func (a *activeConfig) allow(entry string) error {
	return a.changeRules(func(r runtimeRules) (runtimeRules, error) {
		list, err := parseAllowedEntries([]string{entry}, a.loaded.limits)
		r.allow = r.allow.withAll(list)
		return r, err
	})
}

// deny implements [Handle.DenyDomain].
func (a *activeConfig) deny(entry string) error {
	return a.changeRules(func(r runtimeRules) (runtimeRules, error) {
		p, err := parseDenied(entry)
		if err != nil {
			return r, err
		}
		r.deny = r.deny.with(entry, p, runtimePosition(addedAtRunTime))
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
		for _, list := range []runtimeList{a.remembered.allow, a.remembered.deny, a.loaded.learnedAll.allow, a.loaded.learnedAll.deny} {
			if i := list.index(p); i >= 0 {
				return r, fmt.Errorf("%q was added by Remember (%s): use Forget", entry, Position(list.at[i]))
			}
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

// remember puts an amendment in force. The entry stays in a.remembered until learn
// finds it in the learned file.
func (a *activeConfig) remember(action AmendmentAction, p domain.Pattern) error {
	_, err := a.update(func() error {
		list := &a.remembered.deny
		if action == AmendAllow {
			list = &a.remembered.allow
			if err := a.loaded.limits.checkAllowed(p); err != nil {
				return fmt.Errorf("%q cannot be allowed: %w", p.String(), err)
			}
			for _, denied := range []runtimeList{a.remembered.deny, a.loaded.learned.deny} {
				if i := denied.index(p); i >= 0 {
					return fmt.Errorf("%q cannot be allowed: Remember has denied it (%s); use Forget first", p.String(), Position(denied.at[i]))
				}
			}
		}
		*list = list.with(p.String(), p, runtimePosition(remembered))
		return nil
	})
	return err
}

// forget takes a remembered entry that is in no file out of force. It reports
// whether there was one.
func (a *activeConfig) forget(p domain.Pattern) (found bool) {
	a.update(func() error {
		for _, list := range []*runtimeList{&a.remembered.allow, &a.remembered.deny} {
			if i := list.index(p); i >= 0 {
				*list, found = list.without(i), true
			}
		}
		return nil
	})
	return found
}

// learn puts the content of the learned file in force. The caller calls the gate's
// Rejudge.
func (a *activeConfig) learn(content runtimeRules) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.learnings++
	base, loaded := *a.base, *a.loaded
	base.setLearned(content)
	loaded.setLearned(content)
	a.base, a.loaded = &base, &loaded
	a.remembered = a.remembered.except(content)
	if a.alive() == nil {
		a.install(a.loaded)
	}
}

// learned returns the number of calls of learn so far.
func (a *activeConfig) learned() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.learnings
}
