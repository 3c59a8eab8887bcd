// TLS inspection in the configuration: the request rules, and the checks of all its
// values.

package networkproxy

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/hostname"
	"example.com/networkproxy/internal/httprule"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// MITMHook is one request rule, a [[network_proxy.mitm_hooks]] table. A host with
// rules accepts a request only if one of them allows it and none denies it;
// their order does not matter. docs/rules.md describes the language. The zero value is
// invalid, because a rule needs a Host, and Methods or Access.
type MITMHook struct {
	// Host is the host that the rule is for, or host:port, without wildcards. Without
	// a port it means port 443 alone. The rule applies to plain HTTP on that port as
	// well.
	Host string `toml:"host" json:"host"`

	// Methods are the methods that the rule matches, exactly as they are written:
	// GET does not include HEAD. "*" matches all.
	Methods []string `toml:"methods" json:"methods,omitempty"`

	// PathPrefixes are prefixes of the path that end at a segment: "/v1" matches
	// "/v1" and "/v1/x", and not "/v10". One that begins with "pattern:" is a glob of
	// the whole path, where "*" stays within a segment. Default: every path, if
	// Access is set.
	PathPrefixes []string `toml:"path_prefixes" json:"path_prefixes,omitempty"`

	// Query holds the values that parameters of the query may have. Each parameter
	// must occur, and each of its occurrences must have one of the values.
	Query map[string][]string `toml:"query" json:"query,omitempty"`

	// QueryOnly allows no parameters but those in Query.
	QueryOnly bool `toml:"query_only" json:"query_only,omitempty"`

	// Headers is the same as Query for fields of the header.
	Headers map[string][]string `toml:"headers" json:"headers,omitempty"`

	// Access is "read-only", "git-fetch" or "git-push": a preset in place of Methods.
	Access string `toml:"access" json:"access,omitempty"`

	// Deny makes the rule refuse what it matches, whatever other rules allow.
	Deny bool `toml:"deny" json:"deny,omitempty"`

	// AllowEncodedSlash lets the rule match paths with %2F, which is then a character
	// within a segment. Default false: such paths are refused, because servers read
	// them in different ways.
	AllowEncodedSlash bool `toml:"allow_encoded_slash" json:"allow_encoded_slash,omitempty"`

	// StripRequestHeaders are fields that the proxy removes from requests that the rule
	// allows.
	StripRequestHeaders []string `toml:"strip_request_headers" json:"strip_request_headers,omitempty"`

	// InjectRequestHeaders are fields that the proxy sets in requests that the rule
	// allows, to secrets that the command never has.
	InjectRequestHeaders []InjectedHeader `toml:"inject_request_headers" json:"inject_request_headers,omitempty"`
}

// fields lists the values of a rule.
func (h *MITMHook) fields() []tomltable.Field {
	return []tomltable.Field{
		{Key: "host", Value: tomltable.String(&h.Host)},
		{Key: "methods", Value: tomltable.Strings(&h.Methods)},
		{Key: "path_prefixes", Value: tomltable.Strings(&h.PathPrefixes)},
		{Key: "query", Value: tomltable.StringLists(&h.Query)},
		{Key: "query_only", Value: tomltable.Bool(&h.QueryOnly)},
		{Key: "headers", Value: tomltable.StringLists(&h.Headers)},
		{Key: "access", Value: tomltable.String(&h.Access)},
		{Key: "deny", Value: tomltable.Bool(&h.Deny)},
		{Key: "allow_encoded_slash", Value: tomltable.Bool(&h.AllowEncodedSlash)},
		{Key: "strip_request_headers", Value: tomltable.Strings(&h.StripRequestHeaders)},
		{Key: "inject_request_headers", Value: tomltable.Tables(&h.InjectRequestHeaders, (*InjectedHeader).fields)},
	}
}

// meaning returns a text that is the same for rules that mean the same: the order and
// repetition of their values do not matter, nor does the spelling of the host and of
// fields.
func (h *MITMHook) meaning() string {
	n := *h
	if target, err := hostname.ParseTargetDefault(h.Host, httprule.DefaultPort); err == nil {
		n.Host = target.String()
	}
	n.Methods, n.PathPrefixes, n.StripRequestHeaders = normalList(h.Methods), normalList(h.PathPrefixes), normalFields(h.StripRequestHeaders)
	n.Query, n.Headers = make(map[string][]string), make(map[string][]string)
	for name, values := range h.Query {
		n.Query[name] = normalList(values)
	}
	for name, values := range h.Headers {
		n.Headers[strings.ToLower(name)] = normalList(values)
	}
	return fmt.Sprintf("%#v", n) // which sorts maps
}

