// Where the values of a configuration were set.

package tomltable

import (
	"maps"
	"slices"
	"strings"
)

// Provenance records where each value of a configuration was set: in one of
// several files, or from Go. Other values are defaults. The zero value records
// none. It may be read concurrently.
type Provenance struct {
	places map[string]place // by dotted key
}

// place is where one value was set.
type place struct {
	file  string // empty: set from Go
	at    pos    // of the value
	items []pos  // of the elements, for an array

	// added are the positions of the elements from index own on, which may be
	// in other files.
	own   int
	added []Position
}

// The descriptions of values that are in no file.
const (
	SetFromGo = "set from Go"
	ByDefault = "default"
)

// Add records the values of a table, which replace earlier ones; arrays are
// replaced whole.
func (p *Provenance) Add(t *Table) {
	if p.places == nil {
		p.places = make(map[string]place)
	}
	for key := range p.places { // elements of an array of tables that t replaces
		if array, _, ok := strings.Cut(key, "["); ok && t.Has(array) {
			delete(p.places, key)
		}
	}
	maps.Copy(p.places, t.places)
}

// Override records that Go code has set the value of key.
func (p *Provenance) Override(key string) { p.set(key, place{}) }

// CopyFrom records that the value of key was copied from another configuration.
func (p *Provenance) CopyFrom(from *Provenance, key string) { p.set(key, from.places[key]) }

func (p *Provenance) set(key string, at place) {
	if p.places == nil {
		p.places = make(map[string]place)
	}
	p.places[key] = at
}

// Select records that only the elements at these indexes remain in an array.
func (p *Provenance) Select(key string, indexes []int) {
	position := p.ItemPositions(key)
	at := p.places[key]
	at.items, at.own, at.added = nil, 0, nil
	for _, i := range indexes {
		at.added = append(at.added, position(i))
	}
	p.set(key, at)
}

// Extend records that elements were appended to an array of n elements, and their
// positions.
func (p *Provenance) Extend(key string, n int, added []Position) {
	at := p.places[key]
	if len(at.added) > 0 { // keep the positions of those that were added before
		position := p.ItemPositions(key)
		var all []Position
		for i := at.own; i < n; i++ {
			all = append(all, position(i))
		}
		n, added = at.own, append(all, added...)
	}
	at.own, at.added = n, added
	p.set(key, at)
}

// Clone returns an independent copy.
func (p *Provenance) Clone() Provenance { return Provenance{maps.Clone(p.places)} }

// Has reports whether key was set, in a file or from Go.
func (p *Provenance) Has(key string) bool {
	_, ok := p.places[key]
	return ok
}

// Position returns the position of the value of key. It is zero for a default
// and for a value set from Go.
func (p *Provenance) Position(key string) Position {
	at := p.places[key]
	if at.file == "" {
		return Position{}
	}
	return at.at.in(at.file)
}

// ItemPosition returns the position of element i of the array key. It is zero if
// there is no such element, or if it was set from Go.
func (p *Provenance) ItemPosition(key string, i int) Position { return p.ItemPositions(key)(i) }

// ItemPositions returns a function that is ItemPosition for one array.
func (p *Provenance) ItemPositions(key string) func(i int) Position {
	at := p.places[key]
	return func(i int) Position {
		if n := i - at.own; n >= 0 && n < len(at.added) {
			return at.added[n]
		}
		if at.file == "" || i < 0 || i >= len(at.items) {
			return Position{}
		}
		return at.items[i].in(at.file)
	}
}

// Describe returns where the value of key was set, for messages:
// "file:line:column", [SetFromGo] or [ByDefault]. The sources of added elements
// that are not in a file follow, as in "file:line:column, the flag -allow".
func (p *Provenance) Describe(key string) string {
	at, ok := p.places[key]
	var all []string
	switch {
	case !ok:
		return ByDefault
	case at.file != "":
		all = append(all, at.at.in(at.file).String())
	case at.own > 0 || len(at.added) == 0:
		all = append(all, SetFromGo)
	}
	for _, a := range at.added {
		if a.Line == 0 && a.File != "" && !slices.Contains(all, a.File) {
			all = append(all, a.File)
		}
	}
	if len(all) == 0 {
		return SetFromGo
	}
	return strings.Join(all, ", ")
}
