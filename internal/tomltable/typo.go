// Names of keys: how errors write them, and hints for unknown ones.

package tomltable

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/networkproxy/internal/typo"
)

// dotted writes a key as TOML would, with quotes around the parts that need
// them. The result is the same for every spelling of a key.
func dotted(key []keyPart) string {
	var b strings.Builder
	for i, k := range key {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(showKey(k.name))
		if k.element > 0 {
			fmt.Fprintf(&b, "[%d]", k.element-1)
		}
	}
	return b.String()
}

// showKey quotes a name that is not a bare key, and shortens a long one.
func showKey(name string) string {
	bare := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
	}
	if name != "" && len(name) <= maxKeyLength && strings.TrimFunc(name, bare) == "" {
		return name
	}
	return Quote(name)
}

// Quote quotes s as %q does, and shortens it to a length that leaves an error
// readable.
func Quote(s string) string {
	const most = 120
	if len(s) <= most {
		return strconv.Quote(s)
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return strconv.Quote(s[:cut]) + "..."
}

// ItemKey returns the key of element i of an array.
func ItemKey(key string, i int) string {
	return key + "[" + strconv.Itoa(i) + "]"
}

// Join returns the dotted key of name in a table.
func Join(table, name string) string { return table + "." + showKey(name) }

// splitKey splits a dotted key into its table and its last part.
func splitKey(key string) (table, name string) {
	i := strings.LastIndexByte(key, '.')
	return key[:max(i, 0)], key[i+1:]
}

// names are the known names: the root table, its subtables and their keys.
type names struct {
	root   string
	tables []string // the subtables, in the order of their first keys
	keys   []string // of values, then of subtables
}

func newNames(root string, fields []Field) names {
	n := names{root: root}
	for _, f := range fields {
		n.addKey(f.Key, f.Value)
		for table, _ := splitKey(f.Key); table != root && table != ""; table, _ = splitKey(table) {
			if !slices.Contains(n.tables, table) {
				n.tables = append(n.tables, table)
			}
		}
	}
	n.keys = append(n.keys, n.tables...)
	return n
}

// addKey adds a key, and those of the elements if it is an array of tables.
func (n *names) addKey(key string, v Value) {
	n.keys = append(n.keys, key)
	if a, ok := v.(interface{ fields() []Field }); ok {
		for _, f := range a.fields() {
			n.addKey(key+"."+f.Key, f.Value)
		}
	}
}

// isTable reports whether key names the root table or a subtable.
func (n *names) isTable(key string) bool {
	return key == n.root || slices.Contains(n.tables, key)
}

// maxKeyLength is the length in bytes from which a name is shortened in errors
// and not compared with the known ones.
const maxKeyLength = 64

// unknownKey returns the problem with a name that is not a key of a table. It
// includes the most similar key, or else all keys of the table.
func (n *names) unknownKey(table, name string) string {
	table = withoutElements(table)
	var inTable []string
	best, bestTable, bestDistance := "", "", typo.Max+1
	for _, key := range n.keys {
		t, known := splitKey(key)
		if t == table {
			inTable = append(inTable, known)
		}
		if d := typo.Count(name, known); d < bestDistance {
			best, bestTable, bestDistance = known, t, d
		}
	}
	switch {
	case best == "":
		return fmt.Sprintf("unknown key; the keys of [%s] are %s", table, strings.Join(inTable, ", "))
	case bestTable != table:
		return fmt.Sprintf("unknown key; did you mean %q in [%s]?", best, bestTable)
	case strings.EqualFold(name, best):
		return fmt.Sprintf("unknown key; did you mean %q? keys are lower-case", best)
	}
	return fmt.Sprintf("unknown key; did you mean %q?", best)
}

// withoutElements removes the indexes of array elements from a dotted key.
func withoutElements(key string) string {
	for {
		before, rest, ok := strings.Cut(key, "[")
		if !ok {
			return key
		}
		_, after, _ := strings.Cut(rest, "]")
		key = before + after
	}
}

// arrayHeader returns the header of an element of an array of tables.
func arrayHeader(name string) string { return "[[" + withoutElements(name) + "]]" }

// Header returns the header of a table, by its dotted key in [Table.LastHeader].
func Header(key string) string {
	if strings.HasSuffix(key, "]") {
		return arrayHeader(key)
	}
	return "[" + withoutElements(key) + "]"
}

// similarTable returns the table whose name a top-level key resembles, or "".
func (n *names) similarTable(name string) string {
	if len(name) > maxKeyLength {
		return ""
	}
	for _, table := range n.tables {
		if sameLetters(name, table) {
			return table
		}
	}
	if typo.Distance(letters(name), letters(n.root)) <= 2 {
		return n.root
	}
	return ""
}

// sameLetters reports whether two names differ in case and punctuation only.
func sameLetters(a, b string) bool { return letters(a) == letters(b) }

// letters returns the letters and digits of s, in lower case.
func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}