// normalList returns the sorted elements of a list, each once; nil if there are none.
func normalList(list []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(list)))
}

// normalFields is normalList for names of fields.
func normalFields(names []string) []string {
	return normalList(strings.Fields(strings.ToLower(strings.Join(names, " ")))) // invalid names are refused elsewhere
}

func (h *MITMHook) spec() *httprule.Spec {
	return &httprule.Spec{
		Host: h.Host, Methods: h.Methods, PathPrefixes: h.PathPrefixes, Query: h.Query, QueryOnly: h.QueryOnly,
		Headers: h.Headers, Access: h.Access, Deny: h.Deny, AllowEncodedSlash: h.AllowEncodedSlash,
	}
}

// CredentialProvider is one [network_proxy.credential_providers.NAME] table: a secret
// that commands use and never see. Each variable in Env gets a placeholder, which the
// proxy exchanges in requests to URLPrefixes, inside TLS that it opens.
//
// The secret comes from SecretEnvVar, from SecretFile, from [Builder.Credential], or, if
// none is set, from the variable that the command would have had.
type CredentialProvider struct {
	// Env are the variables of a command that get a placeholder.
	Env []string `toml:"env" json:"env"`

	// URLPrefixes are the destinations, such as https://api.example.com/v1/. The path
	// is a prefix that ends at a segment.
	URLPrefixes []string `toml:"url_prefixes" json:"url_prefixes"`

	// Headers are the fields in which placeholders are exchanged. Default Authorization.
	Headers []string `toml:"headers" json:"headers,omitempty"`

	// SecretEnvVar is a variable of the proxy's own environment with the secret.
	// Commands do not get it.
	SecretEnvVar string `toml:"secret_env_var" json:"secret_env_var,omitempty"`

	// SecretFile is the absolute path of a file with the secret, which only its owner
	// can change. It is read again when it changes.
	SecretFile string `toml:"secret_file" json:"secret_file,omitempty"`
}

// fields lists the values of a provider.
func (p *CredentialProvider) fields() []tomltable.Field {
	return []tomltable.Field{
		{Key: "env", Value: tomltable.Strings(&p.Env)},
		{Key: "url_prefixes", Value: tomltable.Strings(&p.URLPrefixes)},
		{Key: "headers", Value: tomltable.Strings(&p.Headers)},
		{Key: "secret_env_var", Value: tomltable.String(&p.SecretEnvVar)},
		{Key: "secret_file", Value: tomltable.String(&p.SecretFile)},
	}
}

// cloneProviders returns a copy that shares no memory with providers.
func cloneProviders(providers map[string]CredentialProvider) map[string]CredentialProvider {
	providers = maps.Clone(providers)
	for name, p := range providers {
		p.Env, p.URLPrefixes, p.Headers = slices.Clone(p.Env), slices.Clone(p.URLPrefixes), slices.Clone(p.Headers)
		providers[name] = p
	}
	return providers
}

// InjectedHeader is a header field that a request rule sets to a secret: one element of
// inject_request_headers. The secret comes from SecretEnvVar or SecretFile.
type InjectedHeader struct {
	Name   string `toml:"name" json:"name"`               // of the field, such as Authorization
	Prefix string `toml:"prefix" json:"prefix,omitempty"` // before the secret, such as "Bearer "

	// SecretEnvVar and SecretFile have the same meaning as in a [CredentialProvider].
	SecretEnvVar string `toml:"secret_env_var" json:"secret_env_var,omitempty"`
	SecretFile   string `toml:"secret_file" json:"secret_file,omitempty"`
}

// fields lists the values of an injected field.
func (h *InjectedHeader) fields() []tomltable.Field {
	return []tomltable.Field{
		{Key: "name", Value: tomltable.String(&h.Name)},
		{Key: "prefix", Value: tomltable.String(&h.Prefix)},
		{Key: "secret_env_var", Value: tomltable.String(&h.SecretEnvVar)},
		{Key: "secret_file", Value: tomltable.String(&h.SecretFile)},
	}
}

