// Names of configuration keys: how errors spell them, and what an unknown one
// was probably meant to be.

package networkproxy

import (
	"fmt"
	"strconv"
	"strings"
)

// dotted spells a key as TOML would, quoting the parts that need it. The
// result is the same for every way of writing one key, and is cut where it is
// absurdly long.
func dotted(key []tomlKey) string {
	var b strings.Builder
	for i, k := range key {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(showKey(k.name))
	}
	return b.String()
}

func showKey(name string) string {
	bare := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-'
	}
	if name != "" && len(name) <= maxKeyLength && strings.TrimFunc(name, bare) == "" {
		return name
	}
	return quote(name)
}

// itemKey is the key of element i of an array.
func itemKey(key string, i int) string {
	return key + "[" + strconv.Itoa(i) + "]"
}

// lastKey is the last part of a dotted key: "network_proxy.mode" gives "mode".
func lastKey(key string) string {
	return key[strings.LastIndexByte(key, '.')+1:]
}

// maxKeyLength bounds the names that are worth comparing with ours.
const maxKeyLength = 64

// unknownKey says that the last part of key is no key of its table, and which
// one was probably meant.
func (w *tomlWalker) unknownKey(key []tomlKey) string {
	if w.errs.full() {
		return "unknown key" // nobody will read it
	}
	last := len(key) - 1
	table := dotted(key[:last])
	name := key[last].name

	var here []string
	best, bestTable, bestDistance := "", "", maxTypos+1
	consider := func(full string) {
		dot := strings.LastIndexByte(full, '.')
		t, leaf := full[:dot], full[dot+1:]
		if t == table {
			here = append(here, leaf)
		}
		if d := typos(name, leaf); d < bestDistance {
			best, bestTable, bestDistance = leaf, t, d
		}
	}
	for _, f := range new(Config).fields() {
		consider(f.key)
	}
	consider(keyPolicy)

	switch {
	case best == "":
		return fmt.Sprintf("unknown key; the keys of [%s] are %s", table, strings.Join(here, ", "))
	case bestTable != table:
		return fmt.Sprintf("unknown key; did you mean %q in [%s]?", best, bestTable)
	case strings.EqualFold(name, best):
		return fmt.Sprintf("unknown key; did you mean %q? keys are lower-case", best)
	}
	return fmt.Sprintf("unknown key; did you mean %q?", best)
}

// maxTypos is how many slips a name may be away from the one that was meant.
const maxTypos = 3

// typos counts the slips between a name and a key, not counting case and "-"
// for "_". A name that is more slips than a third of the key away is not the
// key at all: maxTypos+1.
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

// looksLikeTable returns the table of ours that a top-level key was probably
// meant to be, or "".
func looksLikeTable(name string) string {
	if len(name) > maxKeyLength {
		return ""
	}
	switch {
	case sameLetters(name, keyPolicy):
		return keyPolicy
	case editDistance(letters(name), letters(keyRoot)) <= 2:
		return keyRoot
	}
	return ""
}

// sameLetters reports whether two names differ in case and punctuation only.
func sameLetters(a, b string) bool { return letters(a) == letters(b) }

func letters(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

// editDistance is the least number of bytes to insert, delete, replace or swap
// with their neighbour to make b of a (optimal string alignment).
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
