// Package typo finds the known name that a misspelt one probably means.
package typo

import "strings"

// Max is the largest number of typos for which a name is suggested.
const Max = 3

// maxLength is the length in bytes from which names are not compared.
const maxLength = 64

// Closest returns the known name that has the fewest typos in name, or "" if each
// has too many. It returns the first of several.
func Closest(name string, known []string) string {
	best, least := "", Max+1
	for _, k := range known {
		if n := Count(name, k); n < least {
			best, least = k, n
		}
	}
	return best
}

// Count returns the number of typos that turn known into name, ignoring case and
// "-" for "_". It returns Max+1 if there are more than that, or more than a third
// of the length of known.
func Count(name, known string) int {
	if len(name) > maxLength {
		return Max + 1
	}
	n := Distance(fold(name), fold(known))
	if n > Max || n > max(1, len(known)/3) {
		return Max + 1
	}
	return n
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }

// Distance returns the least number of bytes to insert, delete, replace or swap
// with their neighbor that turns a into b (optimal string alignment).
func Distance(a, b string) int {
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