// checkMITM reports mistakes in the values of TLS inspection, except invalid patterns
// and those that checkExempt reports.
func (s *sourcedConfig) checkMITM(errs *errorList) {
	c := &s.Config
	s.checkCAFile(keyMITMCACert, c.MITMCACert, keyMITMCAKey, c.MITMCAKey, errs)
	s.checkCAFile(keyMITMCAKey, c.MITMCAKey, keyMITMCACert, c.MITMCACert, errs)
	s.checkNeedsMITM(keyMITMDomains, len(c.MITMDomains), errs)
	s.checkNeedsMITM(keyMITMHooks, len(c.MITMHooks), errs)
	s.rules(errs)
}

// checkNeedsMITM reports an array of n elements that has no effect without mitm.
func (s *sourcedConfig) checkNeedsMITM(key string, n int, errs *errorList) {
	if n > 0 && !s.Config.MITM {
		errs.add(&ConfigError{Position: s.position(key), Key: key, Problem: fmt.Sprintf(
			"has no effect while mitm is false (%s), because the proxy does not see the requests: set mitm = true", s.describe(keyMITM))})
	}
}

// checkCAFile reports a mistake in the path at one of the two keys of a certificate
// authority. other and otherPath are the other key and its path.
func (s *sourcedConfig) checkCAFile(key, path, other, otherPath string, errs *errorList) {
	problem := ""
	switch {
	case path == "":
		return
	case strings.ContainsFunc(path, unicode.IsControl):
		problem = "has a control character: name the file by another path"
	case !filepath.IsAbs(path):
		problem = "is not an absolute path, so it would depend on the directory in which the proxy is started: write the whole path"
	case otherPath == "":
		problem = "needs " + lastKey(other) + " as well: set both, or neither for a certificate authority in memory"
	default:
		return
	}
	errs.add(&ConfigError{Position: s.position(key), Key: key, Value: path, Problem: problem})
}

// checkExempt reports hosts that have request rules and are exempt from inspection.
func (s *sourcedConfig) checkExempt(errs *errorList) {
	var reported errorList // by checkMITM and patterns
	exempt := domain.Compile(s.patterns(keyMITMExemptDomains, &reported))
	for i, r := range s.rules(&reported) {
		if r == nil {
			continue
		}
		if at, ok := exempt.Match(r.Target()); ok {
			errs.add(&ConfigError{Position: s.hookPosition(i, "host"), Key: hookKey(i, "host"), Value: s.Config.MITMHooks[i].Host,
				Problem: fmt.Sprintf("cannot have rules, because mitm_exempt_domains has %s (%s), so that its TLS is never opened: remove one of them",
					tomltable.Quote(s.Config.MITMExemptDomains[at]), s.itemDescription(keyMITMExemptDomains, at))})
		}
	}
}

// rules compiles the request rules. It reports mistakes, and returns nil in the place of
// an invalid rule. A rule in which a mistake was reported before is not reported again,
// because what is missing in it may be that mistake.
func (s *sourcedConfig) rules(errs *errorList) []*httprule.Rule {
	rules := make([]*httprule.Rule, len(s.Config.MITMHooks))
	for i := range s.Config.MITMHooks {
		rule, problems := httprule.Parse(s.Config.MITMHooks[i].spec())
		if !errs.hasBelow(tomltable.ItemKey(keyMITMHooks, i)) {
			for _, p := range problems {
				errs.add(s.hookError(i, p))
			}
		}
		if len(problems) == 0 {
			rules[i] = rule
		}
	}
	return rules
}

// hookKey returns the dotted key of a value of a rule.
func hookKey(i int, key string) string { return tomltable.ItemKey(keyMITMHooks, i) + "." + key }

// hookPosition returns the position of a value of a rule, or else that of the rule.
func (s *sourcedConfig) hookPosition(i int, key string) Position {
	if at := s.position(hookKey(i, key)); at != (Position{}) {
		return at
	}
	return s.itemPosition(keyMITMHooks, i)
}

// hookError returns the error about a mistake in a rule.
func (s *sourcedConfig) hookError(i int, p httprule.Problem) *ConfigError {
	key := p.Key
	if p.Name != "" {
		key = tomltable.Join(key, p.Name)
	}
	e := &ConfigError{Position: s.hookPosition(i, key), Key: hookKey(i, key), Problem: p.Text}
	if p.Index >= 0 {
		if at := s.itemPosition(e.Key, p.Index); at != (Position{}) {
			e.Position = at
		}
		e.Key = tomltable.ItemKey(e.Key, p.Index)
	}
	return e
}

// itemDescription returns the position of an element of an array, or where the array
// was set.
func (s *sourcedConfig) itemDescription(key string, i int) string {
	if at := s.itemPosition(key, i); at != (Position{}) {
		return at.String()
	}
	return s.describe(key)
}

