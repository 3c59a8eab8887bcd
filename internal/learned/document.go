package learned

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// List is one of the lists in the file.
type List uint8

const (
	Allowed List = iota
	Denied
	lists // the number of lists
)

// key returns the name of the list in the file.
func (l List) key() string { return [...]string{"allowed_domains", "denied_domains"}[l] }

// Entry is one entry of a list.
type Entry struct {
	Text         string
	Line, Column int // of its opening quote; both count from 1, columns count bytes
}

// Content is the content of the file: its entries in their order.
type Content [lists][]Entry

// Change is a change of the content.
type Change struct {
	// Add is the entry to add to List. If it is empty, the change removes
	// entries of both lists instead.
	Add     string
	List    List
	Comment string    // for people; may be any text
	Time    time.Time // whose date is written into the comment

	// Same reports whether an entry is the one that the change adds or removes.
	Same func(entry string) bool
}

// FormatError is a line that the package would not have written.
type FormatError struct {
	Line, Column int // both count from 1; 0 for the file as a whole
	Problem      string
}

func (e *FormatError) Error() string {
	if e.Line == 0 {
		return e.Problem
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Problem)
}

const (
	marker = "# networkproxy: learned hosts"
	table  = "[network_proxy.policy]"

	// head is the beginning of a new file.
	head = marker + `
#
# networkproxy adds the hosts that its user allows or denies for good. Delete
# a line to forget a host. Put other settings into a file of your own: this
# file may contain nothing else.

` + table + "\n"
)

// document is the text of the file. It keeps the lines that a change does not
// touch, byte for byte.
type document struct {
	lines   []string // without their ends
	content Content
	ends    [lists]int // index of the line that ends the array; 0: the list has no array
}

// Parse returns the content of a file. The error is a [*FormatError] if the
// package would not have written the file. A file without text has no entries.
func Parse(data []byte) (Content, error) {
	d, err := parse(data)
	if err != nil {
		return Content{}, err
	}
	return d.content, nil
}

func parse(data []byte) (*document, error) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF")) // a byte order mark
	if len(bytes.TrimSpace(data)) == 0 {
		data = []byte(head)
	}
	d := &document{lines: strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")}
	if strings.TrimRight(d.lines[0], "\r") != marker {
		return nil, &FormatError{Problem: fmt.Sprintf("the file does not begin with the line %q, so networkproxy has not written it and does not change it; name another file", marker)}
	}
	if !utf8.Valid(data) {
		return nil, &FormatError{Problem: "the text is not UTF-8"}
	}
	inTable, open := false, lists // lists: no array is open
	for i, line := range d.lines {
		text := strings.Trim(line, " \t\r")
		fail := func(problem string) error {
			return &FormatError{Line: i + 1, Column: 1 + len(line) - len(strings.TrimLeft(line, " \t")), Problem: problem}
		}
		switch {
		case strings.ContainsFunc(text, isControl):
			return nil, fail("a control character")
		case text == "" || text[0] == '#':
		case !inTable:
			if text != table {
				return nil, fail("not the header " + table + notOurs)
			}
			inTable = true
		case open == lists:
			list, ok := opens(text)
			if !ok {
				return nil, fail("neither allowed_domains = [ nor denied_domains = [" + notOurs)
			}
			if d.ends[list] != 0 {
				return nil, fail(list.key() + " is there twice")
			}
			open = list
		case text == "]":
			d.ends[open] = i
			open = lists
		default:
			entry, problem := parseEntry(text)
			if problem != "" {
				return nil, fail(problem)
			}
			d.content[open] = append(d.content[open], Entry{entry, i + 1, 1 + strings.IndexByte(line, '"')})
		}
	}
	if open != lists {
		return nil, &FormatError{Line: len(d.lines), Problem: "the file ends before the ] of " + open.key()}
	}
	return d, nil
}

// notOurs is the end of the message about a line that this package would not have
// written, but that may be valid TOML.
const notOurs = "; networkproxy writes nothing else into this file, and does not change a file with other content: put it into a file of your own"

// opens returns the list whose array begins with a line.
func opens(text string) (list List, ok bool) {
	name, rest, _ := strings.Cut(text, "=")
	if strings.TrimSpace(rest) != "[" {
		return 0, false
	}
	for list := range lists {
		if strings.TrimSpace(name) == list.key() {
			return list, true
		}
	}
	return 0, false
}

// parseEntry parses a line of an array: "text", # comment
func parseEntry(line string) (entry, problem string) {
	rest, ok := strings.CutPrefix(line, `"`)
	if !ok {
		return "", "not an entry in quotes; write one entry on each line"
	}
	entry, rest, ok = strings.Cut(rest, `"`)
	switch {
	case !ok:
		return "", "the entry has no closing quote"
	case strings.Contains(entry, `\`):
		return "", "an entry cannot contain a backslash"
	}
	rest, ok = strings.CutPrefix(strings.TrimLeft(rest, " \t"), ",")
	if !ok {
		return "", "there is no comma after the entry"
	}
	if rest = strings.TrimLeft(rest, " \t"); rest != "" && rest[0] != '#' {
		return "", "there is more than one entry on the line"
	}
	return entry, ""
}

// isControl reports whether TOML forbids a character in comments and strings.
func isControl(r rune) bool { return r != '\t' && unicode.IsControl(r) }

// changed returns the document after a change, which is d itself if there is
// nothing to change. found reports whether d has the entry of the change, in any
// list if the change removes entries.
func (d *document) changed(c Change) (next *document, found bool, err error) {
	next = &document{lines: slices.Clone(d.lines), ends: d.ends}
	if c.Add == "" {
		var remove []int
		for _, entries := range d.content {
			for _, e := range entries {
				if c.Same(e.Text) {
					remove = append(remove, e.Line-1)
				}
			}
		}
		slices.Sort(remove)
		for _, i := range slices.Backward(remove) {
			next.lines = slices.Delete(next.lines, i, i+1)
		}
		found = len(remove) > 0
	} else {
		if strings.ContainsAny(c.Add, `"\`) || strings.ContainsFunc(c.Add, isControl) {
			return nil, false, fmt.Errorf("%q cannot be written into the file", c.Add)
		}
		found = slices.ContainsFunc(d.content[c.List], func(e Entry) bool { return c.Same(e.Text) })
		if !found {
			next.insert(c)
		}
	}
	if slices.Equal(next.lines, d.lines) {
		return d, found, nil
	}
	next, err = parse(next.bytes()) // which finds the positions of the entries
	return next, found, err
}

// insert inserts the line of an entry. d is then to be parsed again.
func (d *document) insert(c Change) {
	if !slices.ContainsFunc(d.lines, func(line string) bool { return strings.Trim(line, " \t\r") == table }) {
		d.lines = append(d.lines, table)
	}
	end := d.ends[c.List]
	if end == 0 {
		d.lines = append(d.lines, c.List.key()+" = [", "]")
		end = len(d.lines) - 1
	}
	line := fmt.Sprintf("  %q, # %s", c.Add, c.Time.Format(time.DateOnly))
	if comment := printable(c.Comment); comment != "" {
		line += " " + comment
	}
	d.lines = slices.Insert(d.lines, end, line)
}

// bytes returns the text of the file.
func (d *document) bytes() []byte { return []byte(strings.Join(d.lines, "\n") + "\n") }

// maxComment is the number of bytes of a comment that are written.
const maxComment = 200

// printable returns text as one line that cannot hide or reorder anything on
// a screen.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) { // which leaves U+FFFD, for invalid UTF-8
			return ' '
		}
		return r
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxComment {
		cut := maxComment
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	return text
}
