// Rules beyond the configuration: those that a host sets while the proxy runs,
// and those of a session. Both stay within the managed limits.

package networkproxy

import (
	"context"
	"fmt"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/domain"
	"example.com/networkproxy/internal/learned"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// runtimeMode is a mode set at run time. It holds until the mode of the
// configuration changes.
type runtimeMode struct {
	mode Mode // empty: none is set
	over Mode // the mode of the configuration when mode was set
}

// effective returns the mode in force, given the mode of the configuration.
func (r runtimeMode) effective(configured Mode) Mode {
	if r.mode != "" && r.over == configured {
		return r.mode
	}
	return configured
}

// AmendmentAction is the kind of an [Amendment].
type AmendmentAction string

const (
	AmendAllow  AmendmentAction = "allow"  // add to allowed_domains
	AmendDeny   AmendmentAction = "deny"   // add to denied_domains
	AmendForget AmendmentAction = "forget" // remove from both; for an [AmendmentWriter], see [Handle.Forget]
)

// Amendment is a change of the lists for good.
type Amendment struct {
	Action  AmendmentAction `json:"action"`
	Pattern string          `json:"pattern"`           // as in a list; an AmendmentWriter gets it in canonical form
	Comment string          `json:"comment,omitempty"` // for people, such as the reason; optional
}

// AmendmentWriter saves an amendment, so that it is in the configuration at the next
// start. Set one with [Builder.AmendmentWriter].
//
// It may be called from several goroutines at once. ctx ends with that of
// [Handle.Remember] or [Handle.Forget], and when the proxy ends. An error or
// a panic means that the amendment was not saved. A writer that does not return
// delays nothing but the end of the proxy, see [Handle.Shutdown].
type AmendmentWriter func(ctx context.Context, a Amendment) error

// addedAtRunTime is the file name in the position of a rule that was added at
// run time.
const addedAtRunTime = "(added at run time)"

// remembered is the file name in the position of a rule that Remember has added and
// that is in no file.
const remembered = "(remembered at run time)"

// runtimeRules are the entries added at run time, or those of the learned file. The
// zero value has none. It is immutable: its methods return changed copies.
type runtimeRules struct {
	allow, deny runtimeList
}

// runtimeList is the entries of one list, in the order in which they were added.
type runtimeList struct {
	entries  []string
	patterns []domain.Pattern
	at       []policy.Position
}

// runtimePosition returns the position of an entry that is in no file.
func runtimePosition(source string) policy.Position { return policy.Position{File: source} }

// index returns the index of the entry that is equivalent to p, or -1.
func (l runtimeList) index(p domain.Pattern) int {
	return slices.IndexFunc(l.patterns, func(q domain.Pattern) bool { return q.String() == p.String() })
}

func (l runtimeList) with(entry string, p domain.Pattern, at policy.Position) runtimeList {
	if l.index(p) >= 0 {
		return l
	}
	return runtimeList{
		entries:  append(slices.Clip(l.entries), entry),
		patterns: append(slices.Clip(l.patterns), p),
		at:       append(slices.Clip(l.at), at),
	}
}

func (l runtimeList) withAll(other runtimeList) runtimeList {
	for i, p := range other.patterns {
		l = l.with(other.entries[i], p, other.at[i])
	}
	return l
}

// except returns l without the entries that other has.
func (l runtimeList) except(other runtimeList) runtimeList {
	var kept runtimeList
	for i, p := range l.patterns {
		if other.index(p) < 0 {
			kept = kept.with(l.entries[i], p, l.at[i])
		}
	}
	return kept
}

func (l runtimeList) without(i int) runtimeList {
	return runtimeList{
		entries:  slices.Delete(slices.Clone(l.entries), i, i+1),
		patterns: slices.Delete(slices.Clone(l.patterns), i, i+1),
		at:       slices.Delete(slices.Clone(l.at), i, i+1),
	}
}

// ruleSets returns the rule sets of base and of the lists that are not empty.
func ruleSets(base *policy.RuleSet, lists ...runtimeList) policy.RuleSets {
	sets := policy.RuleSets{base}
	for _, l := range lists {
		if len(l.entries) > 0 {
			added := l.ruleSet(base.List)
			added.Set = domain.Compile(l.patterns)
			sets = append(sets, added)
		}
	}
	return sets
}

// ruleSet returns l as a part of the named list, not compiled.
func (l runtimeList) ruleSet(list string) *policy.RuleSet {
	return &policy.RuleSet{
		List:     list,
		Entries:  l.entries,
		Position: func(i int) policy.Position { return l.at[i] },
	}
}

// within returns r without the entries that exceed the limits. It calls dropped
// for each of these.
func (r runtimeRules) within(limits *requirements, dropped func(entry string, at policy.Position, err error)) runtimeRules {
	if limits == nil {
		return r
	}
	kept := runtimeRules{deny: r.deny}
	for i, p := range r.allow.patterns {
		if err := limits.checkAllowed(p); err != nil {
			dropped(r.allow.entries[i], r.allow.at[i], err)
			continue
		}
		kept.allow = kept.allow.with(r.allow.entries[i], p, r.allow.at[i])
	}
	return kept
}

// except returns r without the entries that other has in the same list.
func (r runtimeRules) except(other runtimeRules) runtimeRules {
	return runtimeRules{allow: r.allow.except(other.allow), deny: r.deny.except(other.deny)}
}

// parseLearned returns the entries of the learned file at path.
func parseLearned(path string, content learned.Content) (rules runtimeRules, err error) {
	var errs errorList
	read := func(list *runtimeList, key string, entries []learned.Entry, parse func(string) (domain.Pattern, error)) {
		for _, e := range entries {
			at := policy.Position{File: path, Line: e.Line, Column: e.Column}
			p, err := parse(e.Text)
			if err != nil {
				errs.add(&ConfigError{Position: Position(at), Key: key, Err: err})
			}
			*list = list.with(e.Text, p, at)
		}
	}
	read(&rules.allow, keyAllowedDomains, content[learned.Allowed], parseAllowed)
	read(&rules.deny, keyDeniedDomains, content[learned.Denied], parseDenied)
	return rules, errs.join()
}

// sessionRules are the rules of one session. Safe for concurrent use.
type sessionRules struct {
	given  *policy.AllowList // of the SessionConfig
	denied *policy.RuleSet
	mode   Mode

	overlay *atomic.Pointer[policy.Overlay] // of the principal; set by attach

	mu    sync.Mutex
	added runtimeList       // by Session.Allow
	group *policy.AllowList // of the session's group; nil if it has none
}

// newSessionRules compiles the rules of a session. The error says which of them
// is invalid or beyond the managed limits.
func newSessionRules(allowed, denied []string, mode Mode, limits *requirements) (*sessionRules, error) {
	if mode != "" {
		if _, err := ParseMode(string(mode)); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
		if err := limits.checkMode(mode); err != nil {
			return nil, fmt.Errorf("session: %w", err)
		}
	}
	src := sourcedFromGo(Config{Policy: PolicyConfig{
		AllowedDomains: allowed,
		DeniedDomains:  denied,
	}})
	var errs errorList
	patterns := src.patterns(keyAllowedDomains, &errs)
	deny := compileList(src, keyDeniedDomains, src.Config.Policy.DeniedDomains, &errs)
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	for _, p := range patterns {
		errs.add(limits.checkAllowed(p))
	}
	if err := errs.join(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	allow := ruleSet(src, keyAllowedDomains, src.Config.Policy.AllowedDomains)
	allow.List, deny.List = policy.SessionAllowed, policy.SessionDenied
	return &sessionRules{given: policy.NewAllowList(allow, patterns), denied: deny, mode: mode}, nil
}

// attach puts the rules in force in overlay. group is nil if the session has none.
func (r *sessionRules) attach(overlay *atomic.Pointer[policy.Overlay], group *groupRules) {
	r.overlay = overlay
	if group == nil {
		r.change(func() {})
		return
	}
	group.mu.Lock()
	defer group.mu.Unlock()
	group.sessions[r] = struct{}{}
	r.change(func() { r.group = group.list })
}

// allow adds entries to the rules of the session.
func (r *sessionRules) allow(entries runtimeList) {
	r.change(func() { r.added = r.added.withAll(entries) })
}

// change changes the fields below r.mu, and puts the result in force.
func (r *sessionRules) change(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	added := policy.NewAllowList(r.added.ruleSet(policy.SessionAllowed), r.added.patterns)
	r.overlay.Store(policy.NewOverlay([]*policy.AllowList{r.given, added, r.group}, r.denied, r.mode))
}

// groupRules are the entries that a group adds to the rules of its sessions. Safe for
// concurrent use.
type groupRules struct {
	mu       sync.Mutex
	added    runtimeList
	list     *policy.AllowList // of added; nil if there are none
	sessions map[*sessionRules]struct{}
}

func newGroupRules() groupRules { return groupRules{sessions: make(map[*sessionRules]struct{})} }

// allow adds entries for all sessions of the group, open ones and later ones.
func (g *groupRules) allow(entries runtimeList) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.added = g.added.withAll(entries)
	g.list = policy.NewAllowList(g.added.ruleSet(policy.GroupAllowed), g.added.patterns)
	for r := range g.sessions {
		r.change(func() { r.group = g.list })
	}
}

// detach removes the rules of a session that has ended.
func (g *groupRules) detach(r *sessionRules) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, r)
}

