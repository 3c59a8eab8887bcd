package httprule

// This file holds Rule, and judges requests by the rules for a host.

import (
	"slices"
	"strings"

	"example.com/networkproxy/internal/hostname"
)

// Rule is a compiled [Spec]. Rules are immutable and safe for concurrent use.
type Rule struct {
	target       hostname.Target
	text         string
	methods      []string
	anyMethod    bool
	paths        []pathPattern // of a deny rule: for the encoding decoded
	asterisk     bool          // matches the asterisk-form
	query        []condition
	headers      []condition
	queryOnly    bool
	encodedSlash bool
	access       access
	deny         bool
}

// String returns the rule as refusals show it, such as "GET,POST
// api.github.com/repos/": one line of ASCII of at most 200 bytes.
func (r *Rule) String() string { return r.text }

// Target returns the host and port that the rule is for.
func (r *Rule) Target() hostname.Target { return r.target }

// Deny reports whether the rule refuses what it matches.
func (r *Rule) Deny() bool { return r.deny }

// everyPath reports whether the rule has no patterns of paths.
func (r *Rule) everyPath() bool { return len(r.paths) == 0 && !r.asterisk }

// looksAtPaths reports whether it depends on the path that the rule matches.
func (r *Rule) looksAtPaths() bool { return !r.everyPath() || r.access.looksAtPaths() }

// Set holds rules by their host and port. It is immutable and safe for concurrent
// use. A nil Set has no rules.
type Set struct {
	hosts map[hostname.Target]*HostRules
}

// NewSet returns the set of rules. Their order does not matter, except for which
// of several that match is named. It returns nil if there are none.
func NewSet(rules []*Rule) *Set {
	if len(rules) == 0 {
		return nil
	}
	s := &Set{hosts: make(map[hostname.Target]*HostRules)}
	for i, r := range rules {
		h := s.hosts[r.target]
		if h == nil {
			h = new(HostRules)
			s.hosts[r.target] = h
		}
		h.add(r, i)
	}
	return s
}

// For returns the rules for a host and port, or nil if no rule is for them. It
// does not allocate.
func (s *Set) For(t hostname.Target) *HostRules {
	if s == nil {
		return nil
	}
	return s.hosts[t]
}

// HostRules are the rules for one host and port. They are immutable and safe for
// concurrent use.
type HostRules struct {
	denies, allows []indexed
	looksAtPaths   bool
	encodedSlash   bool // some allow rule matches paths with encoded slashes
}

// First returns the index, in the slice given to NewSet, of the first rule.
func (h *HostRules) First() int {
	first := -1
	for _, r := range slices.Concat(h.denies, h.allows) {
		if first < 0 || r.index < first {
			first = r.index
		}
	}
	return first
}

type indexed struct {
	*Rule
	index int // in the slice given to NewSet
}

func (h *HostRules) add(r *Rule, index int) {
	if r.deny {
		h.denies = append(h.denies, indexed{r, index})
	} else {
		h.allows = append(h.allows, indexed{r, index})
	}
	h.looksAtPaths = h.looksAtPaths || r.looksAtPaths()
	h.encodedSlash = h.encodedSlash || r.encodedSlash
}

const problemEncodedSlash = "it has an encoded slash (%2F), which needs a rule with allow_encoded_slash"

// Judge applies the rules to a request for their host: it is allowed if some allow
// rule matches and no deny rule does. Judge does not allocate.
func (h *HostRules) Judge(q *Request) Result {
	path, query, _ := strings.Cut(q.Target, "?")
	var encodedSlash bool
	if h.looksAtPaths {
		var problem string
		if problem, encodedSlash = targetProblem(path, query, q.Method); problem != "" {
			return Result{Rule: -1, Problem: problem}
		}
		if encodedSlash && !h.encodedSlash {
			return Result{Rule: -1, Problem: problemEncodedSlash}
		}
	}
	for _, r := range h.denies {
		if r.denies(q, path, query) {
			return Result{Rule: r.index}
		}
	}
	result := Result{Rule: -1}
	if encodedSlash {
		result.Problem = problemEncodedSlash
	}
	for _, r := range h.allows {
		content, ok := r.allows(q, path, query, encodedSlash)
		if !ok || result.Allowed && content != ContentAny {
			continue
		}
		result = Result{Allowed: true, Rule: r.index, Content: content}
		if content == ContentAny {
			break // no rule allows more
		}
	}
	return result
}

// Allowing calls visit with the number of each rule that allows a request, in their order.
// Judge must have allowed it, and content is what its body must be.
func (h *HostRules) Allowing(q *Request, content Content, visit func(rule int)) {
	if h == nil {
		return
	}
	path, query, _ := strings.Cut(q.Target, "?")
	var encodedSlash bool
	if h.looksAtPaths {
		_, encodedSlash = targetProblem(path, query, q.Method)
	}
	for _, r := range h.allows {
		if c, ok := r.allows(q, path, query, encodedSlash); ok && (c == ContentAny || c == content) {
			visit(r.index)
		}
	}
}

// targetProblem is pathProblem for a request target, which may be in
// asterisk-form.
func targetProblem(path, query, method string) (problem string, encodedSlash bool) {
	for i := range len(query) {
		if c := query[i]; c <= ' ' || c == 0x7f || c == '#' {
			return "its query has a blank, a control character or a number sign", false
		}
	}
	if path != "*" {
		return pathProblem(path)
	}
	if method != "OPTIONS" {
		return "it is an asterisk, which is for OPTIONS only", false
	}
	return "", false
}

// denies reports whether a deny rule matches the request in any reading.
func (r *Rule) denies(q *Request, path, query string) bool {
	return r.deniesMethods(q) && r.deniesPath(path) && r.deniesQuery(query) && r.deniesHeader(q.Header)
}

// deniesPath compares escapes decoded, because servers decode them, and reads
// encoded slashes both as characters and as separators.
func (r *Rule) deniesPath(path string) bool {
	if path == "*" {
		return r.asterisk
	}
	for _, p := range r.paths {
		if p.match(path, decoded, false) || p.match(path, decoded, true) {
			return true
		}
	}
	return false
}

// allows reports whether an allow rule matches the request in every reading, and
// what its body must be.
func (r *Rule) allows(q *Request, path, query string, encodedSlash bool) (Content, bool) {
	if !r.allowsPath(path, encodedSlash) || !r.allowsQuery(query) || !r.allowsHeader(q.Header) {
		return ContentAny, false
	}
	if r.access != accessNone {
		return r.access.allows(q)
	}
	return ContentAny, r.allowsMethods(q)
}

func (r *Rule) allowsPath(path string, encodedSlash bool) bool {
	switch {
	case encodedSlash && !r.encodedSlash && r.looksAtPaths():
		return false
	case r.everyPath():
		return true // access looks at the path, if anything does
	case path == "*":
		return r.asterisk
	}
	for _, p := range r.paths {
		if p.match(path, inPath, false) {
			return true
		}
	}
	return false
}
