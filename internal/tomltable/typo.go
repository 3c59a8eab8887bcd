// Names of keys: how errors write them, and hints for unknown ones.

package tomltable

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
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
		n.keys = append(n.keys, f.Key)
		for table, _ := splitKey(f.Key); table != root && table != ""; table, _ = splitKey(table) {
			if !slices.Contains(n.tables, table) {
				n.tables = append(n.tables, table)
			}
		}
	}
	n.keys = append(n.keys, n.tables...)
	return n
}

// isTable reports whether key names the root table or a subtable.
func (n *names) isTable(key string) bool {
	return key == n.root || slices.Contains(n.tables, key)
}

// maxKeyLength is the length in bytes from which a name is not compared with
// the known ones.
const maxKeyLength = 64

// unknownKey returns the problem with a name that is not a key of a table. It
// includes the most similar key, or else all keys of the table.
func (n *names) unknownKey(table, name string) string {
	var inTable []string
	best, bestTable, bestDistance := "", "", maxTypos+1
	for _, key := range n.keys {
		t, known := splitKey(key)
		if t == table {
			inTable = append(inTable, known)
		}
		if d := typos(name, known); d < bestDistance {
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
	if editDistance(letters(name), letters(n.root)) <= 2 {
		return n.root
	}
	return ""
}

// maxTypos is the largest number of typos for which a key is suggested.
const maxTypos = 3

// typos returns the number of typos that turn key into name, ignoring case and
// "-" for "_". It returns maxTypos+1 if there are more than that, or more than
// a third of the key's length.
func typos(name, key string) int {
	if len(name) > maxKeyLength {
		return maxTypos + 1
	}
	d := editDistance(strings.ReplaceAll(strings.ToLower(name), "-", "_"), key)
	if d > maxTypos || d > max(1, len(key)/3) {
		return maxTypos + 1
	}
	return d
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

// editDistance returns the least number of bytes to insert, delete, replace or
// swap with their neighbor that turns a into b (optimal string alignment).
func editDistance(a, b string) int {
	before, row := []int(nil), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next := make([]int, len(b)+1)
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(row[j+1]+1, next[j]+1, row[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(b)]
}
