// From a configuration to a policy: load, check against the managed limits,
// compile the lists.

package networkproxy

import (
	"context"

	"example.com/networkproxy/internal/domain"
)

// loaded is a configuration that has passed every check, with its lists
// compiled. It does not change.
type loaded struct {
	*sourced
	limits      *requirements
	allow, deny *ruleSet
	sockets     socketList
	stamps      []fileStamp // of the watched files, before they were read
}

// loadConfig reads the configuration afresh, from wherever the builder said,
// and reports everything that is wrong with it.
func (s *settings) loadConfig(ctx context.Context) (*loaded, error) {
	stamps := stampFiles(s.watched())
	src, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	if s.adminReadOnly && !src.Config.AdminReadOnly { // src may be an earlier one
		src.Config.AdminReadOnly = true
		src.override(keyAdminReadOnly)
	}
	l := &loaded{sourced: src, stamps: stamps}
	var errs errorList
	errs.add(src.validate())
	l.allow = compileList(src, keyAllowedDomains, src.Config.Policy.AllowedDomains, &errs)
	l.deny = compileList(src, keyDeniedDomains, src.Config.Policy.DeniedDomains, &errs)
	l.sockets = socketList{
		entries: src.Config.Policy.AllowUnixSockets,
		origin:  src.itemOrigins(keyAllowUnixSockets),
	}
	errs.add(src.checkListeners(s.overrides(), s.handedIn()...))
	errs.add(s.checkUpstreams(src))
	if err := errs.join(); err != nil {
		return nil, err
	}
	if s.requirements == "" {
		return l, nil
	}
	if l.limits, err = loadRequirements(s.requirements); err != nil {
		return nil, err
	}
	return l, l.limits.check(src)
}

// overrides are the addresses that the builder sets, by key.
func (s *settings) overrides() map[string]string {
	return map[string]string{keyProxyURL: s.httpAddr, keyAdminURL: s.adminAddr, keySOCKSURL: s.socksAddr}
}

// handedIn are the keys of the listeners that the host opened itself.
func (s *settings) handedIn() (keys []string) {
	if s.httpListener != nil {
		keys = append(keys, keyProxyURL)
	}
	if s.adminListener != nil {
		keys = append(keys, keyAdminURL)
	}
	if s.socksListener != nil {
		keys = append(keys, keySOCKSURL)
	}
	return keys
}

// compileList parses and compiles one list.
func compileList(src *sourced, key string, entries []string, errs *errorList) *ruleSet {
	return &ruleSet{
		key:     key,
		list:    lastKey(key),
		set:     domain.Compile(src.patterns(key, errs)),
		entries: entries,
		origin:  src.itemOrigins(key),
	}
}

// compile is the policy of a configuration, with what was changed at run time
// laid over it.
func (l *loaded) compile(generation uint64, mode Mode, rules runtimeRules, own *ownListeners) *policy {
	return &policy{
		generation: generation,
		enabled:    l.Config.Enabled,
		mode:       mode,
		checkSNI:   l.Config.SNICheck == SNIEnforce,
		allowLocal: l.Config.Policy.AllowLocalBinding,
		allow:      rules.allow.over(l.allow),
		deny:       rules.deny.over(l.deny),
		own:        own,
		limits:     l.limits,
		upstream:   l.Config.AllowUpstreamProxy,
		sockets:    l.sockets,
	}
}
