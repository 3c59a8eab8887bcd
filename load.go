// From files to a policy: load a configuration, check it, compile its lists.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"

	"example.com/networkproxy/internal/ca"
	"example.com/networkproxy/internal/credential"
	"example.com/networkproxy/internal/filewatch"
	"example.com/networkproxy/internal/hostcall"
	"example.com/networkproxy/internal/learned"
	"example.com/networkproxy/internal/policy"
	"example.com/networkproxy/internal/tomltable"
)

// loadedConfig is a valid configuration with its lists compiled. It does not
// change.
type loadedConfig struct {
	*sourcedConfig
	limits      *requirements // the managed limits that it obeys; nil: none
	allow, deny *policy.RuleSet
	sockets     *policy.RuleSet
	inspection  *policy.Inspection // nil: TLS is never opened
	secrets     secretSources
	credentials *credential.Set // the providers, even while nothing is exchanged
	authority   *ca.Authority   // the one that TLS inspection began with; nil: made or loaded when it is needed
	cutBack     []string        // warnings about values that were cut back to the limits

	learnedAll    runtimeRules // of the learned file
	learned       runtimeRules // those within the limits
	withoutEffect []string     // warnings about those beyond the limits
}

// setLearned sets the content of the learned file.
func (l *loadedConfig) setLearned(all runtimeRules) {
	l.learnedAll, l.withoutEffect = all, nil
	l.learned = all.within(l.limits, func(_ string, at policy.Position, err error) {
		l.withoutEffect = append(l.withoutEffect, fmt.Sprintf("%s: a learned entry has no effect: %v", Position(at), err))
	})
}

// config returns a copy of the configuration with the learned entries.
func (l *loadedConfig) config() Config {
	c := l.Config.clone()
	c.Policy.AllowedDomains = append(c.Policy.AllowedDomains, l.learned.allow.entries...)
	c.Policy.DeniedDomains = append(c.Policy.DeniedDomains, l.learned.deny.entries...)
	return c
}

// sources is sourcedConfig.sources with the learned file as a source of the lists.
func (l *loadedConfig) sources() map[string]string {
	m := l.sourcedConfig.sources()
	for key, list := range map[string]runtimeList{keyAllowedDomains: l.learned.allow, keyDeniedDomains: l.learned.deny} {
		if len(list.at) > 0 {
			m[key] += ", " + list.at[0].File
		}
	}
	return m
}

// loadFirst loads the configuration for the start. It reports every mistake in
// it, including values that exceed the managed limits.
func (s *settings) loadFirst(ctx context.Context) (*loadedConfig, *filesRead, error) {
	if err := s.checkLearned(); err != nil {
		return nil, nil, err
	}
	reader := &filewatch.Reader{Paths: s.watched(), Start: true}
	readings, err := reader.Read(ctx, s.hooks.quiet)
	if err != nil {
		return nil, nil, err
	}
	files := &filesRead{readings: readings, pipes: reader.Pipes}
	src, err := s.sourceFrom(ctx, nil, files, nil)
	if err != nil {
		return nil, nil, err
	}
	l, err := s.check(src)
	if err == nil && src.Config.MITM {
		l.authority, err = s.ownAuthority(src)
	}
	if err != nil {
		return nil, nil, err
	}
	limits, err := s.limitsFrom(files, nil)
	if err != nil {
		return nil, nil, err
	}
	l.limits = limits
	if err := limits.check(src); err != nil {
		return nil, nil, err
	}
	all, err := s.learnedFrom(files)
	if err != nil {
		return nil, nil, err
	}
	l.setLearned(all)
	return l, files, nil
}

// checkLearned returns an error if the learned file cannot be used, for example
// because it is also a configuration file.
func (s *settings) checkLearned() error {
	if s.learned == nil {
		return nil
	}
	info, _ := os.Stat(s.learned.Path) // may be missing
	for _, path := range append(slices.Clone(s.files), s.requirements) {
		if other, err := os.Stat(path); path == s.learned.Path || err == nil && os.SameFile(info, other) {
			return &ConfigError{Position: Position{File: s.learned.Path},
				Problem: fmt.Sprintf("cannot be the learned file, because it is the configuration file %s: name a file that only networkproxy writes", path)}
		}
	}
	if err := s.learned.Check(); err != nil {
		return &ConfigError{Position: Position{File: s.learned.Path}, Problem: "cannot be the learned file: it " + err.Error(), Err: err}
	}
	return nil
}

