package tomltable

import (
	"slices"
	"strconv"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Value is a pointer to one value of a configuration. [Bool], [String] and
// [Strings] return Values.
type Value interface {
	// Text returns the text of a string and the name of a boolean. It is
	// empty for an array.
	Text() string

	// Unset reports whether the value is empty, which stands for a default.
	// A boolean is never unset.
	Unset() bool

	// Equal reports whether the value equals that of a Value of the same type.
	Equal(other Value) bool

	// Copy sets the value to that of a Value of the same type. Both then
	// share the elements of an array.
	Copy(from Value)

	kind() unstable.Kind // of the nodes that read accepts
	expects() string     // describes these in errors

	// correction returns a hint for a node of another kind, like
	// ": write true without quotes", or "".
	correction(n *unstable.Node) string

	// read stores the value of a node of the right kind, which begins at
	// offset. For an array it adds the positions of the elements to p. It
	// returns false after it has reported a mistake.
	read(r *reader, key []keyPart, n *unstable.Node, offset int, p *place) bool
}

// Bool returns a Value for a boolean.
func Bool(p *bool) Value { return boolean{p} }

type boolean struct{ p *bool }

func (b boolean) Text() string           { return strconv.FormatBool(*b.p) }
func (b boolean) Unset() bool            { return false }
func (b boolean) Equal(other Value) bool { return *b.p == *other.(boolean).p }
func (b boolean) Copy(from Value)        { *b.p = *from.(boolean).p }
func (b boolean) kind() unstable.Kind    { return unstable.Bool }
func (b boolean) expects() string        { return "true or false" }

func (b boolean) correction(n *unstable.Node) string {
	if text := string(n.Data); text == "true" || text == "false" {
		return ": write " + text + " without quotes"
	}
	return ""
}

func (b boolean) read(_ *reader, _ []keyPart, n *unstable.Node, _ int, _ *place) bool {
	*b.p = n.Data[0] == 't'
	return true
}

// String returns a Value for a string. An empty string in a file is a mistake,
// because an empty variable stands for the default.
func String[T ~string](p *T) Value { return text[T]{p} }

type text[T ~string] struct{ p *T }

func (t text[T]) Text() string                     { return string(*t.p) }
func (t text[T]) Unset() bool                      { return *t.p == "" }
func (t text[T]) Equal(other Value) bool           { return *t.p == *other.(text[T]).p }
func (t text[T]) Copy(from Value)                  { *t.p = *from.(text[T]).p }
func (t text[T]) kind() unstable.Kind              { return unstable.String }
func (t text[T]) expects() string                  { return "a string" }
func (t text[T]) correction(*unstable.Node) string { return "" }

func (t text[T]) read(r *reader, key []keyPart, n *unstable.Node, _ int, p *place) bool {
	if len(n.Data) == 0 {
		r.reject(key, p.at, "is empty: remove the line to get the default")
		return false
	}
	*t.p = T(n.Data)
	return true
}

// Strings returns a Value for an array of strings.
func Strings(p *[]string) Value { return list{p} }

type list struct{ p *[]string }

func (l list) Text() string           { return "" }
func (l list) Unset() bool            { return len(*l.p) == 0 }
func (l list) Equal(other Value) bool { return slices.Equal(*l.p, *other.(list).p) }
func (l list) Copy(from Value)        { *l.p = *from.(list).p }
func (l list) kind() unstable.Kind    { return unstable.Array }
func (l list) expects() string        { return "an array of strings" }

func (l list) correction(n *unstable.Node) string {
	if n.Kind == unstable.String {
		return ": write [" + Quote(string(n.Data)) + "]"
	}
	return ""
}

// read stops at the first element that is not a string.
func (l list) read(r *reader, key []keyPart, array *unstable.Node, offset int, p *place) bool {
	elements := []string{} // not nil: [] in JSON
	// An array node has no range, so the search for a nested array begins at
	// the end of the element before it.
	from := offset + 1
	for it := array.Children(); it.Next(); {
		n := it.Node()
		if n.Kind != unstable.String {
			start := int(n.Raw.Offset)
			if n.Kind == unstable.Array {
				start = skip(r.lines.data, from, " \t\r\n,")
			}
			r.add(&Error{
				Position: r.lines.pos(start).in(r.table.File),
				Key:      ItemKey(dotted(key), len(elements)),
				Problem:  "must be a string, not " + kindName(n.Kind),
			})
			return false
		}
		elements = append(elements, string(n.Data))
		p.items = append(p.items, r.lines.pos(int(n.Raw.Offset)))
		from = int(n.Raw.Offset + n.Raw.Length)
	}
	*l.p = elements
	return true
}

func kindName(k unstable.Kind) string {
	switch k {
	case unstable.String:
		return "a string"
	case unstable.Bool:
		return "a boolean"
	case unstable.Integer, unstable.Float:
		return "a number"
	case unstable.Array:
		return "an array"
	case unstable.InlineTable:
		return "a table"
	}
	return "a date or time"
}
