// Where the values of a configuration were set.

package tomltable

import (
	"maps"
)

// Provenance records where each value of a configuration was set: in which of
// several files, from Go, or nowhere, which leaves the default. In the zero
// value all are defaults. It may be used concurrently while nothing changes it.
type Provenance struct {
	places map[string]place // by dotted key; values that are not defaults
}

// place is where one value was set.
type place struct {
	file  string // empty: set from Go
	at    pos    // of the value
	items []pos  // of the elements, for an array

	// added are the positions of the elements from index own on. They come
	// from other files than the array itself.
	own   int
	added []Position
}

// The text of Describe for a value that is in no file.
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

// Select records that an array has kept only the elements of these indexes, in
// this order.
func (p *Provenance) Select(key string, indexes []int) {
	at := p.places[key]
	var items []pos
	for _, i := range indexes {
		if i < len(at.items) {
			items = append(items, at.items[i])
		}
	}
	at.items = items
	p.set(key, at)
}

// Extend records that elements of other files follow the first n of an array,
// with their positions.
func (p *Provenance) Extend(key string, n int, added []Position) {
	at := p.places[key]
	at.own, at.added = n, added
	p.set(key, at)
}

// Clone returns a copy that may be changed on its own.
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

// ItemPosition returns the position of element i of the array key. It is zero
// where there is no such element, and for one set from Go.
func (p *Provenance) ItemPosition(key string, i int) Position { return p.ItemPositions(key)(i) }

// ItemPositions returns ItemPosition for one array.
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
// "file:line:column", [SetFromGo] or [ByDefault].
func (p *Provenance) Describe(key string) string {
	switch at, ok := p.places[key]; {
	case !ok:
		return ByDefault
	case at.file == "":
		return SetFromGo
	default:
		return at.at.in(at.file).String()
	}
}