// learnedFrom returns the entries of the learned file. A missing file has none.
func (s *settings) learnedFrom(files *filesRead) (runtimeRules, error) {
	if err := s.checkLearned(); s.learned == nil || err != nil {
		return runtimeRules{}, err
	}
	r := files.readings[len(s.files)]
	switch {
	case errors.Is(r.Err, fs.ErrNotExist):
		return runtimeRules{}, nil
	case r.Err != nil:
		return runtimeRules{}, readError(r.Err)
	}
	content, err := learned.Parse(r.Data)
	if err != nil {
		e := &ConfigError{Position: Position{File: r.Path}, Problem: err.Error(), Err: err}
		if format := (*learned.FormatError)(nil); errors.As(err, &format) {
			e.Position.Line, e.Position.Column, e.Problem = format.Line, format.Column, format.Problem
		}
		return runtimeRules{}, e
	}
	return parseLearned(r.Path, content)
}

// watched returns the files whose change causes a reload: the configuration files,
// the learned file, and the file of the managed limits, as far as they are set.
func (s *settings) watched() []string {
	paths := slices.Clone(s.files)
	if s.learned != nil {
		paths = append(paths, s.learned.Path)
	}
	if s.requirements != "" {
		paths = append(paths, s.requirements)
	}
	return paths
}

// filesRead are the files that a configuration was loaded from.
type filesRead struct {
	readings []filewatch.Reading // in the order of settings.watched
	pipes    map[string]filewatch.Reading
	tables   map[string]*tomltable.Table // of the configuration files, by path
	limits   *tomltable.Table            // of the file of managed limits; nil: none
	learned  uint64                      // activeConfig.learned before they were read
}

// withoutData returns a copy without the content of the files.
func (f *filesRead) withoutData() *filesRead {
	g := *f
	g.readings = slices.Clone(f.readings)
	for i := range g.readings {
		g.readings[i].Data = nil
	}
	return &g
}

// sourceFrom returns the configuration of the files, of the host's Config, or of
// the host's ConfigSource. calls counts the call of the ConfigSource; it may be
// nil. was is the files that were last put in force; nil at the start.
func (s *settings) sourceFrom(ctx context.Context, calls *hostcall.Calls, files, was *filesRead) (*sourcedConfig, error) {
	switch {
	case s.source != nil:
		c, err := hostcall.Call(ctx, calls, hostcall.ConfigSource, s.source)
		if err != nil {
			return nil, fmt.Errorf("the configuration source failed: %w", err)
		}
		return sourcedFromGo(c), nil
	case len(s.files) == 0:
		return sourcedFromGo(s.config), nil
	}
	var before map[string]*tomltable.Table
	if was != nil {
		before = was.tables
	}
	src, tables, err := mergeFiles(files.readings[:len(s.files)], before, s.adjust)
	files.tables = tables
	return src, err
}

// limitsFrom parses the managed limits. It returns nil if there are none.
func (s *settings) limitsFrom(files, was *filesRead) (*requirements, error) {
	if s.requirements == "" {
		return nil, nil
	}
	r := files.readings[len(files.readings)-1]
	if r.Err != nil {
		return nil, readError(r.Err)
	}
	var before *tomltable.Table
	if was != nil {
		before = was.limits
	}
	limits, table, err := parseRequirements(r.Path, r.Data, before)
	files.limits = table
	return limits, err
}

// readError returns the [*ConfigError] for the error of a reading.
func readError(err error) error {
	var e *filewatch.Error
	if !errors.As(err, &e) {
		return err
	}
	if e.Path == "" {
		return &ConfigError{Problem: "the path of a configuration file is empty"}
	}
	return &ConfigError{Position: Position{File: e.Path}, Problem: e.Problem, Err: e.Err}
}

// mergeFiles merges configuration files, whose values override those of earlier
// ones, and validates the result. Without files it returns the defaults. It
// reports every mistake in every file, each as a [*ConfigError]. was holds the
// tables that were last put in force, by path; it is nil at the start. adjust is
// called with the result before that is validated.
func mergeFiles(readings []filewatch.Reading, was map[string]*tomltable.Table, adjust func(*sourcedConfig)) (*sourcedConfig, map[string]*tomltable.Table, error) {
	var errs errorList
	s := newSourcedConfig()
	tables := make(map[string]*tomltable.Table)
	for _, r := range readings {
		if r.Err != nil {
			errs.add(readError(r.Err))
			continue
		}
		before := errs.len()
		t := s.read(r.Path, r.Data, &errs)
		if errs.len() == before {
			checkWhole(t, was[r.Path], &errs)
		}
		tables[r.Path] = t
	}
	adjust(s)
	s.checkValues(&errs)
	s.checkExempt(&errs)
	if errs.join() != nil {
		// The caller stops at an error, before it compiles the patterns.
		for _, key := range []string{keyAllowedDomains, keyDeniedDomains, keyMITMDomains, keyMITMExemptDomains} {
			s.patterns(key, &errs)
		}
		return nil, tables, errs.join()
	}
	return s, tables, nil
}

