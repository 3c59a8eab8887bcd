package credential

import (
	"context"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
)

// Spec is the text of one provider, as it stands in a configuration.
type Spec struct {
	Name        string
	Env         []string // variables of a command that get a placeholder
	URLPrefixes []string // destinations: https://host[:port]/path
	Headers     []string // fields in which a placeholder is exchanged; nil means Authorization

	// Plaintext permits prefixes with http://.
	Plaintext bool
}

// Problem is a mistake in a [Spec]. Its text is safe to show.
type Problem struct {
	Key   string // "env", "url_prefixes" or "headers"
	Index int    // -1 if the problem is not about one element
	Text  string
}

// Provider is a compiled [Spec]. It is immutable and safe for concurrent use.
type Provider struct {
	name         string
	env          []string
	headers      []string // canonical names
	destinations []destination
	source       Source // nil: each placeholder has a secret of its own
}

// destination is one URL prefix.
type destination struct {
	secure bool
	target hostname.Target
	paths  *httprule.HostRules
}

// Name returns the name of the provider.
func (p *Provider) Name() string { return p.name }

// Env returns the variables that get a placeholder. The caller must not change them.
func (p *Provider) Env() []string { return p.env }

// WithSource returns the provider with a source of its secret, in place of the variables
// of the command.
func (p *Provider) WithSource(s Source) *Provider {
	q := *p
	q.source = s
	return &q
}

// HasSource reports whether the provider has a source of its secret.
func (p *Provider) HasSource() bool { return p.source != nil }

// Secret returns the present secret.
func (p *Provider) Secret(ctx context.Context) (string, error) {
	if p.source == nil {
		return "", ErrNoSource
	}
	return p.source.Secret(ctx)
}

// Targets returns the hosts and ports of the destinations.
func (p *Provider) Targets() []hostname.Target {
	var targets []hostname.Target
	for _, d := range p.destinations {
		if !slices.Contains(targets, d.target) {
			targets = append(targets, d.target)
		}
	}
	return targets
}

// Parse compiles a provider.
func Parse(s *Spec) (*Provider, []Problem) {
	p := &Provider{name: s.Name, env: slices.Clone(s.Env)}
	var problems []Problem
	fail := func(key string, i int, format string, args ...any) {
		problems = append(problems, Problem{key, i, fmt.Sprintf(format, args...)})
	}
	for i, name := range s.Env {
		if !isVariable(name) {
			fail("env", i, "is not the name of an environment variable")
		}
	}
	if len(s.URLPrefixes) == 0 {
		fail("url_prefixes", -1, "is missing: name the URLs that the credential is for, such as https://api.example.com/")
	}
	for i, text := range s.URLPrefixes {
		d, problem := parseDestination(text, s.Plaintext)
		if problem != "" {
			fail("url_prefixes", i, "%s", problem)
			continue
		}
		p.destinations = append(p.destinations, d)
	}
	headers := s.Headers
	if len(headers) == 0 {
		headers = []string{"Authorization"}
	}
	for i, name := range headers {
		if problem := HeaderProblem(name); problem != "" {
			fail("headers", i, "%s", problem)
			continue
		}
		p.headers = append(p.headers, textproto.CanonicalMIMEHeaderKey(name))
	}
	return p, problems
}

// parseDestination parses one URL prefix.
func parseDestination(text string, plaintext bool) (d destination, problem string) {
	scheme, rest, ok := strings.Cut(text, "://")
	port := uint16(443)
	switch d.secure = strings.EqualFold(scheme, "https"); {
	case !ok:
		return d, "is not a URL: write https://host/path"
	case strings.EqualFold(scheme, "http") && plaintext:
		port = 80
	case strings.EqualFold(scheme, "http"):
		return d, "is http://, which would send the secret in plain text: use https://"
	case !d.secure:
		return d, "must begin with https://"
	}
	authority, path := rest, "/"
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	if strings.ContainsAny(path, "?#") {
		return d, "has a query or a fragment: a prefix ends in the path"
	}
	var err error
	if d.target, err = hostname.ParseTargetDefault(authority, port); err != nil {
		return d, "has an invalid host: " + err.Error()
	}
	rule, problems := httprule.Parse(&httprule.Spec{Host: d.target.String(), Methods: []string{"*"}, PathPrefixes: []string{"literal:" + path}})
	if len(problems) > 0 {
		return d, "has a path that " + problems[0].Text
	}
	d.paths = httprule.NewSet([]*httprule.Rule{rule}).For(d.target)
	return d, ""
}

// HeaderProblem says why a secret cannot be in a header field, or returns "".
func HeaderProblem(name string) string {
	if name == "" || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~") != "" {
		return "is not the name of a header field (RFC 9110 section 5.1)"
	}
	switch lower := strings.ToLower(name); {
	case strings.HasPrefix(lower, "proxy-"), slices.Contains([]string{
		"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "keep-alive", "cookie", "expect",
	}, lower):
		return "is a field that frames or routes messages, or belongs to the client"
	}
	return ""
}

// isVariable reports whether name can be that of an environment variable.
func isVariable(name string) bool {
	letter := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= '0' && c <= '9'
	}
	return name != "" && strings.TrimFunc(name, letter) == "" && (name[0] < '0' || name[0] > '9')
}

// accepts reports whether the secret may be sent with a request, in a field.
func (p *Provider) accepts(r *Request, field string) bool {
	if !slices.Contains(p.headers, field) {
		return false
	}
	for i := range p.destinations {
		d := &p.destinations[i]
		if d.secure == r.Secure && d.target == r.Target && d.paths.Judge(r.HTTP).Allowed {
			return true
		}
	}
	return false
}

// Set is the providers of one configuration. It is immutable and safe for concurrent use.
// A nil Set has none.
type Set struct {
	byName   map[string]*Provider
	byTarget map[hostname.Target][]string // names
	names    []string                     // sorted
}

// NewSet returns the set of providers. Their names must differ.
func NewSet(providers []*Provider) *Set {
	if len(providers) == 0 {
		return nil
	}
	s := &Set{byName: make(map[string]*Provider), byTarget: make(map[hostname.Target][]string)}
	for _, p := range providers {
		s.byName[p.name] = p
		s.names = append(s.names, p.name)
		for _, t := range p.Targets() {
			s.byTarget[t] = append(s.byTarget[t], p.name)
		}
	}
	slices.Sort(s.names)
	return s
}

// Bound reports whether a credential is bound to a host and port.
func (s *Set) Bound(t hostname.Target) bool { return s != nil && len(s.byTarget[t]) > 0 }

// All returns the providers, by name.
func (s *Set) All() []*Provider {
	if s == nil {
		return nil
	}
	all := make([]*Provider, len(s.names))
	for i, name := range s.names {
		all[i] = s.byName[name]
	}
	return all
}

// provider returns the provider with a name, or nil.
func (s *Set) provider(name string) *Provider {
	if s == nil {
		return nil
	}
	return s.byName[name]
}
