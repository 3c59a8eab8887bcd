// A configuration with the places of its values, and its validation.

package networkproxy

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// sourcedConfig is a configuration that knows where each of its values was set.
// It does not change once it is built, except through override before it is
// used.
type sourcedConfig struct {
	Config Config

	// warnings are those about the files, in their order.
	warnings []string

	places tomltable.Provenance
}

// newSourcedConfig returns the defaults.
func newSourcedConfig() *sourcedConfig {
	return &sourcedConfig{Config: DefaultConfig()}
}

// sourcedFromGo returns a configuration that was set from Go. An empty value
// stands for its default.
func sourcedFromGo(c Config) *sourcedConfig {
	s := newSourcedConfig()
	from := c.clone()
	given := from.fields()
	for i, f := range s.Config.fields() {
		if v := given[i].value; !v.Unset() && !v.Equal(f.value) {
			f.value.Copy(v)
			s.places.Override(f.key)
		}
	}
	return s
}

// read overrides values of s with those in the table of a file. It adds every mistake
// to errs.
func (s *sourcedConfig) read(file string, data []byte, errs *errorList) *tomltable.Table {
	var fields []tomltable.Field
	for _, f := range s.Config.fields() {
		fields = append(fields, tomltable.Field{Key: f.key, Value: f.value})
	}
	t := tomltable.Read(file, data, keyRoot, fields, func(e *tomltable.Error) {
		errs.add(&ConfigError{Position: Position(e.Position), Key: e.Key, Problem: e.Problem, Err: e.Err})
	})
	s.places.Add(t)
	s.warnings = append(s.warnings, t.Warnings...)
	if !t.Present {
		s.warnings = append(s.warnings, fmt.Sprintf("%s: no [%s] table: nothing in this file configures the proxy", file, keyRoot))
	}
	return t
}

// override records that Go code replaced the values of keys in s.Config.
func (s *sourcedConfig) override(keys ...string) {
	for _, key := range keys {
		s.places.Override(key)
	}
}

// has reports whether key was set, by a file or from Go.
func (s *sourcedConfig) has(key string) bool { return s.places.Has(key) }

// position returns the position of the value of key. It is zero for a default
// and for a value set from Go.
func (s *sourcedConfig) position(key string) Position { return Position(s.places.Position(key)) }

// itemPosition returns the position of element i of the array key.
func (s *sourcedConfig) itemPosition(key string, i int) Position {
	return Position(s.places.ItemPosition(key, i))
}

// itemPositions returns itemPosition for one array.
func (s *sourcedConfig) itemPositions(key string) func(i int) Position {
	at := s.places.ItemPositions(key)
	return func(i int) Position { return Position(at(i)) }
}

// describe returns where the value of key was set, for messages:
// "file:line:column", "set from Go" or "default".
func (s *sourcedConfig) describe(key string) string { return s.places.Describe(key) }

// sources returns the descriptions of all values, by their dotted keys.
func (s *sourcedConfig) sources() map[string]string {
	m := make(map[string]string)
	for _, f := range s.Config.fields() {
		m[f.key] = s.describe(f.key)
	}
	return m
}

// notices returns the warnings about the files, and those about values that
// make no sense together.
func (s *sourcedConfig) notices() []string {
	out := slices.Clone(s.warnings)
	if s.Config.EnableSOCKS5UDP && !s.Config.EnableSOCKS5 {
		out = append(out, fmt.Sprintf("%s (%s) has no effect while enable_socks5 is false: nothing listens for SOCKS5",
			keyEnableSOCKS5UDP, s.describe(keyEnableSOCKS5UDP)))
	}
	return out
}

// checkValues reports every invalid value, except for invalid patterns, which
// patterns reports, and for listeners that collide, which checkListeners reports
// once the Builder's addresses are known.
func (s *sourcedConfig) checkValues(errs *errorList) {
	c := &s.Config
	if _, err := ParseMode(string(c.Mode)); err != nil {
		errs.add(&ConfigError{Position: s.position(keyMode), Key: keyMode, Err: err})
	}
	if _, err := ParseSNICheck(string(c.SNICheck)); err != nil {
		errs.add(&ConfigError{Position: s.position(keySNICheck), Key: keySNICheck, Err: err})
	}
	for _, key := range []string{keyProxyURL, keyAdminURL, keySOCKSURL} {
		if _, err := parseListener(key, s.addr(key), s.position(key)); err != nil {
			errs.add(err)
		}
	}
	s.checkMITM(errs)
	for i, p := range c.Policy.AllowUnixSockets {
		if problem := socketPathProblem(p); problem != "" {
			errs.add(s.itemError(keyAllowUnixSockets, i, p, problem, nil))
		}
	}
}

