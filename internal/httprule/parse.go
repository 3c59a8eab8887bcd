package httprule

// This file compiles a Spec to a Rule and reports its mistakes.

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/typo"
)

// DefaultPort is the port of a rule whose host has none.
const DefaultPort = 443

// maxMethod limits the length of a method in bytes, as the HTTP server does.
const maxMethod = 64

// parser compiles one Spec and collects its problems.
type parser struct {
	spec     *Spec
	rule     *Rule
	problems []Problem
}

func (p *parser) report(key string, index int, name, format string, args ...any) {
	p.problems = append(p.problems, Problem{Key: key, Index: index, Name: name, Text: fmt.Sprintf(format, args...)})
}

// Parse compiles s. It reports every problem, in the order of the fields of Spec,
// and returns a Rule only if there is none.
func Parse(s *Spec) (*Rule, []Problem) {
	p := parser{spec: s, rule: &Rule{deny: s.Deny, queryOnly: s.QueryOnly, encodedSlash: s.AllowEncodedSlash}}
	p.host()
	p.methods()
	p.paths()
	p.query()
	p.headers()
	p.flags()
	p.access()
	if len(p.problems) > 0 {
		return nil, p.problems
	}
	p.rule.text = describe(s, p.rule)
	return p.rule, nil
}

func (p *parser) host() {
	switch target, err := hostname.ParseTargetDefault(p.spec.Host, DefaultPort); {
	case p.spec.Host == "":
		p.report("host", -1, "", "the host is missing; give a host, such as api.github.com, or host:port")
	case strings.Contains(p.spec.Host, "*"):
		p.report("host", -1, "", "the host %s has a wildcard; a rule is for one host, so write one rule for each", hostname.Quote(p.spec.Host))
	case isBlock(p.spec.Host):
		p.report("host", -1, "", "the host %s is a block of addresses; a rule is for one host, so write one rule for each", hostname.Quote(p.spec.Host))
	case strings.Contains(p.spec.Host, "/"):
		p.report("host", -1, "", "the host %s %s", hostname.Quote(p.spec.Host), urlProblem(p.spec.Host))
	case err != nil:
		p.report("host", -1, "", "%v", err)
	default:
		p.rule.target = target.Clone()
	}
}

// isBlock reports whether text is a block of addresses, such as 10.0.0.0/8.
func isBlock(text string) bool {
	_, err := netip.ParsePrefix(text)
	return err == nil
}

// urlProblem completes the sentence about a host that is a URL, or is followed by a
// path.
func urlProblem(text string) string {
	problem, port := "has a path", uint16(DefaultPort)
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL {
		rest = text
	} else if problem = "is a URL"; scheme == "http" {
		port = 80
	}
	host, _, _ := strings.Cut(rest, "/")
	target, err := hostname.ParseTargetDefault(host, port)
	if err != nil {
		return problem + "; write the host alone, or host:port, and the path in path_prefixes"
	}
	return fmt.Sprintf("%s; write %q, and the path in path_prefixes", problem, withoutDefaultPort(target))
}

// withoutDefaultPort returns a target as the host of a rule.
func withoutDefaultPort(t hostname.Target) string {
	return strings.TrimSuffix(t.String(), fmt.Sprintf(":%d", DefaultPort))
}

