// Configuration in layers: several files, later over earlier, and for every
// value the place it came from.

package networkproxy

import (
	"fmt"
	"slices"
)

// sourcedConfig is a configuration and where each of its values came from. It does
// not change once it is built, except through override before it is used.
type sourcedConfig struct {
	Config Config

	// warnings is what loading found odd, in the order it was found.
	warnings []string

	// places holds, by dotted key, the values that are not defaults.
	places map[string]place
}

// place is where one value came from.
type place struct {
	file  string     // empty: set from Go
	at    position   // of the value
	items []position // of the elements, for an array

	// added are the elements behind the first own ones, which the managed
	// limits require and the configuration lacks.
	own   int
	added []Position
}

// position is a place in a file, small enough for one to be kept for every
// pattern of a long list.
type position struct {
	line, column uint32
}

func (p position) in(file string) Position {
	return Position{File: file, Line: int(p.line), Column: int(p.column)}
}

// newSourcedConfig returns the defaults.
func newSourcedConfig() *sourcedConfig {
	return &sourcedConfig{Config: DefaultConfig(), places: make(map[string]place)}
}

// sourcedFromGo returns a configuration that was set from Go. An empty text
// stands for its default.
func sourcedFromGo(c Config) *sourcedConfig {
	s := newSourcedConfig()
	from := c.clone()
	given := from.fields()
	for i, f := range s.Config.fields() {
		if copyGiven(f.value, given[i].value) {
			s.places[f.key] = place{}
		}
	}
	return s
}

// copyGiven copies the value at src over the one at dst, unless that changes
// nothing or src is an empty value that stands for the default.
func copyGiven(dst, src any) bool {
	switch dst := dst.(type) {
	case *bool:
		return assign(dst, *src.(*bool), *dst == *src.(*bool))
	case *string:
		v := *src.(*string)
		return assign(dst, v, v == "" || v == *dst)
	case *Mode:
		v := *src.(*Mode)
		return assign(dst, v, v == "" || v == *dst)
	case *SNICheck:
		v := *src.(*SNICheck)
		return assign(dst, v, v == "" || v == *dst)
	case *[]string:
		v := *src.(*[]string)
		return assign(dst, v, len(v) == 0)
	}
	return false
}

func assign[T any](dst *T, v T, same bool) bool {
	if !same {
		*dst = v
	}
	return !same
}

// override notes that Go code replaced the values of keys in s.Config.
func (s *sourcedConfig) override(keys ...string) {
	for _, k := range keys {
		s.places[k] = place{}
	}
}

// apply lays l over s: every value that l sets replaces the one that s had,
// arrays whole.
func (s *sourcedConfig) apply(l *layer) {
	for _, f := range s.Config.fields() {
		v, ok := l.values[f.key]
		if !ok {
			continue
		}
		switch dst := f.value.(type) {
		case *bool:
			*dst = v.boolean
		case *string:
			*dst = v.text
		case *Mode:
			*dst = Mode(v.text)
		case *SNICheck:
			*dst = SNICheck(v.text)
		case *[]string:
			*dst = v.list
		}
		s.places[f.key] = place{file: l.file, at: v.at, items: v.items}
	}
	s.warnings = append(s.warnings, l.warnings...)
}

// position returns where the value of key stands; zero for a default and for a
// value set from Go.
func (s *sourcedConfig) position(key string) Position {
	p, ok := s.places[key]
	if !ok || p.file == "" {
		return Position{}
	}
	return p.at.in(p.file)
}

// itemPosition returns where element i of the array key stands.
func (s *sourcedConfig) itemPosition(key string, i int) Position { return s.itemPositions(key)(i) }

// itemPositions is itemOrigin for one array.
func (s *sourcedConfig) itemPositions(key string) func(i int) Position {
	p := s.places[key]
	return func(i int) Position {
		if n := i - p.own; n >= 0 && n < len(p.added) {
			return p.added[n]
		}
		if p.file == "" || i < 0 || i >= len(p.items) {
			return Position{}
		}
		return p.items[i].in(p.file)
	}
}

// How the source of a value is named when it is no file.
const (
	setFromGo = "set from Go"
	byDefault = "default"
)

// describe names the source of a value for people: "file:line:column",
// "set from Go" or "default".
func (s *sourcedConfig) describe(key string) string {
	switch p, ok := s.places[key]; {
	case !ok:
		return byDefault
	case p.file == "":
		return setFromGo
	default:
		return p.at.in(p.file).String()
	}
}

// has reports whether key was set, by a file or from Go.
func (s *sourcedConfig) has(key string) bool {
	_, ok := s.places[key]
	return ok
}

// sources returns the source of every value by its dotted key, as describe names
// it.
func (s *sourcedConfig) sources() map[string]string {
	m := make(map[string]string)
	for _, f := range s.Config.fields() {
		m[f.key] = s.describe(f.key)
	}
	return m
}

// notices returns the warnings of loading, and those that depend on how the
// values came out in the end.
func (s *sourcedConfig) notices() []string {
	out := slices.Clone(s.warnings)
	if s.Config.EnableSOCKS5UDP && !s.Config.EnableSOCKS5 {
		out = append(out, fmt.Sprintf("%s (%s) has no effect while enable_socks5 is false: nothing listens for SOCKS5",
			keyEnableSOCKS5UDP, s.describe(keyEnableSOCKS5UDP)))
	}
	return out
}
