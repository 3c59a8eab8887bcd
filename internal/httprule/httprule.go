// Package httprule judges HTTP requests by rules about their method, path, query
// and header, and knows which requests only read. Its functions are pure: they do
// no I/O, except that [Content.Check] reads the body it is given.
//
// A path is judged as the client sent it. A path that servers read in more than
// one way, such as one with dot segments or an encoded slash, is refused where
// rules look at paths. A path is never normalised, because the rules would then
// judge a path other than the one that is sent.
//
// Uncertainty counts against the request: if a request has several methods, parameters
// or field values, an allow rule must match all of them, and a deny rule only one.
package httprule

// This file holds the types that callers exchange with the package.

import "net/http"

// Request is the part of an HTTP request that rules look at. The package does not
// change or keep it.
type Request struct {
	// Method is the method, case-sensitive (RFC 9110 section 9.1).
	Method string
	// Target is the request target as sent, in origin-form (path and query) or
	// asterisk-form (RFC 9112 section 3.2). HTTP/2 sends it as :path.
	Target string
	// Header holds the fields by their canonical names. It includes Connection if
	// the client sent one, so that rules do not rely on fields that are removed.
	Header http.Header
}

// Spec is the text of one rule, as it stands in a configuration. The package does
// not change or keep it.
type Spec struct {
	// Host is a host or host:port. Without a port it means port 443 only.
	Host string
	// Methods are the methods, or "*" for any. Left out if Access is set.
	Methods []string
	// PathPrefixes are path patterns: a literal prefix, one that begins with
	// "literal:", a glob of the whole path that begins with "pattern:", or "*" for
	// the asterisk-form. nil means every path, and is for rules with Access only.
	PathPrefixes []string
	// Query holds, for the name of each parameter that must occur, the values it
	// may have: literal, "literal:" or "pattern:".
	Query map[string][]string
	// Headers is the same for header fields.
	Headers map[string][]string
	// QueryOnly allows no parameters but those in Query.
	QueryOnly bool
	// AllowEncodedSlash lets the rule match paths with %2F, which stands for a
	// character inside a segment.
	AllowEncodedSlash bool
	// Access is empty or a preset in place of Methods: "read-only", "git-fetch" or
	// "git-push".
	Access string
	// Deny makes the rule refuse what it matches, whatever other rules allow.
	Deny bool
}

// Problem is a mistake in a [Spec]. Its text names the value and the fix, and is
// safe to show.
type Problem struct {
	// Key is the key of the configuration: "host", "methods", "path_prefixes",
	// "query", "headers", "query_only", "allow_encoded_slash" or "access".
	Key string
	// Index is the position in the list at Key, or in the list of Name; -1 if the
	// problem is not about one element.
	Index int
	// Name is the parameter or field in query or headers, or empty.
	Name string
	// Text describes the mistake.
	Text string
}

// Result is the judgement of the rules for a host about a request. The zero value
// is not a judgement.
type Result struct {
	// Allowed reports whether an allow rule matches and no deny rule does. If
	// Content is not ContentAny, the body must pass Content.Check as well.
	Allowed bool
	// Rule is the index, in the slice given to NewSet, of the deny rule that
	// refuses or the allow rule that allows; -1 if no rule matches.
	Rule int
	// Problem is not empty if the path has two readings, and completes the sentence
	// "the path is refused, because ...". No rule is applied then.
	Problem string
	// Content is what the body of an allowed request must be.
	Content Content
}