// itemError returns the error about element i of an array. Either problem or err
// describes the mistake.
func (s *sourcedConfig) itemError(key string, i int, value, problem string, err error) *ConfigError {
	return &ConfigError{
		Position: s.itemPosition(key, i),
		Key:      tomltable.ItemKey(key, i),
		Value:    value,
		Problem:  problem,
		Err:      err,
	}
}

// addr returns the configured address of one of the three URL keys.
func (s *sourcedConfig) addr(key string) string {
	return [...]string{s.Config.ProxyURL, s.Config.AdminURL, s.Config.SOCKSURL}[kindOf(key)]
}

// checkListeners reports listeners that would share an address and port.
// overrides holds, by URL key, the Builder's addresses in place of the configured
// ones; empty ones are ignored. provided are the keys of listeners that the host
// opened itself, whose addresses the configuration does not decide.
func (s *sourcedConfig) checkListeners(overrides map[string]string, provided ...string) error {
	type listener struct {
		key, raw, from string
		addr           netip.AddrPort
	}
	var errs errorList
	var known []listener
	for _, key := range []string{keyProxyURL, keyAdminURL, keySOCKSURL} {
		if slices.Contains(provided, key) || key == keySOCKSURL && !s.Config.EnableSOCKS5 {
			continue
		}
		l := listener{key: key, raw: s.addr(key), from: s.describe(key)}
		at := s.position(key)
		overridden := overrides[key] != ""
		if overridden {
			l.raw, l.from, at = overrides[key], tomltable.SetFromGo, Position{}
		}
		asked, err := parseListener(key, l.raw, at)
		if err != nil {
			// checkValues reports those of the configuration.
			if overridden {
				errs.add(err)
			}
			continue
		}
		if asked.path != "" {
			continue // a unix socket collides with no other listener
		}
		// clampAddr may map two addresses to the same one.
		l.addr, _ = clampAddr(asked.addr, kindOf(key), &s.Config)
		for _, other := range known {
			if !overlap(l.addr, other.addr) {
				continue
			}
			errs.add(&ConfigError{
				Position: at,
				Key:      key,
				Value:    l.raw,
				Problem: fmt.Sprintf("the %s would listen on %s, and so would the %s on %s by %s = %s (%s): give one of them another port",
					kindOf(key), l.addr, kindOf(other.key), other.addr, other.key, tomltable.Quote(other.raw), other.from),
			})
		}
		known = append(known, l)
	}
	return errs.join()
}

// overlap reports whether two listeners collide: they use the same port, other
// than 0, on the same address or on one that includes the other.
func overlap(a, b netip.AddrPort) bool {
	if a.Port() == 0 || a.Port() != b.Port() {
		return false
	}
	includes := func(all, one netip.Addr) bool {
		// [::] includes IPv4 by default on every system.
		return all.IsUnspecified() && (all.Is6() || one.Is4())
	}
	return a.Addr() == b.Addr() || includes(a.Addr(), b.Addr()) || includes(b.Addr(), a.Addr())
}

// checkWhole reports a file that looks half-written: it lacks the table that it
// had before, or ends in the header of a table that had keys before. Any other
// key may be missing, because an edit may remove it. before is what the file set
// when it was last put in force; nil at the start.
func checkWhole(t, before *tomltable.Table, errs *errorList) {
	switch {
	case before != nil && before.Present && !t.Present:
		errs.add(&ConfigError{Position: Position{File: t.File}, Problem: fmt.Sprintf(
			"had a [%[1]s] table and has none now, as if it is still being written; "+
				"put the table back, or write [%[1]s] with enabled = false to turn the proxy off", keyRoot)})
	case t.LastHeader != "" && before.HasKeyIn(t.LastHeader):
		errs.add(&ConfigError{Position: Position{File: t.File}, Key: t.LastHeader, Problem: fmt.Sprintf(
			"the file ends in the header %s, and the keys that were below it are gone, as if the file is still being written; "+
				"put them back, or remove the header", tomltable.Header(t.LastHeader))})
	}
}

// patterns parses the list of one of the pattern keys. It reports invalid entries,
// and returns in their places zero Patterns, which match nothing.
func (s *sourcedConfig) patterns(key string, errs *errorList) []domain.Pattern {
	list, parse := s.Config.Policy.AllowedDomains, parseAllowed
	switch key {
	case keyDeniedDomains:
		list, parse = s.Config.Policy.DeniedDomains, parseDenied
	case keyMITMDomains:
		list, parse = s.Config.MITMDomains, domain.Parse
	case keyMITMExemptDomains:
		list, parse = s.Config.MITMExemptDomains, domain.Parse
	}
	patterns := make([]domain.Pattern, len(list))
	for i, text := range list {
		p, err := parse(text)
		if err != nil {
			// The text of err repeats the entry, which the error names anyway.
			var problem string
			var perr *domain.Error
			if errors.As(err, &perr) {
				problem = perr.Problem
			}
			errs.add(s.itemError(key, i, text, problem, err))
			continue
		}
		patterns[i] = p
	}
	return patterns
}

