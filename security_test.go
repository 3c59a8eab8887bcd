// Tests that the tests that SECURITY.md names exist.

package networkproxy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestSecurityNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]bool) // by directory and name, and files by their path
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			tests[filepath.ToSlash(filepath.Dir(path))+" "+string(m[1])] = true
		}
		tests[filepath.ToSlash(path)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	exists := func(name string) bool {
		prefix, isPrefix := strings.CutSuffix(name, "…")
		for test := range tests {
			if test == name || isPrefix && strings.HasPrefix(test, prefix) {
				return true
			}
		}
		return false
	}
	// The last cell of each promise names tests, separated by semicolons where
	// their directory changes. A name before "…" is a prefix of test names. A file
	// name means the tests in it.
	promise := regexp.MustCompile(`(?m)^\| \d+ \|.*\| (.*) \|$`)
	directory := regexp.MustCompile("^ *(\\w+(?:/\\w+)*) `")
	name := regexp.MustCompile(`\b(?:(?:Test|Fuzz|Example)[A-Z]\w*…?|\w+_test\.go\b)`)
	named := 0
	for _, cell := range promise.FindAllStringSubmatch(string(page), -1) {
		for group := range strings.SplitSeq(cell[1], ";") {
			dir := "."
			if m := directory.FindStringSubmatch(group); m != nil {
				dir = m[1]
			}
			for _, test := range name.FindAllString(group, -1) {
				named++
				if !exists(dir+" "+test) && !exists(test) {
					t.Errorf("SECURITY.md names %s in %s, which does not exist", test, dir)
				}
			}
		}
	}
	if named < 80 {
		t.Errorf("SECURITY.md names only %d tests", named)
	}
}
