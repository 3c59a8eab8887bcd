// Reading the [network_proxy] table of a TOML file: strictly inside our
// tables, where a typo must not silently open the network, and blind to the
// rest of what may be a larger program's file.

package networkproxy

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// layer is what one file sets. Keys that the file leaves out are absent.
type layer struct {
	file     string
	present  bool // the file has a [network_proxy] table
	values   map[string]layerValue
	warnings []string

	// openHeader is the table of ours whose header is the last thing in the
	// file; empty where something follows.
	openHeader string
}

// layerValue is one value of a file, in the member that its key asks for.
type layerValue struct {
	at      position
	boolean bool
	text    string
	list    []string
	items   []position // of the elements of list
}

// parseTOML reads the configuration in data; file names it in errors. It adds
// every problem to errs, and returns what could be read all the same, so that
// one run shows the mistakes in other files too.
//
// go-toml's own decoding cannot do this: it ignores the case of keys and keeps
// no positions. It is still the judge of what is TOML, duplicate keys and
// impossible dates included; only then are the expressions walked.
func parseTOML(file string, data []byte, errs *errorList) *layer {
	l := &layer{file: file, values: make(map[string]layerValue)}
	data = bytes.TrimPrefix(data, []byte("\uFEFF")) // a byte order mark
	if bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		errs.add(&ConfigError{Position: Position{File: file, Line: 1, Column: 1}, Problem: "the text is UTF-16: save the file as UTF-8"})
		return l
	}

	if err := toml.Unmarshal(data, &map[string]any{}); err != nil {
		errs.add(syntaxError(file, err))
		return l
	}

	w := &tomlWalker{layer: l, errs: errs, known: make(map[string]any), reported: make(map[string]bool)}
	w.lines.data = data
	for _, f := range new(Config).fields() {
		w.known[f.key] = f.value
	}
	w.parser.Reset(data)
	w.walk()
	if err := w.parser.Error(); err != nil {
		// Unmarshal accepted the same bytes with the same parser.
		errs.add(&ConfigError{Position: Position{File: file}, Err: err})
	}
	w.finish()
	return l
}

// syntaxError places an error of go-toml.
func syntaxError(file string, err error) *ConfigError {
	e := &ConfigError{
		Position: Position{File: file},
		Problem:  strings.TrimPrefix(err.Error(), "toml: "),
	}
	if strings.HasPrefix(e.Problem, "expected keyword") {
		e.Problem += ", or a string in quotes"
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		e.Position.Line, e.Position.Column = at.Position()
	}
	return e
}

// tomlWalker goes through the expressions of one valid TOML document, in order.
type tomlWalker struct {
	layer  *layer
	errs   *errorList
	parser unstable.Parser
	lines  lineCounter

	known    map[string]any  // the keys that hold a value, with a pointer of its type
	reported map[string]bool // dotted keys whose content was refused already
	strays   []tomlKey       // top-level keys that look like ours
}

// tomlKey is one part of a dotted key, and where it stands.
type tomlKey struct {
	name string
	raw  unstable.Range
}

func (w *tomlWalker) walk() {
	var table []tomlKey
	for w.parser.NextExpression() {
		e := w.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = appendKey(nil, e.Key())
			w.layer.openHeader = ""
			if w.ours(table) {
				w.header(table, e.Kind == unstable.ArrayTable)
				w.layer.openHeader = dotted(table)
			}
		case unstable.KeyValue:
			w.layer.openHeader = ""
			// The common case of a large foreign table costs nothing.
			if len(table) > 0 && table[0].name != keyRoot {
				continue
			}
			key := appendKey(table[:len(table):len(table)], e.Key())
			if w.ours(key) {
				w.keyValue(key, e.Value())
			}
		}
	}
}

func appendKey(dst []tomlKey, it unstable.Iterator) []tomlKey {
	for it.Next() {
		n := it.Node()
		dst = append(dst, tomlKey{string(n.Data), n.Raw})
	}
	return dst
}

// ours reports whether key lies in our table, and notes a top-level key that
// was probably meant to.
func (w *tomlWalker) ours(key []tomlKey) bool {
	top := key[0]
	if top.name == keyRoot {
		w.layer.present = true
		return true
	}
	if !w.reported[top.name] && looksLikeTable(top.name) != "" {
		w.reported[top.name] = true
		w.strays = append(w.strays, top)
	}
	return false
}

// header checks a [table] or [[array of tables]] line.
func (w *tomlWalker) header(key []tomlKey, isArray bool) {
	if !w.tables(key) {
		return
	}
	if isArray {
		w.refuse(key, w.keyPosition(key[len(key)-1]), fmt.Sprintf("must be one table, not an array of tables: write [%s]", dotted(key)))
	}
}

// tables checks that every part of key names a table of ours.
func (w *tomlWalker) tables(key []tomlKey) bool {
	for i := range key {
		k := key[:i+1]
		switch name := dotted(k); {
		case w.reported[name]:
			return false
		case name == keyRoot || name == keyPolicy:
		case w.known[name] != nil:
			w.refuse(k, w.keyPosition(key[i]), "must be "+wanted(w.known[name])+", not a table")
			return false
		default:
			w.refuse(k, w.keyPosition(key[i]), w.unknownKey(k))
			return false
		}
	}
	return true
}