// parseAllowed parses an allowlist entry. It rejects a block of all addresses,
// because a block also allows the local addresses in it.
func parseAllowed(text string) (domain.Pattern, error) {
	p, err := domain.Parse(text)
	if err == nil && p.Kind() == domain.CIDR && p.Prefix().Bits() == 0 {
		err = &domain.Error{Text: text, Problem: "this would allow every local address as well: write * for everything public, or the blocks that you mean"}
	}
	return p, err
}

// parseDenied parses a denylist entry. It rejects "*", because everything that
// is not allowed is refused anyway, and denying it hides that nothing is allowed.
func parseDenied(text string) (domain.Pattern, error) {
	p, err := domain.Parse(text)
	if err == nil && p.Kind() == domain.Any {
		err = &domain.Error{Text: text, Problem: "hosts that allowed_domains does not list are refused anyway: remove this entry"}
	}
	return p, err
}

// compileList parses and compiles one list of hosts.
func compileList(src *sourcedConfig, key string, entries []string, errs *errorList) *policy.RuleSet {
	set := ruleSet(src, key, entries)
	set.Set = domain.Compile(src.patterns(key, errs))
	return set
}

// allowedSockets returns allow_unix_sockets, which is compared as text.
func allowedSockets(src *sourcedConfig) *policy.RuleSet {
	return ruleSet(src, keyAllowUnixSockets, src.Config.Policy.AllowUnixSockets)
}

func ruleSet(src *sourcedConfig, key string, entries []string) *policy.RuleSet {
	at := src.itemPositions(key)
	return &policy.RuleSet{
		List:     lastKey(key),
		Entries:  entries,
		Position: func(i int) policy.Position { return policy.Position(at(i)) },
	}
}

// lastKey returns the last part of a dotted key: "network_proxy.mode" gives
// "mode".
func lastKey(key string) string {
	return key[strings.LastIndexByte(key, '.')+1:]
}

// changedAtRestart returns the keys that differ between two configurations and
// that a reload cannot change.
func changedAtRestart(started, next *Config) []string {
	var keys []string
	old := started.fields()
	for i, f := range next.fields() {
		if f.restart && !f.value.Equal(old[i].value) {
			keys = append(keys, f.key)
		}
	}
	return keys
}

// errorList collects the mistakes in a configuration. It keeps the first ones
// and counts the rest, because a file of the wrong kind can have a million. The
// zero value is empty.
type errorList struct {
	list []error
	more int
}

// maxErrors is the number of errors that an errorList keeps.
const maxErrors = 20

// len returns the number of errors that were added.
func (l *errorList) len() int { return len(l.list) + l.more }

// full reports whether the next error is only counted.
func (l *errorList) full() bool { return len(l.list) == maxErrors }

// add adds an error, or each error of a joined one. It ignores nil.
func (l *errorList) add(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			l.add(e)
		}
		return
	}
	switch {
	case err == nil:
	case l.full():
		l.more++
	default:
		l.list = append(l.list, err)
	}
}

// hasBelow reports whether an error is about a value below key.
func (l *errorList) hasBelow(key string) bool {
	return slices.ContainsFunc(l.list, func(err error) bool {
		var e *ConfigError
		return errors.As(err, &e) && strings.HasPrefix(e.Key, key+".")
	})
}

// join joins the errors. It returns nil if there are none.
func (l *errorList) join() error {
	if l.more > 0 {
		return errors.Join(append(slices.Clone(l.list), fmt.Errorf("and %d more", l.more))...)
	}
	return errors.Join(l.list...)
}

// cloneHooks returns a copy that shares no memory with hooks.
func cloneHooks(hooks []MITMHook) []MITMHook {
	hooks = slices.Clone(hooks)
	for i := range hooks {
		h := &hooks[i]
		h.Methods, h.PathPrefixes = slices.Clone(h.Methods), slices.Clone(h.PathPrefixes)
		h.Query, h.Headers = cloneLists(h.Query), cloneLists(h.Headers)
		h.StripRequestHeaders, h.InjectRequestHeaders = slices.Clone(h.StripRequestHeaders), slices.Clone(h.InjectRequestHeaders)
	}
	return hooks
}

func cloneLists(m map[string][]string) map[string][]string {
	m = maps.Clone(m)
	for key, list := range m {
		m[key] = slices.Clone(list)
	}
	return m
}
