// Values that are tables: arrays of tables, and tables whose keys are free.

package tomltable

import (
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Tables returns a Value for an array of tables. fields lists the values of one
// element, with keys that are relative to it. In a file, the array is written as
// [[table.key]] or as an array of inline tables. A later file replaces all elements.
// The elements may have such arrays themselves, but of other types.
func Tables[T any](p *[]T, fields func(*T) []Field) Value { return tables[T]{p, fields} }

// tableArray is a Value for an array of tables, of any type.
type tableArray interface {
	Value

	// fields returns the fields of an element that is thrown away.
	fields() []Field

	// open returns functions that add an element, and that store all elements.
	open() (grow func() []Field, store func())
}

type tables[T any] struct {
	p        *[]T
	fieldsOf func(*T) []Field
}

func (t tables[T]) Text() string           { return "" }
func (t tables[T]) Unset() bool            { return len(*t.p) == 0 }
func (t tables[T]) Equal(other Value) bool { return reflect.DeepEqual(*t.p, *other.(tables[T]).p) }
func (t tables[T]) Copy(from Value)        { *t.p = *from.(tables[T]).p }
func (t tables[T]) kind() unstable.Kind    { return unstable.Array }
func (t tables[T]) expects() string        { return "an array of tables" }
func (t tables[T]) fields() []Field        { return t.fieldsOf(new(T)) }

func (t tables[T]) correction(n *unstable.Node) string {
	if n.Kind == unstable.InlineTable {
		return ": write [{ ... }]"
	}
	return ""
}

func (t tables[T]) open() (grow func() []Field, store func()) {
	var elements []*T // pointers, because the fields of an element point into it
	grow = func() []Field {
		e := new(T)
		elements = append(elements, e)
		return t.fieldsOf(e)
	}
	store = func() {
		*t.p = make([]T, len(elements))
		for i, e := range elements {
			(*t.p)[i] = *e
		}
	}
	return grow, store
}

// read stores an array of inline tables. It stops at the first element that is
// something else.
func (t tables[T]) read(r *reader, key []keyPart, array *unstable.Node, offset int, p *place) bool {
	name := dotted(key)
	open := r.openArray(name, t, p.at)
	from := offset + 1 // see list.read
	for it := array.Children(); it.Next(); {
		n := it.Node()
		start := int(n.Raw.Offset)
		if n.Kind == unstable.Array || n.Kind == unstable.InlineTable {
			start = skip(r.lines.data, from, " \t\r\n,")
		}
		at := r.lines.pos(start)
		if n.Kind != unstable.InlineTable {
			r.add(&Error{Position: at.in(r.table.File), Key: ItemKey(name, len(open.items)), Problem: "must be a table, not " + kindName(n.Kind)})
			return false
		}
		element := slices.Clone(key)
		open.grow(r, element, at)
		r.inlineTable(element, n)
		from = r.inlineEnd(start)
	}
	*p = place{file: r.table.File, at: p.at, items: open.items}
	return true
}

// openTables is an array of tables while a file is read.
type openTables struct {
	name  string // dotted key
	at    pos
	add   func() []Field
	store func()
	items []pos // of the elements
}

// openArray returns the array of tables with this name.
func (r *reader) openArray(name string, v tableArray, at pos) *openTables {
	a := r.arrays[name]
	if a == nil {
		a = &openTables{name: name, at: at}
		a.add, a.store = v.open()
		r.arrays[name] = a
		r.opened = append(r.opened, a)
	}
	return a
}

// grow adds an element, and makes the last part of key refer to it.
func (a *openTables) grow(r *reader, key []keyPart, at pos) {
	a.items = append(a.items, at)
	key[len(key)-1].element = len(a.items)
	element := dotted(key)
	for _, f := range a.add() {
		r.values[element+"."+f.Key] = f.Value
	}
	r.table.places[a.name] = place{file: r.table.File, at: a.at, items: a.items}
	r.table.places[element] = place{file: r.table.File, at: at}
}

// selectElements makes the parts of a header refer to the last element of each array
// of tables that they name (TOML 1.0, "Array of Tables").
func (r *reader) selectElements(key []keyPart) {
	for i := range key[:len(key)-1] {
		name := dotted(key[:i+1])
		if a := r.arrays[name]; a != nil {
			key[i].element = len(a.items)
		} else if !r.names.isTable(name) {
			return // nothing below it is an array
		}
	}
}

// inlineEnd returns the offset after the inline table that begins at off. It skips
// strings and comments, which may contain braces.
func (r *reader) inlineEnd(off int) int {
	data, depth := r.lines.data, 0
	for off < len(data) {
		switch c := data[off]; c {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return off + 1
			}
		case '#':
			off = skip(data, off, "")
			continue
		case '"', '\'':
			off = stringEnd(data, off)
			continue
		}
		off++
	}
	return off
}

// stringEnd returns the offset after the string that begins at off.
func stringEnd(data []byte, off int) int {
	quote, n := data[off], 1
	if off+2 < len(data) && data[off+1] == quote && data[off+2] == quote {
		n = 3 // a multi-line string
	}
	run := 0
	for off += n; off < len(data) && run < n; off++ {
		switch {
		case data[off] == quote:
			run++
		case data[off] == '\\' && quote == '"':
			off, run = off+1, 0
		default:
			run = 0
		}
	}
	for n == 3 && off < len(data) && data[off] == quote { // quotes at the end of the text
		off++
	}
	return off
}

