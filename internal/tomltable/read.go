// Package tomltable reads one table of a TOML file, strictly: unknown keys and
// values of the wrong type are errors, because a typo in a configuration must
// not silently change what it means. Tables of other programs in the same file
// are ignored. Every error and every value has its position in the file.
//
// A caller lists its keys as [Field] values, each with a pointer to the
// variable that receives the value. Reading several files into the same
// variables makes later files override earlier ones; a [Provenance] then tells
// which file each value came from.
package tomltable

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Field is a key of the table and the variable that receives its value.
type Field struct {
	// Key is the dotted key from the top of the file, like
	// "table.subtable.key". Its tables need no fields of their own.
	Key string

	// Value receives the value. It keeps its value if the file lacks the key.
	Value Value
}

// Table describes the table of one file: the keys that it sets, and where.
type Table struct {
	// File is the path of the file, as errors name it.
	File string

	// Present reports whether the file has the table.
	Present bool

	// LastHeader is the dotted key of the table whose header is the last
	// expression of the file, with the index of an array's element. It is empty
	// if the file ends otherwise.
	LastHeader string

	// Warnings are about other top-level tables whose names are similar.
	Warnings []string

	places map[string]place // by dotted key
}

// Has reports whether the file sets key. A nil Table sets no key.
func (t *Table) Has(key string) bool {
	if t == nil {
		return false
	}
	_, ok := t.places[key]
	return ok
}

// HasKeyIn reports whether the file sets a key of a table, not counting those
// of its subtables.
func (t *Table) HasKeyIn(table string) bool {
	if t == nil {
		return false
	}
	for key := range t.places {
		if rest, ok := strings.CutPrefix(key, table+"."); ok && !strings.Contains(rest, ".") {
			return true
		}
	}
	return false
}

// Lacks reports whether t does not set a key that before sets.
func (t *Table) Lacks(before *Table) bool {
	if before == nil {
		return false
	}
	for key := range before.places {
		if !t.Has(key) {
			return true
		}
	}
	return false
}

// Error is a mistake in a file.
type Error struct {
	Position Position
	Key      string // dotted, with the index of an array's element; may be empty
	Problem  string // may be empty where Err is set
	Err      error  // the cause, or nil
}

func (e *Error) Error() string {
	parts := []string{e.Position.String()}
	if e.Key != "" {
		parts = append(parts, e.Key)
	}
	switch {
	case e.Problem != "":
		parts = append(parts, e.Problem)
	case e.Err != nil:
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Read reads the table named root, with its subtables, from the text of a file
// into fields. It calls report with every mistake. After a mistake it continues
// and stores the valid values, so that a caller can go on to report mistakes of
// other kinds.
//
// go-toml's own decoding cannot do this: it ignores the case of keys and keeps
// no positions. It still decides what is valid TOML, including duplicate keys
// and impossible dates; only then does Read walk through the expressions.
func Read(file string, data []byte, root string, fields []Field, report func(*Error)) *Table {
	t := &Table{File: file, places: make(map[string]place)}
	data = bytes.TrimPrefix(data, []byte("\uFEFF")) // a byte order mark
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		report(&Error{Position: Position{File: file, Line: 1, Column: 1}, Problem: "the text is UTF-16: save the file as UTF-8"})
		return t
	}
	if err := toml.Unmarshal(data, &map[string]any{}); err != nil {
		report(syntaxError(file, err))
		return t
	}

	r := &reader{
		table:    t,
		names:    newNames(root, fields),
		values:   make(map[string]Value),
		arrays:   make(map[string]*openTables),
		maps:     make(map[string]*openMap),
		named:    make(map[string]bool),
		rejected: make(map[string]bool),
		report:   report,
	}
	for _, f := range fields {
		r.values[f.Key] = f.Value
	}
	r.lines.data = data
	r.parser.Reset(data)
	r.walk()
	if err := r.parser.Error(); err != nil {
		// Unmarshal accepted the same bytes with the same parser.
		report(&Error{Position: Position{File: file}, Err: err})
	}
	for _, a := range slices.Backward(r.opened) { // inner arrays first, because store copies the elements
		a.store()
	}
	for _, m := range r.maps {
		m.store()
	}
	r.reportLookalikes()
	return t
}

// syntaxError converts an error of go-toml.
func syntaxError(file string, err error) *Error {
	e := &Error{
		Position: Position{File: file},
		Problem:  strings.TrimPrefix(err.Error(), "toml: "),
	}
	if strings.HasPrefix(e.Problem, "expected keyword") {
		e.Problem += ", or a string in quotes"
	}
	var decode *toml.DecodeError
	if errors.As(err, &decode) {
		e.Position.Line, e.Position.Column = decode.Position()
	}
	return e
}

// reader walks through the expressions of one valid TOML document, in order.
type reader struct {
	table  *Table
	names  names
	values map[string]Value       // by dotted key, also those of the elements of arrays of tables
	arrays map[string]*openTables // arrays of tables that the file has, by dotted key
	opened []*openTables          // the same in the order of their first elements
	maps   map[string]*openMap    // tables of tables that the file has, by dotted key
	named  map[string]bool        // the dotted keys of the tables in them
	parser unstable.Parser
	lines  lineCounter

	report   func(*Error)
	reported int             // number of calls of report
	rejected map[string]bool // dotted keys that were reported; keys below them are skipped

	lookalikes []keyPart // top-level keys that look like a misspelling of the root table
}

// keyPart is one part of a dotted key, and its range in the text.
type keyPart struct {
	name    string
	raw     unstable.Range
	element int // 1 more than the index of the table in the array that the key names; 0 if it names none
}

func (r *reader) walk() {
	var table []keyPart
	for r.parser.NextExpression() {
		e := r.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = appendKey(nil, e.Key())
			r.table.LastHeader = ""
			if r.isOurs(table) {
				r.selectElements(table)
				r.header(table, e.Kind == unstable.ArrayTable)
				r.table.LastHeader = dotted(table)
			}
		case unstable.KeyValue:
			r.table.LastHeader = ""
			// Skip the tables of other programs, which may be large.
			if len(table) > 0 && table[0].name != r.names.root {
				continue
			}
			key := appendKey(table[:len(table):len(table)], e.Key())
			if r.isOurs(key) {
				r.keyValue(key, e.Value())
			}
		}
	}
}

