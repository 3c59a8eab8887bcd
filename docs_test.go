// Tests of the documentation: links have a target, and all limits are described.

package networkproxy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"example.com/networkproxy/internal/audit"
)

var (
	pageLink    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	pageHeading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	pageFence   = regexp.MustCompile("(?ms)^```.*?^```$")
)

// pages returns the text of every page without its fenced blocks, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	texts := make(map[string]string)
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			texts[filepath.ToSlash(path)] = pageFence.ReplaceAllString(string(text), "")
		}
	}
	return texts
}

// anchor returns GitHub's anchor for a heading: lower case, "-" for each space,
// no punctuation.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}

// anchors returns the anchors of a page. Only the first of several equal
// headings counts.
func anchors(text string) []string {
	var all []string
	for _, m := range pageHeading.FindAllStringSubmatch(text, -1) {
		all = append(all, anchor(m[1]))
	}
	return all
}

func TestLinksOfPages(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	links := 0
	for page, text := range texts {
		for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
			link := m[1]
			if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
				continue
			}
			links++
			path, fragment, hasFragment := strings.Cut(link, "#")
			target := page
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(page), path))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", page, link, err)
				continue
			}
			if hasFragment && !slices.Contains(anchors(texts[target]), fragment) {
				t.Errorf("%s links to %s: %s has no such heading", page, link, target)
			}
		}
	}
	if links < 30 {
		t.Errorf("found only %d links in %d pages", links, len(texts))
	}
}

// pagePath matches a Go file or a package of internal/. In SECURITY.md, a
// function in the file may follow.
var pagePath = regexp.MustCompile("\\b(internal/\\w+(?:/\\w+\\.go)?|(?:\\w+/)*\\w+\\.go)\\b`?(?: `(\\w+)`)?")

// TestPagesNameFilesThatExist checks the paths and functions in the pages for
// people who change the code. ARCHITECTURE.md leaves out internal/.
func TestPagesNameFilesThatExist(t *testing.T) {
	t.Parallel()
	texts, paths := pages(t), 0
	for _, page := range []string{"ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "README.md"} {
		for _, m := range pagePath.FindAllStringSubmatch(texts[page], -1) {
			paths++
			path, function := m[1], m[2]
			_, err := os.Stat(path)
			if err != nil && page == "ARCHITECTURE.md" {
				path = "internal/" + path
				_, err = os.Stat(path)
			}
			if err != nil {
				t.Errorf("%s names %s, which does not exist", page, m[1])
				continue
			}
			if page == "SECURITY.md" && function != "" && strings.HasSuffix(path, ".go") {
				source, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !regexp.MustCompile(`(?m)^func (?:\([^)]+\) )?` + function + `\(`).Match(source) {
					t.Errorf("SECURITY.md says that %s has the function %s", path, function)
				}
			}
		}
	}
	if paths < 60 {
		t.Errorf("the pages name only %d files and packages", paths)
	}
}

// TestArchitectureNamesCodeThatExists checks the identifiers in ARCHITECTURE.md:
// each part of one, such as Gate and Decide of Gate.Decide, is a word of some Go
// file.
func TestArchitectureNamesCodeThatExists(t *testing.T) {
	t.Parallel()
	words := make(map[string]bool)
	between := func(c rune) bool { return c != '_' && !unicode.IsLetter(c) && !unicode.IsDigit(c) }
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		source, err := os.ReadFile(path)
		for w := range strings.FieldsFuncSeq(string(source), between) {
			words[w] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`(\\w+(?:\\.\\w+)*)`").FindAllStringSubmatch(pages(t)["ARCHITECTURE.md"], -1) {
		if strings.HasSuffix(m[1], ".go") {
			continue // see TestPagesNameFilesThatExist
		}
		for part := range strings.SplitSeq(m[1], ".") {
			if !words[part] {
				t.Errorf("ARCHITECTURE.md names %s, but no Go file has the word %s", m[1], part)
			}
		}
	}
}

// TestArchitectureHasEveryPackage checks that each package in internal/ is in the
// picture of ARCHITECTURE.md, except those for tests, and has a row in its table.
func TestArchitectureHasEveryPackage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	picture := pageFence.FindString(string(page))
	var names []string // in the first column of the table of packages
	_, table, _ := strings.Cut(string(page), "| package | responsibility |")
	table, _, _ = strings.Cut(table, "\n\n")
	for row := range strings.Lines(table) {
		if cells := strings.Split(row, "|"); len(cells) > 2 {
			names = append(names, regexp.MustCompile(`\w+`).FindAllString(cells[1], -1)...)
		}
	}
	packages, err := os.ReadDir("internal")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range packages {
		if !slices.Contains(names, p.Name()) {
			t.Errorf("ARCHITECTURE.md has no row for internal/%s", p.Name())
		}
		if p.Name() != "testnet" && p.Name() != "gatetest" && !regexp.MustCompile(`\b`+p.Name()+`\b`).MatchString(picture) {
			t.Errorf("the picture of ARCHITECTURE.md does not have internal/%s", p.Name())
		}
	}
}

// TestPagesListTheProtocols checks the pages that list the protocols of requests.
func TestPagesListTheProtocols(t *testing.T) {
	t.Parallel()
	texts := pages(t)
	for page, pattern := range map[string]string{
		"docs/admin-api.md": `The protocols are (?s:.+?) and .dns.\.`,
		"docs/audit-log.md": "\\| `protocol` \\|.*",
	} {
		list := regexp.MustCompile(pattern).FindString(texts[page])
		for _, p := range audit.Protocols {
			if !strings.Contains(list, "`"+string(p)+"`") {
				t.Errorf("%s does not list the protocol %s", page, p)
			}
		}
	}
}

func TestEveryLimitIsDescribed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range new(Limits).fields() {
		if !strings.Contains(string(page), "| `"+f.name+"` |") {
			t.Errorf("docs/limits.md has no row for %s", f.name)
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 200 {
		t.Errorf("README.md has %d lines, want at most 200: move details to docs/", n)
	}
}

// goFence is a fenced block of Go code.
var goFence = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")

// TestEmbeddingPageQuotesCode checks that each block of Go code in
// docs/embedding.md is a part of an example, which the compiler checks.
func TestEmbeddingPageQuotesCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/embedding.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, pattern := range []string{"example*_test.go", "networkproxytest/example*_test.go", "examples/*/*.go"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(source)
		}
	}
	blocks := goFence.FindAllStringSubmatch(string(page), -1)
	for _, m := range blocks {
		block := m[1]
		indented := "\t" + strings.ReplaceAll(strings.TrimSuffix(block, "\n"), "\n", "\n\t") + "\n"
		if !strings.Contains(code.String(), block) && !strings.Contains(code.String(), indented) {
			t.Errorf("docs/embedding.md has code that is in no example:\n%s", block)
		}
	}
	if len(blocks) < 4 {
		t.Errorf("docs/embedding.md has only %d blocks of Go code", len(blocks))
	}
}