// compileInspection compiles the values of TLS inspection. It reports invalid patterns,
// and returns nil if nothing is opened. Managed limits can turn inspection off at run
// time, or demand it: the hosts that must be seen then cannot be reached.
func compileInspection(src *sourcedConfig, credentials *credential.Set, errs *errorList) *policy.Inspection {
	c := &src.Config
	domains := compileList(src, keyMITMDomains, c.MITMDomains, errs)
	exempt := compileList(src, keyMITMExemptDomains, c.MITMExemptDomains, errs)
	if !c.MITM && len(c.MITMHooks) == 0 && len(c.MITMDomains) == 0 {
		return nil
	}
	in := &policy.Inspection{
		Domains: policy.RuleSets{domains}, Exempt: policy.RuleSets{exempt}, Forbidden: !c.MITM,
	}
	if c.CredentialBroker {
		in.Credentials = credentials
	}
	var reported errorList // by checkMITM
	rules := src.rules(&reported)
	if slices.Contains(rules, nil) {
		return in // the caller stops at an error
	}
	var texts []string
	for _, r := range rules {
		texts = append(texts, r.String())
	}
	in.Hooks, in.Rules = ruleSet(src, keyMITMHooks, texts), httprule.NewSet(rules)
	return in
}

// secretSources are the sources of secrets that are not in the configuration.
type secretSources struct {
	environ func() []string              // of the process
	funcs   map[string]credential.Source // of the host, by the name of the provider
}

// providerKey returns the dotted key of a value of a provider.
func providerKey(name, key string) string { return keyProviders + "." + name + "." + key }

// compileCredentials compiles the providers, and reads their secrets once, so that a
// missing one is found now. The errors contain no secret.
func (s *sourcedConfig) compileCredentials(sources secretSources, errs *errorList) *credential.Set {
	c := &s.Config
	if c.CredentialBroker && !c.MITM {
		errs.add(&ConfigError{Position: s.position(keyCredentialBroker), Key: keyCredentialBroker, Value: "true",
			Problem: fmt.Sprintf("needs mitm = true (%s), because placeholders are exchanged inside TLS that the proxy opens", s.describe(keyMITM))})
	}
	for name := range sources.funcs {
		if _, ok := c.CredentialProviders[name]; !ok {
			errs.add(&ConfigError{Key: keyProviders + "." + name, Problem: "is missing: Builder.Credential has a function for it"})
		}
	}
	var ignored errorList // patterns reports them
	exempt := domain.Compile(s.patterns(keyMITMExemptDomains, &ignored))
	variables := make(map[string]string) // to the provider that has it
	var providers []*credential.Provider
	for _, name := range slices.Sorted(maps.Keys(c.CredentialProviders)) {
		cp := c.CredentialProviders[name]
		fail := func(key string, i int, format string, args ...any) {
			e := &ConfigError{Position: s.position(providerKey(name, key)), Key: providerKey(name, key), Problem: fmt.Sprintf(format, args...)}
			if i >= 0 {
				e.Position, e.Key = s.itemPosition(e.Key, i), tomltable.ItemKey(e.Key, i)
			}
			errs.add(e)
		}
		p, problems := credential.Parse(&credential.Spec{
			Name: name, Env: cp.Env, URLPrefixes: cp.URLPrefixes, Headers: cp.Headers, Plaintext: c.DangerouslyAllowPlaintextCredentialInjection,
		})
		for _, problem := range problems {
			fail(problem.Key, problem.Index, "%s", problem.Text)
		}
		if len(problems) > 0 {
			continue
		}
		for i, variable := range cp.Env {
			if other, ok := variables[variable]; ok {
				fail("env", i, "the provider %q has the same variable: a variable has one secret", other)
			}
			variables[variable] = name
		}
		for _, t := range p.Targets() {
			if at, ok := exempt.Match(t); ok {
				fail("url_prefixes", -1, "%s is never opened, because mitm_exempt_domains has %s (%s): remove one of them",
					t, tomltable.Quote(c.MITMExemptDomains[at]), s.itemDescription(keyMITMExemptDomains, at))
			}
		}
		source, key, err := credential.SourceOf(sources.environ, sources.funcs[name], cp.SecretEnvVar, cp.SecretFile)
		if err != nil {
			fail(key, -1, "%v", err)
			continue
		}
		if source != nil {
			p = p.WithSource(source)
		}
		providers = append(providers, p)
	}
	return credential.NewSet(providers)
}