func (g *groupRules) empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.added.entries) == 0
}

// parseAllowedEntries parses entries that are to be allowed at run time. The
// error says which of them are invalid or beyond the managed limits.
func parseAllowedEntries(entries []string, limits *requirements) (list runtimeList, err error) {
	var errs errorList
	for _, entry := range entries {
		p, err := parseAllowed(entry)
		if err == nil {
			err = limits.checkAllowed(p)
		}
		if err != nil {
			errs.add(fmt.Errorf("%s cannot be allowed: %w", tomltable.Quote(entry), err))
			continue
		}
		list = list.with(entry, p, runtimePosition(addedAtRunTime))
	}
	return list, errs.join()
}

// compileEdits adds the changes that the request rules make in requests to in, and
// reads their secrets once. in is nil if there are no rules.
func (s *sourcedConfig) compileEdits(in *policy.Inspection, sources secretSources, errs *errorList) {
	for i := range s.Config.MITMHooks {
		h := &s.Config.MITMHooks[i]
		if len(h.StripRequestHeaders) == 0 && len(h.InjectRequestHeaders) == 0 {
			continue
		}
		fail := func(key, format string, args ...any) {
			errs.add(&ConfigError{Position: s.hookPosition(i, key), Key: hookKey(i, key), Problem: fmt.Sprintf(format, args...)})
		}
		if h.Deny {
			fail("deny", "excludes strip_request_headers and inject_request_headers, because the rule lets no request through")
		}
		e := &credential.Edit{Plaintext: s.Config.DangerouslyAllowPlaintextCredentialInjection}
		for j, name := range h.StripRequestHeaders {
			if problem := credential.HeaderProblem(name); problem != "" && !strings.EqualFold(name, "Cookie") {
				fail(tomltable.ItemKey("strip_request_headers", j), "%s", problem)
			}
			e.Strip = append(e.Strip, textproto.CanonicalMIMEHeaderKey(name))
		}
		for j, header := range h.InjectRequestHeaders {
			item := tomltable.ItemKey("inject_request_headers", j)
			source, key, err := credential.SourceOf(sources.environ, nil, header.SecretEnvVar, header.SecretFile)
			switch problem := credential.HeaderProblem(header.Name); {
			case problem != "":
				fail(item+".name", "%s", problem)
			case strings.ContainsFunc(header.Prefix, func(r rune) bool { return r < ' ' || r > '~' }):
				fail(item+".prefix", "has a character that is not printable ASCII")
			case err != nil:
				fail(item+"."+key, "%v", err)
			case source == nil:
				fail(item, "has no secret: set secret_env_var or secret_file")
			}
			e.Inject = append(e.Inject, credential.Injection{Name: textproto.CanonicalMIMEHeaderKey(header.Name), Prefix: header.Prefix, Rule: h.Host, Source: source})
		}
		if in.Edits == nil {
			in.Edits = make(map[int]*credential.Edit)
		}
		in.Edits[i] = e
	}
}