// keyValue takes the value of key.
func (w *tomlWalker) keyValue(key []tomlKey, v *unstable.Node) {
	last := len(key) - 1
	if !w.tables(key[:last]) {
		return
	}
	name := dotted(key)
	if w.reported[name] {
		return
	}
	if name == keyRoot || name == keyPolicy {
		w.inlineTable(key, v)
		return
	}
	want, ok := w.known[name]
	if !ok {
		w.refuse(key, w.keyPosition(key[last]), w.unknownKey(key))
		return
	}

	out := layerValue{at: w.lines.position(w.valueOffset(key[last], v))}
	switch want.(type) {
	case *bool:
		if v.Kind != unstable.Bool {
			w.wrongType(key, out.at, want, v)
			return
		}
		out.boolean = v.Data[0] == 't'
	case *string, *Mode, *SNICheck:
		if v.Kind != unstable.String {
			w.wrongType(key, out.at, want, v)
			return
		}
		out.text = string(v.Data)
		if out.text == "" {
			w.refuse(key, out.at, "is empty: remove the line to get the default")
			return
		}
	case *[]string:
		if v.Kind != unstable.Array {
			w.wrongType(key, out.at, want, v)
			return
		}
		if !w.strings(key, v, &out) {
			return
		}
	}
	w.layer.values[name] = out
}

// inlineTable takes the keys of key = { ... }.
func (w *tomlWalker) inlineTable(key []tomlKey, v *unstable.Node) {
	if v.Kind != unstable.InlineTable {
		at := w.lines.position(w.valueOffset(key[len(key)-1], v))
		w.refuse(key, at, fmt.Sprintf("must be a table, not %s: write [%s] above its keys", kindName(v.Kind), dotted(key)))
		return
	}
	for it := v.Children(); it.Next(); {
		n := it.Node()
		w.keyValue(appendKey(key[:len(key):len(key)], n.Key()), n.Value())
	}
}

// strings takes the elements of an array of strings, and stops at the first
// that is something else.
func (w *tomlWalker) strings(key []tomlKey, array *unstable.Node, out *layerValue) bool {
	out.list = []string{} // not nil: [] in JSON
	// Where an element can begin at the earliest: an array has no range of
	// its own, so that a nested one has to be looked for.
	from := w.valueOffset(key[len(key)-1], array) + 1
	for it := array.Children(); it.Next(); {
		v := it.Node()
		if v.Kind != unstable.String {
			start := int(v.Raw.Offset)
			if v.Kind == unstable.Array {
				start = skip(w.lines.data, from, " \t\r\n,")
			}
			w.errs.add(&ConfigError{
				Position: w.lines.position(start).in(w.layer.file),
				Key:      itemKey(dotted(key), len(out.list)),
				Problem:  "must be a string, not " + kindName(v.Kind),
			})
			return false
		}
		out.list = append(out.list, string(v.Data))
		out.items = append(out.items, w.lines.position(int(v.Raw.Offset)))
		from = int(v.Raw.Offset + v.Raw.Length)
	}
	return true
}

// finish judges the file as a whole.
func (w *tomlWalker) finish() {
	l := w.layer
	refused := false
	for _, k := range w.strays {
		meant := looksLikeTable(k.name)
		problem := fmt.Sprintf("unknown table; did you mean [%s]?", meant)
		if !sameLetters(k.name, meant) && l.present {
			l.warnings = append(l.warnings, fmt.Sprintf("%s: %s: %s", w.keyPosition(k).in(l.file), showKey(k.name), problem))
			continue
		}
		refused = true
		w.errs.add(&ConfigError{Position: w.keyPosition(k).in(l.file), Key: showKey(k.name), Problem: problem})
	}
	if !l.present && !refused {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: no [%s] table: nothing in this file configures the proxy, which is off by default", l.file, keyRoot))
	}
}

// refuse reports a problem with key, once, and whatever stands below it is
// passed over.
func (w *tomlWalker) refuse(key []tomlKey, at position, problem string) {
	name := dotted(key)
	w.reported[name] = true
	w.errs.add(&ConfigError{Position: at.in(w.layer.file), Key: name, Problem: problem})
}

// wrongType reports a value of another type than its key asks for, with what
// was probably meant.
func (w *tomlWalker) wrongType(key []tomlKey, at position, want any, v *unstable.Node) {
	problem := fmt.Sprintf("must be %s, not %s", wanted(want), kindName(v.Kind))
	switch text := string(v.Data); want.(type) {
	case *bool:
		if text == "true" || text == "false" {
			problem += ": write " + text + " without quotes"
		}
	case *[]string:
		if v.Kind == unstable.String {
			problem += ": write [" + quote(text) + "]"
		}
	}
	w.refuse(key, at, problem)
}

// wanted names the type of a configuration value, given a pointer to it.
func wanted(value any) string {
	switch value.(type) {
	case *bool:
		return "true or false"
	case *[]string:
		return "an array of strings"
	}
	return "a string"
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

func (w *tomlWalker) keyPosition(k tomlKey) position {
	return w.lines.position(int(k.raw.Offset))
}

// valueOffset is where the value of a key begins. An array node has no range,
// so that its bracket is looked for behind the key.
func (w *tomlWalker) valueOffset(key tomlKey, v *unstable.Node) int {
	if v.Kind == unstable.Array {
		return skip(w.lines.data, int(key.raw.Offset+key.raw.Length), " \t=")
	}
	return int(v.Raw.Offset)
}

// skip returns the first offset, from off on, that is neither one of the
// characters in set nor in a comment.
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

// lineCounter turns offsets into positions. Offsets mostly grow, so it counts
// on from the last one: a million of them cost one pass over the file.
type lineCounter struct {
	data  []byte
	last  int // the offset that line and start belong to
	line  int // lines before last
	start int // where the line of last begins
}

func (c *lineCounter) position(off int) position {
	if off < c.last {
		c.last, c.line, c.start = 0, 0, 0
	}
	between := c.data[c.last:off]
	if i := bytes.LastIndexByte(between, '\n'); i >= 0 {
		c.line += bytes.Count(between, []byte{'\n'})
		c.start = c.last + i + 1
	}
	c.last = off
	return position{uint32(c.line + 1), uint32(off - c.start + 1)}
}
