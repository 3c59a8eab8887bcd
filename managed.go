// Managed limits: what the requirements file of an administrator lets any other
// configuration say.

package networkproxy

import (
	"fmt"
	"slices"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// requirements are the managed limits of one file. Its [network_proxy] table
// has the keys of a configuration, but each of them limits the value of that key
// in every configuration, wherever that is set: in files, in Go, by a reload or
// at run time. A missing key limits nothing.
//
//	enabled             must be equal. It is a state and no permission: false
//	                    ends the enforcement, so true cannot allow both.
//	admin_read_only     true forbids false; false allows both
//	mode                "limited" forbids "full"; "full" allows both
//	sni_check           "enforce" forbids "off"; "off" allows both
//	enable_socks5, enable_socks5_udp, allow_upstream_proxy,
//	dangerously_allow_non_loopback_proxy, dangerously_allow_non_loopback_admin,
//	allow_local_binding, ask_local, credential_broker,
//	dangerously_allow_plaintext_credential_injection
//	                    false forbids true; true allows both
//	allowed_domains     each allowed pattern must be within one of these; []
//	                    forbids every entry
//	denied_domains      each of these must be within one denied pattern
//	allow_unix_sockets  each allowed path must be one of these; [] forbids all
//	mitm                false forbids true; true allows both
//	mitm_domains        each of these must be within one pattern of mitm_domains
//	mitm_exempt_domains each exempt pattern must be within one of these; [] forbids
//	                    every entry
//	mitm_hooks          each of these rules must be there
//
// Patterns are compared by meaning: *.a.com contains x.a.com:443 and *.b.a.com,
// but not a.com. One entry has to contain the whole pattern; several do not add up.
// Only an entry without a wildcard allows a local host, so only such an entry of
// the limit contains one: "*" does not contain localhost, 10.0.0.7 or a block of
// addresses.
//
// The addresses of listeners cannot be limited, except to loopback. A URL in the
// file is an error, because nothing would enforce it. For the same reason a file
// without a [network_proxy] table is an error.
//
// A nil *requirements limits nothing. It does not change once it is loaded, and
// may be used concurrently.
type requirements struct {
	limits  *sourcedConfig // the limits, as far as they are set
	allowed *policy.Bounds // of allowed_domains; nil if that is not set
	text    []byte         // of the file
}

// parseRequirements parses the managed limits in data, the content of file. It
// reports every mistake, each as a [*ConfigError]. before is what the file set
// when it was last put in force; nil at the start.
func parseRequirements(file string, data []byte, before *tomltable.Table) (*requirements, *tomltable.Table, error) {
	var errs errorList
	s := newSourcedConfig()
	t := s.read(file, data, &errs)
	if errs.len() == 0 {
		checkWhole(t, before, &errs)
	}
	if !t.Present && errs.len() == 0 {
		errs.add(&ConfigError{
			Position: Position{File: file},
			Problem:  fmt.Sprintf("no [%s] table: these requirements limit nothing; add the table, or do not name the file", keyRoot),
		})
	}
	for _, key := range []string{keyMITMCACert, keyMITMCAKey, keyProviders} {
		if s.has(key) {
			errs.add(&ConfigError{Position: s.position(key), Key: key, Problem: "cannot be limited: remove it"})
		}
	}
	for _, key := range []string{keyProxyURL, keyAdminURL, keySOCKSURL} {
		if s.has(key) {
			errs.add(&ConfigError{Position: s.position(key), Key: key, Value: s.addr(key),
				Problem: "an address cannot be limited: remove it, and use " + kindOf(key).exposeKey() + " = false"})
		}
	}
	if !s.has(keyMITM) {
		s.Config.MITM = true // so that checkValues accepts rules; a missing key limits nothing
	}
	s.checkValues(&errs)
	for _, key := range []string{keyMITMDomains, keyMITMExemptDomains} {
		s.patterns(key, &errs)
	}

	r := &requirements{limits: s, text: data}
	if allowed := s.patterns(keyAllowedDomains, &errs); s.has(keyAllowedDomains) {
		r.allowed = policy.NewBounds(allowed)
	}
	s.patterns(keyDeniedDomains, &errs)
	if err := errs.join(); err != nil {
		return nil, t, err
	}
	return r, t, nil
}

// check reports every value of s that exceeds its limit.
func (r *requirements) check(s *sourcedConfig) error {
	if r == nil {
		return nil
	}
	var errs errorList
	limits := r.limits.Config.fields()
	for i, f := range s.Config.fields() {
		if !r.limits.has(f.key) {
			continue
		}
		switch f.key {
		case keyAllowedDomains:
			r.checkAllowedDomains(s, &errs)
		case keyDeniedDomains:
			r.checkRequired(s, f.key, &errs)
		case keyAllowUnixSockets:
			r.checkUnixSockets(s, &errs)
		case keyMITMDomains:
			r.checkRequired(s, f.key, &errs)
		case keyMITMExemptDomains:
			r.checkWithin(s, f.key, s.Config.MITMExemptDomains, &errs)
		case keyMITMHooks:
			r.checkHooks(s, &errs)
		default:
			if limit := limits[i].value; exceeds(f, limit) {
				errs.add(s.limitError(f.key, f.value.Text(), r.limit(f.key, "must be "+showValue(limit.Text()))))
			}
		}
	}
	return errs.join()
}

// exceeds reports whether a boolean or a string exceeds its limit. A limit with
// the strictest value forbids all others; a limit with another value forbids
// none.
func exceeds(f field, limit tomltable.Value) bool {
	strictest := "false"
	switch f.key {
	case keyEnabled:
		strictest = limit.Text() // each value forbids the other
	case keyAdminReadOnly:
		strictest = "true"
	case keyMode:
		strictest = string(ModeLimited)
	case keySNICheck:
		strictest = string(SNIEnforce)
	}
	return limit.Text() == strictest && !f.value.Equal(limit)
}

// checkMode returns an error if a mode set at run time exceeds its limit.
func (r *requirements) checkMode(m Mode) error {
	if limit := r.modeLimit(m); limit != nil {
		return &ConfigError{Key: keyMode, Value: string(m), Err: limit}
	}
	return nil
}

// checkAllowed returns an error if a pattern allowed at run time exceeds the
// limit.
func (r *requirements) checkAllowed(p domain.Pattern) error {
	if limit := r.allowedLimit(p); limit != nil {
		return &ConfigError{Key: keyAllowedDomains, Value: p.String(), Err: limit}
	}
	return nil
}

func (r *requirements) modeLimit(m Mode) *LimitError {
	if r == nil || !r.limits.has(keyMode) || r.limits.Config.Mode == ModeFull || m == ModeLimited {
		return nil
	}
	return r.limit(keyMode, fmt.Sprintf("must be %q", ModeLimited))
}

func (r *requirements) allowedLimit(p domain.Pattern) *LimitError {
	if r.bounds().Contain(p) {
		return nil
	}
	return r.limit(keyAllowedDomains, "must be within an entry of the allowed_domains there")
}

// bounds returns the limits of what may be allowed, nil if there are none.
func (r *requirements) bounds() *policy.Bounds {
	if r == nil {
		return nil
	}
	return r.allowed
}

func (r *requirements) checkAllowedDomains(s *sourcedConfig, errs *errorList) {
	for i, p := range s.patterns(keyAllowedDomains, errs) {
		if limit := r.allowedLimit(p); limit != nil {
			errs.add(s.itemLimitError(keyAllowedDomains, i, s.Config.Policy.AllowedDomains[i], limit))
		}
	}
}

// checkRequired reports the patterns of a list of the limits that no pattern of the same
// list of s covers.
func (r *requirements) checkRequired(s *sourcedConfig, key string, errs *errorList) {
	var present domain.Index
	for _, p := range s.patterns(key, errs) {
		present.Add(p)
	}
	for i, p := range r.limits.patterns(key, errs) {
		if !present.Covers(p) {
			errs.add(s.limitError(key, "", &LimitError{
				Limit:    "must contain " + tomltable.Quote(p.String()),
				Position: r.limits.itemPosition(key, i),
			}))
		}
	}
}

func (r *requirements) checkUnixSockets(s *sourcedConfig, errs *errorList) {
	for i, path := range s.Config.Policy.AllowUnixSockets {
		if !slices.Contains(r.limits.Config.Policy.AllowUnixSockets, path) {
			errs.add(s.itemLimitError(keyAllowUnixSockets, i, path, r.limit(keyAllowUnixSockets, "must be in the allow_unix_sockets there")))
		}
	}
}

// limit returns the LimitError about a key.
func (r *requirements) limit(key, text string) *LimitError {
	return &LimitError{Limit: text, Position: r.limits.position(key)}
}

// limitError returns the error about a value that exceeds a limit. If the value is
// in no file, the error says where it was set instead.
func (s *sourcedConfig) limitError(key, value string, limit *LimitError) *ConfigError {
	return s.withSource(key, &ConfigError{Position: s.position(key), Key: key, Value: value, Err: limit})
}

// itemLimitError is like exceeds, for element i of an array.
func (s *sourcedConfig) itemLimitError(key string, i int, value string, limit *LimitError) *ConfigError {
	return s.withSource(key, s.itemError(key, i, value, "", limit))
}

func (s *sourcedConfig) withSource(key string, e *ConfigError) *ConfigError {
	if e.Position == (Position{}) {
		e.Problem = fmt.Sprintf("%v; source of the value: %s", e.Err, s.describe(key))
	}
	return e
}

// forbidsSOCKS and forbidsUDP report whether the limits turn SOCKS5 off. The
// policy then refuses its requests, because a reload cannot close the listener.
func (r *requirements) forbidsSOCKS() bool {
	return r != nil && r.limits.has(keyEnableSOCKS5) && !r.limits.Config.EnableSOCKS5
}

func (r *requirements) forbidsUDP() bool {
	return r != nil && r.limits.has(keyEnableSOCKS5UDP) && !r.limits.Config.EnableSOCKS5UDP
}

// cut replaces every value of s that exceeds its limit with the limit, and adds the
// denied domains that the limits require. The position of such a value is that
// of the limit.
func (r *requirements) cut(s *sourcedConfig) {
	limits := r.limits.Config.fields()
	for i, f := range s.Config.fields() {
		if !r.limits.has(f.key) {
			continue
		}
		switch f.key {
		case keyAllowedDomains:
			var errs errorList
			patterns := s.patterns(f.key, &errs)
			s.retain(f.key, &s.Config.Policy.AllowedDomains, func(i int) bool { return r.allowedLimit(patterns[i]) == nil })
		case keyDeniedDomains:
			r.require(s, f.key, &s.Config.Policy.DeniedDomains)
		case keyMITMDomains:
			r.require(s, f.key, &s.Config.MITMDomains)
		case keyMITMExemptDomains:
			var errs errorList
			patterns, bounds := s.patterns(f.key, &errs), r.boundsOf(f.key)
			s.retain(f.key, &s.Config.MITMExemptDomains, func(i int) bool { return bounds.Contain(patterns[i]) })
		case keyMITMHooks:
			r.requireHooks(s)
		case keyAllowUnixSockets:
			sockets := &s.Config.Policy.AllowUnixSockets
			s.retain(f.key, sockets, func(i int) bool { return slices.Contains(r.limits.Config.Policy.AllowUnixSockets, (*sockets)[i]) })
		default:
			if limit := limits[i].value; exceeds(f, limit) {
				f.value.Copy(limit)
				s.places.CopyFrom(&r.limits.places, f.key)
				if f.key == keyMITM { // hosts with rules must still be seen, and are refused
					s.retain(keyMITMDomains, &s.Config.MITMDomains, func(int) bool { return false })
				}
			}
		}
	}
}

// retain drops the elements of an array for which keep reports false.
func (s *sourcedConfig) retain(key string, list *[]string, keep func(i int) bool) {
	kept, indexes := []string{}, []int(nil)
	for i, entry := range *list {
		if keep(i) {
			kept, indexes = append(kept, entry), append(indexes, i)
		}
	}
	*list = kept
	s.places.Select(key, indexes)
}

// require adds the patterns of a list of the limits that no pattern of list covers. key
// is the key of both.
func (r *requirements) require(s *sourcedConfig, key string, list *[]string) {
	var errs errorList
	var present domain.Index
	for _, p := range s.patterns(key, &errs) {
		present.Add(p)
	}
	n, added := len(*list), []tomltable.Position(nil)
	for i, required := range r.limits.patterns(key, &errs) {
		if !present.Covers(required) {
			*list = append(*list, required.String())
			added = append(added, r.limits.places.ItemPosition(key, i))
		}
	}
	s.places.Extend(key, n, added)
}

// checkHooks reports rules of the limits that s does not have.
func (r *requirements) checkHooks(s *sourcedConfig, errs *errorList) {
	for _, i := range r.missingHooks(s) {
		rule, _ := httprule.Parse(r.limits.Config.MITMHooks[i].spec()) // the limits were checked
		errs.add(s.limitError(keyMITMHooks, "", &LimitError{
			Limit: "must contain the rule " + tomltable.Quote(rule.String()), Position: r.limits.itemPosition(keyMITMHooks, i),
		}))
	}
}

// requireHooks adds the rules of the limits that s does not have.
func (r *requirements) requireHooks(s *sourcedConfig) {
	n, added := len(s.Config.MITMHooks), []tomltable.Position(nil)
	for _, i := range r.missingHooks(s) {
		s.Config.MITMHooks = append(s.Config.MITMHooks, r.limits.Config.MITMHooks[i])
		added = append(added, r.limits.places.ItemPosition(keyMITMHooks, i))
	}
	s.places.Extend(keyMITMHooks, n, added)
}

// missingHooks returns the indexes of the rules of the limits that s does not have.
func (r *requirements) missingHooks(s *sourcedConfig) []int {
	present := make(map[string]bool)
	for i := range s.Config.MITMHooks {
		present[s.Config.MITMHooks[i].meaning()] = true
	}
	var missing []int
	for i := range r.limits.Config.MITMHooks {
		if !present[r.limits.Config.MITMHooks[i].meaning()] {
			missing = append(missing, i)
		}
	}
	return missing
}

// checkWithin reports the elements of a list of patterns that are not within an entry of
// the same list of the limits.
func (r *requirements) checkWithin(s *sourcedConfig, key string, list []string, errs *errorList) {
	bounds := r.boundsOf(key)
	for i, p := range s.patterns(key, errs) {
		if !bounds.Contain(p) {
			errs.add(s.itemLimitError(key, i, list[i], r.limit(key, "must be within an entry of the "+lastKey(key)+" there")))
		}
	}
}

// boundsOf returns a list of patterns of the limits as bounds.
func (r *requirements) boundsOf(key string) *policy.Bounds {
	var errs errorList // stays empty: the limits were checked
	return policy.NewBounds(r.limits.patterns(key, &errs))
}
