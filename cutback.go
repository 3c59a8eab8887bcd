// Cutting a configuration back to managed limits that were tightened while the
// proxy runs.

package networkproxy

import (
	"fmt"
	"slices"
	"strings"

	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/tomltable"
)

// forbidsSOCKS and forbidsUDP report whether the limits turn SOCKS5 off. A
// reload cannot open or close its listener, so that its requests are refused.
func (r *requirements) forbidsSOCKS() bool {
	return r != nil && r.limits.has(keyEnableSOCKS5) && !r.limits.Config.EnableSOCKS5
}

func (r *requirements) forbidsUDP() bool {
	return r != nil && r.limits.has(keyEnableSOCKS5UDP) && !r.limits.Config.EnableSOCKS5UDP
}

// within returns l under the limits r: itself where it exceeds none, or else a
// copy in which what exceeds them is cut back. l is not changed.
func (l *loadedConfig) within(r *requirements) *loadedConfig {
	under := *l
	under.limits = r
	excess := r.check(l.sourcedConfig)
	if excess == nil {
		return &under
	}
	under.sourcedConfig = &sourcedConfig{Config: l.Config.clone(), warnings: l.warnings, places: l.places.Clone()}
	r.cut(under.sourcedConfig)
	var errs errorList // the patterns have been parsed before
	under.allow = compileList(under.sourcedConfig, keyAllowedDomains, under.Config.Policy.AllowedDomains, &errs)
	under.deny = compileList(under.sourcedConfig, keyDeniedDomains, under.Config.Policy.DeniedDomains, &errs)
	under.sockets = allowedSockets(under.sourcedConfig)
	under.cutBack = nil
	for _, line := range strings.Split(excess.Error(), "\n") {
		under.cutBack = append(under.cutBack, "cut back to the managed limits; the next start fails until the configuration obeys them: "+line)
	}
	return &under
}

// cut lowers every value of s that exceeds a limit, and adds the denied
// domains that the limits require. A value that was cut has its place in the
// file of the limits.
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

// require adds the denied domains of the limits that s does not cover.
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

// bounded drops a mode and rules set at run time that the limits forbid.
// notes says which, for the log.
func (h *Handle) bounded(limits *requirements) (notes []string) {
	if h.mode.mode != "" {
		if err := limits.checkMode(h.mode.mode); err != nil {
			h.mode = runtimeMode{}
			notes = append(notes, fmt.Sprintf("the mode set at run time is outside the managed limits and is dropped: %v", err))
		}
	}
	h.rules = h.rules.within(limits, func(entry string, err error) {
		notes = append(notes, fmt.Sprintf("the run-time rule %s is outside the managed limits and is dropped: %v", tomltable.Quote(entry), err))
	})
	return notes
}
