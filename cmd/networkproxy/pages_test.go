// Tests that the pages describe the commands, flags and exit statuses as they are.

package main

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page returns the text of a file, with its name relative to the module.
func page(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestPagesListTheCommands checks the tables of commands. They have the summaries
// of -h, no others, and the same order.
func TestPagesListTheCommands(t *testing.T) {
	t.Parallel()
	var rows, lines []string
	for _, c := range commands() {
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", c.usage(), c.summary))
		lines = append(lines, fmt.Sprintf("//\t%-12s%s", c.name, c.summary))
	}
	for path, pattern := range map[string]string{
		"README.md":                "(?m)^\\| `networkproxy .*$",
		"docs/program.md":          "(?m)^\\| `networkproxy .*$",
		"cmd/networkproxy/main.go": `(?m)^//	[a-z-]+ +[a-z].*$`,
	} {
		text, want := page(t, path), rows
		if strings.HasSuffix(path, ".go") {
			_, text, _ = strings.Cut(text, "Its commands are:")
			text, _, _ = strings.Cut(text, "The exit statuses are:")
			want = lines
		}
		found := regexp.MustCompile(pattern).FindAllString(text, -1)
		if !slices.Equal(found, want) {
			t.Errorf("%s lists the commands\n%s\nwant\n%s", path, strings.Join(found, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestPagesListTheFlags checks that docs/program.md has a row for every flag, with
// the commands that have it, and no others.
func TestPagesListTheFlags(t *testing.T) {
	t.Parallel()
	want := make(map[string][]string)
	for _, c := range commands() {
		f, _ := c.flagSet(new(program))
		for _, one := range flagsOf(f) {
			flag := "-" + one.Name
			if value, _ := describeFlag(one); value != "" {
				flag += " " + strings.ToUpper(value)
			}
			want[flag] = append(want[flag], c.name)
		}
	}
	rows := regexp.MustCompile("(?m)^\\| `(-[^`]*)` \\| ([a-z, -]+) \\| .+ \\|$").FindAllStringSubmatch(page(t, "docs/program.md"), -1)
	found := make(map[string][]string)
	for _, row := range rows {
		found[row[1]] = strings.Split(row[2], ", ")
	}
	for _, flag := range slices.Sorted(maps.Keys(want)) {
		if !slices.Equal(found[flag], want[flag]) {
			t.Errorf("docs/program.md: the row of %s has the commands %q, want %q", flag, found[flag], want[flag])
		}
		delete(found, flag)
	}
	for flag := range found {
		t.Errorf("docs/program.md has a row for %s, which is not a flag", flag)
	}
}

// TestPagesListTheExitStatuses checks docs/program.md and the comment of package
// main.
func TestPagesListTheExitStatuses(t *testing.T) {
	t.Parallel()
	var rows, words string
	for _, s := range exitStatuses() {
		rows += fmt.Sprintf("| %s | %s |\n", s.status, s.meaning)
		words += " " + s.status + " " + s.meaning
	}
	_, table, _ := strings.Cut(page(t, "docs/program.md"), "| exit status | meaning |\n|---|---|\n")
	if table, _, _ = strings.Cut(table, "\n\n"); table+"\n" != rows {
		t.Errorf("docs/program.md lists\n%s\nwant\n%s", table, rows)
	}
	_, comment, _ := strings.Cut(page(t, "cmd/networkproxy/main.go"), "The exit statuses are:")
	comment, _, _ = strings.Cut(comment, "package main")
	if comment = strings.Join(strings.Fields(strings.ReplaceAll(comment, "//", "")), " "); comment != strings.TrimSpace(words) {
		t.Errorf("the comment of package main lists\n%s\nwant\n%s", comment, words)
	}
}

// TestPageListsTheKeysOfTheSummary checks docs/program.md against the JSON summary
// of run.
func TestPageListsTheKeysOfTheSummary(t *testing.T) {
	t.Parallel()
	text := page(t, "docs/program.md")
	_, text, _ = strings.Cut(text, "| key of the summary |")
	text, _, _ = strings.Cut(text, "\n\n")
	for _, v := range []any{runSummary{}, refusalCount{}, suggestion{}} {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "" && !strings.Contains(text, "`"+key+"`") {
				t.Errorf("docs/program.md does not describe the key %s of %T", key, v)
			}
		}
	}
}