// StringLists returns a Value for a table whose keys are free and whose values are
// arrays of strings.
func StringLists(p *map[string][]string) Value { return stringLists{p} }

type stringLists struct{ p *map[string][]string }

func (t stringLists) Text() string { return "" }
func (t stringLists) Unset() bool  { return len(*t.p) == 0 }
func (t stringLists) Equal(other Value) bool {
	return maps.EqualFunc(*t.p, *other.(stringLists).p, slices.Equal)
}
func (t stringLists) Copy(from Value)     { *t.p = *from.(stringLists).p }
func (t stringLists) kind() unstable.Kind { return unstable.InlineTable }
func (t stringLists) expects() string     { return "a table" }

func (t stringLists) correction(*unstable.Node) string { return "" }

func (t stringLists) read(r *reader, key []keyPart, table *unstable.Node, _ int, _ *place) bool {
	for it := table.Children(); it.Next(); {
		child := it.Node()
		r.keyValue(appendKey(key[:len(key):len(key)], child.Key()), child.Value())
	}
	return true
}

// readEntry stores the value of one key.
func (t stringLists) readEntry(r *reader, key []keyPart, n *unstable.Node) {
	var entries []string
	value := Strings(&entries)
	offset := r.valueOffset(key[len(key)-1], n)
	p := place{file: r.table.File, at: r.lines.pos(offset)}
	if n.Kind != value.kind() {
		r.reject(key, p.at, fmt.Sprintf("must be %s, not %s%s", value.expects(), kindName(n.Kind), value.correction(n)))
		return
	}
	if !value.read(r, key, n, offset, &p) {
		return
	}
	if *t.p == nil {
		*t.p = make(map[string][]string)
	}
	(*t.p)[key[len(key)-1].name] = entries
	r.table.places[dotted(key)] = p
}

func isFreeTable(v Value) bool {
	_, ok := v.(stringLists)
	return ok
}

// NamedTables returns a Value for a table of tables, whose names are free. fields lists
// the values of one of them, with keys that are relative to it. Several files merge the
// tables of the same name, key by key.
func NamedTables[T any](p *map[string]T, fields func(*T) []Field) Value {
	return namedTables[T]{p, fields}
}

// tableMap is a Value for a table of tables, of any type.
type tableMap interface {
	Value

	// fields returns the fields of a table that is thrown away.
	fields() []Field

	// open returns functions that return the fields of a named table, and that store
	// all tables.
	open() (table func(name string) []Field, store func())
}

type namedTables[T any] struct {
	p        *map[string]T
	fieldsOf func(*T) []Field
}

func (t namedTables[T]) Text() string { return "" }
func (t namedTables[T]) Unset() bool  { return len(*t.p) == 0 }
func (t namedTables[T]) Equal(other Value) bool {
	return reflect.DeepEqual(*t.p, *other.(namedTables[T]).p)
}
func (t namedTables[T]) Copy(from Value)     { *t.p = *from.(namedTables[T]).p }
func (t namedTables[T]) kind() unstable.Kind { return unstable.InlineTable }
func (t namedTables[T]) expects() string     { return "a table" }
func (t namedTables[T]) fields() []Field     { return t.fieldsOf(new(T)) }

func (t namedTables[T]) correction(*unstable.Node) string { return "" }

func (t namedTables[T]) open() (table func(name string) []Field, store func()) {
	tables := make(map[string]*T)
	table = func(name string) []Field {
		e := new(T)
		*e = (*t.p)[name] // of an earlier file
		tables[name] = e
		return t.fieldsOf(e)
	}
	store = func() {
		merged := maps.Clone(*t.p)
		if merged == nil {
			merged = make(map[string]T)
		}
		for name, e := range tables {
			merged[name] = *e
		}
		*t.p = merged
	}
	return table, store
}

// read stores { name = { ... } }.
func (t namedTables[T]) read(r *reader, key []keyPart, table *unstable.Node, _ int, _ *place) bool {
	for it := table.Children(); it.Next(); {
		child := it.Node()
		r.keyValue(appendKey(key[:len(key):len(key)], child.Key()), child.Value())
	}
	return true
}

// openNamed makes the fields of a named table known. key is that of the table.
func (r *reader) openNamed(key []keyPart, v tableMap) {
	name := dotted(key)
	if r.named[name] {
		return
	}
	parent := dotted(key[:len(key)-1])
	m := r.maps[parent]
	if m == nil {
		m = new(openMap)
		m.table, m.store = v.open()
		r.maps[parent] = m
		r.table.places[parent] = place{file: r.table.File, at: r.keyPos(key[len(key)-1])}
	}
	r.named[name] = true
	for _, f := range m.table(key[len(key)-1].name) {
		r.values[name+"."+f.Key] = f.Value
	}
}

// openMap is a table of tables while a file is read.
type openMap struct {
	table func(name string) []Field
	store func()
}