// knownMethods are the methods that are suggested for others in their spelling.
var knownMethods = []string{"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}

func (p *parser) methods() {
	methods := p.spec.Methods
	switch {
	case p.spec.Access != "" && methods != nil:
		p.report("methods", -1, "", "methods and access exclude each other, because access chooses the methods; remove one of them")
		return
	case p.spec.Access == "" && len(methods) == 0:
		p.report("methods", -1, "", `methods is missing or empty; list the methods, such as ["GET", "HEAD"], or ["*"] for any`)
		return
	}
	for i, method := range methods {
		upper := strings.ToUpper(method)
		switch {
		case method == "*":
			p.rule.anyMethod = true
		case !isToken(method) || len(method) > maxMethod:
			p.report("methods", i, "", `%s is not a method; write one such as "GET", or "*" for any`, hostname.Quote(method))
		case method != upper && slices.Contains(knownMethods, upper):
			p.report("methods", i, "", "%s is not the method %s, because methods are case-sensitive; write %q", hostname.Quote(method), upper, upper)
		default:
			p.rule.methods = append(p.rule.methods, strings.Clone(method))
		}
	}
}

func (p *parser) paths() {
	paths := p.spec.PathPrefixes
	switch {
	case paths != nil && len(paths) == 0:
		p.report("path_prefixes", -1, "", `path_prefixes is empty, so that the rule would match nothing; list the paths, or ["/"] for all`)
	case paths == nil && p.spec.Access == "":
		p.report("path_prefixes", -1, "", `path_prefixes is missing; list the paths, such as ["/v1/"], or ["/"] for all`)
	}
	for i, text := range paths {
		if text == "*" {
			p.rule.asterisk = true
			continue
		}
		pattern, encodedSlash, problem := parsePath(text)
		switch {
		case problem != "":
			p.report("path_prefixes", i, "", "%s %s", hostname.Quote(text), problem)
			continue
		case encodedSlash && !p.spec.AllowEncodedSlash && !p.spec.Deny:
			p.report("path_prefixes", i, "", "%s has an encoded slash and would match nothing, because such paths are refused; set allow_encoded_slash = true", hostname.Quote(text))
		}
		if p.spec.Deny {
			pattern.decode()
		}
		p.rule.paths = append(p.rule.paths, pattern)
	}
}

func (p *parser) query() {
	for _, name := range slices.Sorted(maps.Keys(p.spec.Query)) {
		if name == "" {
			p.report("query", -1, name, "a parameter has no name; write query = { name = [\"value\"] }")
			continue
		}
		p.rule.query = append(p.rule.query, p.condition("query", name, p.spec.Query[name]))
	}
}

// goneFields are fields that a condition cannot be about, because they frame or
// route the message, or hold for one connection only (RFC 9110 section 7.6.1).
var goneFields = []string{
	"host", "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer",
	"transfer-encoding", "upgrade", "expect", "proxy-authorization", "http2-settings",
}

func (p *parser) headers() {
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(p.spec.Headers)) {
		folded := foldName(name)
		switch other, duplicate := seen[folded]; {
		case !isToken(name):
			p.report("headers", -1, name, "%s is not the name of a header field", hostname.Quote(name))
		case slices.Contains(goneFields, folded):
			p.report("headers", -1, name, "%s frames or routes the request, or does not reach the origin server; conditions are for other fields", hostname.Quote(name))
		case duplicate:
			p.report("headers", -1, name, "%s and %s are the same field; write one of them with all its values", hostname.Quote(other), hostname.Quote(name))
		default:
			seen[folded] = name
			c := p.condition("headers", name, p.spec.Headers[name])
			c.name = folded
			p.rule.headers = append(p.rule.headers, c)
		}
	}
}

// condition compiles the values that the parameter or field called name may have.
func (p *parser) condition(key, name string, values []string) condition {
	if len(values) == 0 {
		p.report(key, -1, name, `%s has no values, so that the rule would match nothing; list some, or ["pattern:*"] for any value`, hostname.Quote(name))
	}
	c := condition{name: strings.Clone(name)}
	for i, value := range values {
		pattern, problem := parseValue(value)
		if problem != "" {
			p.report(key, i, name, "%s %s", hostname.Quote(value), problem)
		}
		c.values = append(c.values, pattern)
	}
	return c
}

// flags reports flags that have no meaning where they are set.
func (p *parser) flags() {
	if p.spec.QueryOnly && p.spec.Deny {
		p.report("query_only", -1, "", "query_only is not for deny rules, because a request would escape the rule with one more parameter; remove it")
	}
	if p.spec.AllowEncodedSlash && p.spec.Deny {
		p.report("allow_encoded_slash", -1, "", "allow_encoded_slash is not for deny rules, which consider %%2F as a slash and as a character anyway; remove it")
	}
}

func (p *parser) access() {
	text := p.spec.Access
	if text == "" {
		return
	}
	for i, name := range accessNames {
		if name == text {
			p.rule.access = access(i + 1)
		}
	}
	switch {
	case p.rule.access == 0:
		suggestion := ""
		if closest := typo.Closest(text, accessNames); closest != "" {
			suggestion = fmt.Sprintf(", did you mean %q?", closest)
		}
		p.report("access", -1, "", `%s is not a kind of access%s; write "read-only", "git-fetch" or "git-push"`, hostname.Quote(text), suggestion)
	case p.spec.Deny:
		p.report("access", -1, "", "access is not for deny rules; write methods and path_prefixes")
	}
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !isAlphanumeric(c) && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// maxDescription limits the text of a rule in bytes.
const maxDescription = 200

// describe returns the text of a rule for refusals.
func describe(s *Spec, r *Rule) string {
	what := s.Access
	if what == "" {
		what = strings.Join(s.Methods, ",")
	}
	where := withoutDefaultPort(r.target)
	if len(s.PathPrefixes) > 0 {
		path := s.PathPrefixes[0]
		for _, prefix := range []string{patternPrefix, literalPrefix} {
			path = strings.TrimPrefix(path, prefix)
		}
		if path == "*" {
			path = " *"
		}
		where += path
	}
	text := what + " " + where
	if more := len(s.PathPrefixes) - 1; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	text += listNames(" with query ", s.Query) + listNames(" with header ", s.Headers)
	if s.Deny {
		text = "deny " + text
	}
	if len(text) > maxDescription {
		text = text[:maxDescription-3] + "..."
	}
	return text
}

// listNames returns the sorted names of conditions after a heading, or nothing if
// there are none.
func listNames(heading string, conditions map[string][]string) string {
	if len(conditions) == 0 {
		return ""
	}
	var quoted []string
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		quoted = append(quoted, hostname.Quote(name))
	}
	return heading + strings.Join(quoted, ", ")
}