func appendKey(dst []keyPart, it unstable.Iterator) []keyPart {
	for it.Next() {
		n := it.Node()
		dst = append(dst, keyPart{name: string(n.Data), raw: n.Raw})
	}
	return dst
}

// isOurs reports whether key is in the root table. It collects top-level keys
// that look like a misspelling of that.
func (r *reader) isOurs(key []keyPart) bool {
	top := key[0]
	if top.name == r.names.root {
		r.table.Present = true
		return true
	}
	if !r.rejected[top.name] && r.names.similarTable(top.name) != "" {
		r.rejected[top.name] = true
		r.lookalikes = append(r.lookalikes, top)
	}
	return false
}

// header checks a [table] or [[array of tables]] line.
func (r *reader) header(key []keyPart, isArray bool) {
	last := &key[len(key)-1]
	last.element = 0 // of the element before
	name := dotted(key)
	if array, ok := r.values[name].(tableArray); ok && !r.rejected[name] && r.isTable(key[:len(key)-1]) {
		at := r.keyPos(*last)
		if !isArray {
			r.reject(key, at, "must be an array of tables, not one table: write "+arrayHeader(name))
			return
		}
		r.openArray(name, array, at).grow(r, key, at)
		return
	}
	if !r.isTable(key) {
		return
	}
	if isArray {
		r.reject(key, r.keyPos(key[len(key)-1]), fmt.Sprintf("must be one table, not an array of tables: write [%s]", withoutElements(dotted(key))))
	}
}

// isTable reports whether key and each of its prefixes is the root table or one
// of its subtables. It rejects the first part that is not.
func (r *reader) isTable(key []keyPart) bool {
	for i := range key {
		k := key[:i+1]
		switch name := dotted(k); {
		case r.rejected[name]:
			return false
		case r.isNamed(key, i), r.names.isTable(name), key[i].element > 0:
		case isFreeTable(r.values[name]):
			if i < len(key)-1 {
				r.reject(key, r.keyPos(key[i+1]), "must be an array of strings, not a table")
				return false
			}
		case r.values[name] != nil:
			hint := ""
			if _, ok := r.values[name].(tableArray); ok {
				hint = ": write " + arrayHeader(name)
			}
			r.reject(k, r.keyPos(key[i]), "must be "+r.values[name].expects()+", not a table"+hint)
			return false
		default:
			r.reject(k, r.keyPos(key[i]), r.unknownKey(k))
			return false
		}
	}
	return true
}

