package adminpage_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"example.com/networkproxy/internal/adminpage"
)

// body returns the text of a file.
func body(t *testing.T, path string) string {
	t.Helper()
	for _, f := range adminpage.Files() {
		if f.Path == path {
			return f.Body
		}
	}
	t.Fatalf("Files has no %s", path)
	return ""
}

func TestFiles(t *testing.T) {
	t.Parallel()
	var paths []string
	for _, f := range adminpage.Files() {
		paths = append(paths, f.Path)
		if f.Body == "" {
			t.Errorf("%s is empty", f.Path)
		}
		if !strings.HasSuffix(f.Type, "; charset=utf-8") {
			t.Errorf("%s has the type %q, want one with the charset utf-8", f.Path, f.Type)
		}
	}
	if want := []string{"/", "/page.js", "/page.css"}; !slices.Equal(paths, want) {
		t.Errorf("the files are %q, want %q", paths, want)
	}
	document := body(t, "/")
	if !strings.HasPrefix(document, "<!doctype html>") {
		t.Error("the document does not begin with <!doctype html>")
	}
	for _, path := range paths[1:] {
		if strings.Count(document, `="`+path+`"`) != 1 {
			t.Errorf("the document does not load %s once", path)
		}
	}
	if !strings.Contains(body(t, "/page.js"), "\n'use strict';\n") {
		t.Error("the script is not strict")
	}
}

// forbidden is what would let text become markup or code, or what the
// Content-Security-Policy of the page forbids.
var forbidden = map[string]*regexp.Regexp{
	"markup from text":          regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|setHTML|createContextualFragment|DOMParser|srcdoc|document\s*\.\s*write`),
	"code from text":            regexp.MustCompile(`(?i)\beval\s*\(|\bFunction\s*\(|javascript:|import\s*\(|set(Timeout|Interval)\s*\(\s*['"` + "`" + `]`),
	"a handler in an attribute": regexp.MustCompile(`(?i)<[^>]*\son[a-z]+\s*=|setAttribute\(\s*['"]on`),
	"a style in an attribute":   regexp.MustCompile(`(?i)\bstyle\s*=|<style|setAttribute\(\s*['"]style|cssText`),
	"a script in the document":  regexp.MustCompile(`(?i)<script(?:\s+(?:src="/page\.js"|defer))*\s*>[^<]`),
	"another address":           regexp.MustCompile(`(?i)\b(?:https?|wss?|ftp):|url\s*\(|@import|(?:src|href)\s*=\s*["']?//`),
}

// namespace is the one URL that the page may contain. It is a name only.
const namespace = "http://www.w3.org/2000/svg"

func findForbidden(text string) (found []string) {
	text = strings.ReplaceAll(text, namespace, "")
	for what, pattern := range forbidden {
		if m := pattern.FindString(text); m != "" {
			found = append(found, what+": "+m)
		}
	}
	return found
}

func TestPageHasNothingForbidden(t *testing.T) {
	t.Parallel()
	for _, f := range adminpage.Files() {
		for _, what := range findForbidden(f.Body) {
			t.Errorf("%s has %s", f.Path, what)
		}
		for i, r := range f.Body {
			if unicode.Is(unicode.Cf, r) || unicode.IsControl(r) && r != '\n' {
				t.Errorf("%s has the invisible character %U at offset %d", f.Path, r, i)
			}
		}
	}
}

// TestForbiddenIsFound shows that each pattern finds what it is for.
func TestForbiddenIsFound(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"row.innerHTML = host", "e.outerHTML", "e.insertAdjacentHTML('beforeend', host)", "document.write(host)", "eval(text)",
		"new Function(text)", "setTimeout('f()', 1)", `<a href="javascript:f()">`, `<img src=x onerror=f()>`, `<p style="color: red">`,
		"<style>p {}</style>", "e.setAttribute('style', s)", `<script>f()</script>`, `<script src="/page.js">f()</script>`,
		`<script src="https://example.com/f.js"></script>`, `<link href="//example.com/f.css">`, "background: url(/f.png)", "@import 'f.css'",
	} {
		if len(findForbidden(text)) == 0 {
			t.Errorf("nothing forbidden is found in %s", text)
		}
	}
}