// lacksKeys reports whether a key is missing from a file that set it before.
func (s *settings) lacksKeys(readings []filewatch.Reading, was *filesRead) bool {
	for i, reading := range readings {
		before := was.limits
		switch {
		case i < len(s.files):
			before = was.tables[reading.Path]
		case i == len(s.files) && s.learned != nil:
			continue // entries are lines and no keys
		}
		if reading.Err != nil || reading.Pipe {
			continue
		}
		var errs errorList
		t := newSourcedConfig().read(reading.Path, reading.Data, &errs)
		checkWhole(t, before, &errs)
		if errs.len() == 0 && t.Lacks(before) { // otherwise the reload fails anyway
			return true
		}
	}
	return false
}

// check validates a configuration and compiles its lists. It reports every
// mistake except values that exceed the managed limits.
func (s *settings) check(src *sourcedConfig) (*loadedConfig, error) {
	s.adjust(src)
	s.addProviders(src)
	s.addDomains(src, keyAllowedDomains, &src.Config.Policy.AllowedDomains)
	s.addDomains(src, keyDeniedDomains, &src.Config.Policy.DeniedDomains)
	l := &loadedConfig{sourcedConfig: src}
	var errs errorList
	src.checkValues(&errs)
	src.checkExempt(&errs)
	l.allow = compileList(src, keyAllowedDomains, src.Config.Policy.AllowedDomains, &errs)
	l.deny = compileList(src, keyDeniedDomains, src.Config.Policy.DeniedDomains, &errs)
	l.sockets = allowedSockets(src)
	l.secrets = secretSources{s.environ, s.credentials}
	l.credentials = src.compileCredentials(l.secrets, &errs)
	l.inspection = compileInspection(src, l.credentials, &errs)
	src.compileEdits(l.inspection, l.secrets, &errs)
	errs.add(src.checkListeners(s.overrides(), s.unopened()...))
	errs.add(s.checkUpstreams(src))
	if err := errs.join(); err != nil {
		return nil, err
	}
	return l, nil
}

// adjust turns on the switches of src that the Builder sets.
func (s *settings) adjust(src *sourcedConfig) {
	turnOn := func(key string, value *bool) {
		if !*value {
			*value = true
			src.override(key)
		}
	}
	if s.embedded && !src.has(keyEnabled) {
		turnOn(keyEnabled, &src.Config.Enabled)
	}
	if s.adminReadOnly {
		turnOn(keyAdminReadOnly, &src.Config.AdminReadOnly)
	}
	if s.mitm {
		turnOn(keyMITM, &src.Config.MITM)
	}
}

// checkUpstreams reports an invalid proxy in the environment, if the
// configuration uses upstream proxies.
func (s *settings) checkUpstreams(src *sourcedConfig) error {
	if s.upstreamFault == nil || !src.Config.AllowUpstreamProxy {
		return nil
	}
	return &ConfigError{
		Position: src.position(keyAllowUpstreamProxy),
		Key:      keyAllowUpstreamProxy,
		Value:    "true",
		Problem:  "the environment variable " + s.upstreamFault.Error(),
		Err:      s.upstreamFault,
	}
}

// within returns a copy of l that obeys the limits r. Values that exceed them are
// cut back.
func (l *loadedConfig) within(r *requirements) *loadedConfig {
	bounded := *l
	bounded.limits = r
	bounded.setLearned(l.learnedAll)
	excess := r.check(l.sourcedConfig)
	if excess == nil {
		return &bounded
	}
	bounded.sourcedConfig = &sourcedConfig{Config: l.Config.clone(), warnings: l.warnings, places: l.places.Clone()}
	r.cut(bounded.sourcedConfig)
	var errs errorList // stays empty: the patterns are those of l
	bounded.allow = compileList(bounded.sourcedConfig, keyAllowedDomains, bounded.Config.Policy.AllowedDomains, &errs)
	bounded.deny = compileList(bounded.sourcedConfig, keyDeniedDomains, bounded.Config.Policy.DeniedDomains, &errs)
	bounded.sockets = allowedSockets(bounded.sourcedConfig)
	bounded.credentials = bounded.sourcedConfig.compileCredentials(l.secrets, &errs)
	bounded.inspection = compileInspection(bounded.sourcedConfig, bounded.credentials, &errs)
	bounded.compileEdits(bounded.inspection, l.secrets, &errs)
	bounded.cutBack = nil
	for _, line := range strings.Split(excess.Error(), "\n") {
		bounded.cutBack = append(bounded.cutBack, "cut back to the managed limits; the next start fails until the configuration obeys them: "+line)
	}
	return &bounded
}

// logRoute logs whether requests go to their targets directly or through
// upstream proxies.
func (s *settings) logRoute(log *slog.Logger, upstream bool) {
	if !upstream {
		log.Info("requests go to their targets directly; connections through upstream proxies are cut")
		return
	}
	proxies := s.upstreams.List()
	if len(proxies) == 0 {
		log.Warn("allow_upstream_proxy is true, but the environment names no proxy: requests go to their targets directly")
	}
	for _, p := range proxies {
		log.Info("requests go through an upstream proxy", "proxy", p.String(), "variable", p.Variable())
	}
}