// isNamed reports whether part i of a key is a table of tables, or one of its tables,
// whose fields are known afterwards.
func (r *reader) isNamed(key []keyPart, i int) bool {
	if _, ok := r.values[dotted(key[:i+1])].(tableMap); ok {
		return true
	}
	if i == 0 {
		return false
	}
	v, ok := r.values[dotted(key[:i])].(tableMap)
	if ok {
		r.openNamed(key[:i+1], v)
	}
	return ok
}

// keyValue stores the value of key.
func (r *reader) keyValue(key []keyPart, n *unstable.Node) {
	last := len(key) - 1
	if !r.isTable(key[:last]) {
		return
	}
	name := dotted(key)
	if r.rejected[name] {
		return
	}
	if table, ok := r.values[dotted(key[:last])].(stringLists); ok {
		table.readEntry(r, key, n)
		return
	}
	if r.names.isTable(name) || r.isNamed(key, last) {
		r.inlineTable(key, n)
		return
	}
	value, ok := r.values[name]
	if !ok {
		r.reject(key, r.keyPos(key[last]), r.unknownKey(key))
		return
	}
	offset := r.valueOffset(key[last], n)
	at := r.lines.pos(offset)
	if n.Kind != value.kind() {
		r.reject(key, at, fmt.Sprintf("must be %s, not %s%s", value.expects(), kindName(n.Kind), value.correction(n)))
		return
	}
	p := place{file: r.table.File, at: at}
	if value.read(r, key, n, offset, &p) {
		r.table.places[name] = p
	}
}

// inlineTable stores the values of key = { ... }.
func (r *reader) inlineTable(key []keyPart, n *unstable.Node) {
	if n.Kind != unstable.InlineTable {
		at := r.lines.pos(r.valueOffset(key[len(key)-1], n))
		r.reject(key, at, fmt.Sprintf("must be a table, not %s: write [%s] above its keys", kindName(n.Kind), dotted(key)))
		return
	}
	for it := n.Children(); it.Next(); {
		child := it.Node()
		r.keyValue(appendKey(key[:len(key):len(key)], child.Key()), child.Value())
	}
}

// reportLookalikes reports top-level keys that look like a misspelling of the
// root table. If the file has the root table too, a key that differs in more than
// case and punctuation is only a warning.
func (r *reader) reportLookalikes() {
	t := r.table
	for _, k := range r.lookalikes {
		table := r.names.similarTable(k.name)
		problem := fmt.Sprintf("unknown table; did you mean [%s]?", table)
		if t.Present && !sameLetters(k.name, table) {
			t.Warnings = append(t.Warnings, fmt.Sprintf("%s: %s: %s", r.keyPos(k).in(t.File), showKey(k.name), problem))
			continue
		}
		r.add(&Error{Position: r.keyPos(k).in(t.File), Key: showKey(k.name), Problem: problem})
	}
}

// reject reports a problem with key. The reader then skips all keys below it.
func (r *reader) reject(key []keyPart, at pos, problem string) {
	name := dotted(key)
	r.rejected[name] = true
	r.add(&Error{Position: at.in(r.table.File), Key: name, Problem: problem})
}

func (r *reader) add(e *Error) {
	r.reported++
	r.report(e)
}

// maxHints is the number of errors after which unknown keys get no hint. A hint
// takes a comparison with every known key, which is too much for a file with a
// million unknown keys.
const maxHints = 20

// unknownKey returns the problem with a key whose last part is unknown.
func (r *reader) unknownKey(key []keyPart) string {
	if r.reported >= maxHints {
		return "unknown key"
	}
	last := len(key) - 1
	table := dotted(key[:last])
	if r.named[table] {
		table = dotted(key[:last-1]) // names has the keys of all its tables there
	}
	return r.names.unknownKey(table, key[last].name)
}

func (r *reader) keyPos(k keyPart) pos { return r.lines.pos(int(k.raw.Offset)) }

// valueOffset returns the offset of the value of key. An array node has no
// range, so its bracket is searched for after the key.
func (r *reader) valueOffset(key keyPart, n *unstable.Node) int {
	if n.Kind == unstable.Array {
		return skip(r.lines.data, int(key.raw.Offset+key.raw.Length), " \t=")
	}
	return int(n.Raw.Offset)
}

// skip returns the first offset, from off on, of a byte that is neither in set
// nor part of a comment.
func skip(data []byte, off int, set string) int {
	for off < len(data) {
		switch c := data[off]; {
		case c == '#':
			end := bytes.IndexByte(data[off:], '\n')
			if end < 0 {
				return len(data)
			}
			off += end
		case strings.IndexByte(set, c) >= 0:
			off++
		default:
			return off
		}
	}
	return off
}
