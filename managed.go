// Managed limits: what the requirements file of an administrator lets any other
// configuration say.

package networkproxy

import (
	"fmt"
	"slices"

	"example.com/networkproxy/internal/domain"
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
//	allow_local_binding
//	                    false forbids true; true allows both
//	allowed_domains     each allowed pattern must be within one of these; []
//	                    forbids every entry
//	denied_domains      each of these must be within one denied pattern
//	allow_unix_sockets  each allowed path must be one of these; [] forbids all
//
// Patterns are compared by meaning: *.a.com contains x.a.com:443 and *.b.a.com,
// but not a.com. A single entry has to contain the other; several do not add up.
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
	denied  []domain.Pattern
	text    []byte // of the file
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
	for _, key := range []string{keyProxyURL, keyAdminURL, keySOCKSURL} {
		if s.has(key) {
			errs.add(&ConfigError{Position: s.position(key), Key: key, Value: s.addr(key),
				Problem: "an address cannot be limited: remove it, and use " + kindOf(key).exposeKey() + " = false"})
		}
	}
	s.checkValues(&errs)

	r := &requirements{limits: s, text: data}
	if allowed := s.patterns(keyAllowedDomains, &errs); s.has(keyAllowedDomains) {
		r.allowed = policy.NewBounds(allowed)
	}
	r.denied = s.patterns(keyDeniedDomains, &errs)
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
			r.checkDeniedDomains(s, &errs)
		case keyAllowUnixSockets:
			r.checkUnixSockets(s, &errs)
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

func (r *requirements) checkDeniedDomains(s *sourcedConfig, errs *errorList) {
	var denied domain.Index
	for _, p := range s.patterns(keyDeniedDomains, errs) {
		denied.Add(p)
	}
	for i, p := range r.denied {
		if !denied.Covers(p) {
			errs.add(s.limitError(keyDeniedDomains, "", &LimitError{
				Limit:    "must contain " + tomltable.Quote(p.String()),
				Position: r.limits.itemPosition(keyDeniedDomains, i),
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

// cut replaces every value of s that exceeds its limit by the limit, and adds the
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
			r.require(s)
		case keyAllowUnixSockets:
			sockets := &s.Config.Policy.AllowUnixSockets
			s.retain(f.key, sockets, func(i int) bool { return slices.Contains(r.limits.Config.Policy.AllowUnixSockets, (*sockets)[i]) })
		default:
			if limit := limits[i].value; exceeds(f, limit) {
				f.value.Copy(limit)
				s.places.CopyFrom(&r.limits.places, f.key)
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

// require adds the denied domains of the limits that s does not deny.
func (r *requirements) require(s *sourcedConfig) {
	var errs errorList
	var denied domain.Index
	for _, p := range s.patterns(keyDeniedDomains, &errs) {
		denied.Add(p)
	}
	list := &s.Config.Policy.DeniedDomains
	n, added := len(*list), []tomltable.Position(nil)
	for i, required := range r.denied {
		if !denied.Covers(required) {
			*list = append(*list, r.limits.Config.Policy.DeniedDomains[i])
			added = append(added, r.limits.places.ItemPosition(keyDeniedDomains, i))
		}
	}
	s.places.Extend(keyDeniedDomains, n, added)
}
