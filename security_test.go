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
	tests := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Example)\w*)\(`)
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(source, -1) {
			tests[string(m[1])] = true
		}
		tests[path] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	// A name before "…" is a prefix of test names. A file name means the tests in
	// it.
	named := regexp.MustCompile(`\b(?:(?:Test|Fuzz|Example)[A-Z]\w*…?|[\w/]+_test\.go\b)`).FindAllString(string(page), -1)
	if len(named) < 20 {
		t.Errorf("SECURITY.md names only %d tests", len(named))
	}
	for _, name := range named {
		prefix, some := strings.CutSuffix(name, "…")
		found := tests[name]
		for test := range tests {
			found = found || some && strings.HasPrefix(test, prefix)
		}
		if !found {
			t.Errorf("SECURITY.md names %s, which does not exist", name)
		}
	}
}
