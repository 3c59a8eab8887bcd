package learned

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"
)

var day = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// add and remove return changes that compare entries as text.
func add(list List, entry, comment string) Change {
	return Change{Add: entry, List: list, Comment: comment, Time: day, Same: func(e string) bool { return e == entry }}
}

func remove(entry string) Change {
	return Change{Same: func(e string) bool { return e == entry }}
}

// apply parses text, makes the changes one after another and returns the new text.
// It checks that TOML reads the same entries from it.
func apply(t *testing.T, text string, changes ...Change) string {
	t.Helper()
	for _, c := range changes {
		d, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if d, _, err = d.changed(c); err != nil {
			t.Fatal(err)
		}
		text = string(d.bytes())
		checkTOML(t, text, d.content)
	}
	return text
}

func checkTOML(t *testing.T, text string, content Content) {
	t.Helper()
	var got struct {
		NetworkProxy struct {
			Policy struct {
				Allowed []string `toml:"allowed_domains"`
				Denied  []string `toml:"denied_domains"`
			} `toml:"policy"`
		} `toml:"network_proxy"`
	}
	if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(&got); err != nil {
		t.Fatalf("not the TOML of a configuration: %v\n%s", err, text)
	}
	for list, entries := range map[List][]string{Allowed: got.NetworkProxy.Policy.Allowed, Denied: got.NetworkProxy.Policy.Denied} {
		var want []string
		for _, e := range content[list] {
			want = append(want, e.Text)
			lines := strings.Split(text, "\n")
			if rest := lines[e.Line-1][e.Column-1:]; !strings.HasPrefix(rest, `"`+e.Text+`"`) {
				t.Errorf("%+v: the text there is %q", e, rest)
			}
		}
		if strings.Join(entries, " ") != strings.Join(want, " ") {
			t.Errorf("%s: TOML has %q, Parse has %q", list.key(), entries, want)
		}
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	got := apply(t, "",
		add(Allowed, "a.example", "approved by the user"),
		add(Denied, "bad.example", ""),
		add(Allowed, "b.example", ""),
		add(Allowed, "a.example", "again"), // changes nothing
		add(Denied, "a.example", ""),
		remove("b.example"),
		remove("none.example"),
	)
	want := head + `allowed_domains = [
  "a.example", # 2026-03-01 approved by the user
]
denied_domains = [
  "bad.example", # 2026-03-01
  "a.example", # 2026-03-01
]
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := apply(t, got, remove("a.example")); strings.Contains(got, "a.example") {
		t.Errorf("the entry is removed from both lists: got\n%s", got)
	}
}

// TestChangesKeepLines checks that a change keeps what a person has written
// between the entries, and CRLF.
func TestChangesKeepLines(t *testing.T) {
	t.Parallel()
	text := "\uFEFF" + marker + "\r\n# mine\r\n[network_proxy.policy]\r\n\r\n denied_domains=[\r\n\t\"x.example\" , # why\r\n# in between\r\n]\r\n# end"
	got := apply(t, text, add(Denied, "y.example", ""), add(Allowed, "z.example", ""))
	want := marker + "\r\n# mine\r\n[network_proxy.policy]\r\n\r\n denied_domains=[\r\n\t\"x.example\" , # why\r\n# in between\r\n" +
		"  \"y.example\", # 2026-03-01\n]\r\n# end\nallowed_domains = [\n  \"z.example\", # 2026-03-01\n]\n"
	if got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

// TestForeignFiles checks that a file of another form is an error, which names the
// line.
func TestForeignFiles(t *testing.T) {
	t.Parallel()
	const ours = marker + "\n[network_proxy.policy]\n"
	for _, test := range []struct {
		name, text string
		line       int
	}{
		{"a hand-written configuration", "[network_proxy.policy]\nallowed_domains = [\"x\"]\n", 0},
		{"a binary", "\x00\x01\x02", 0},
		{"only a comment", "# hosts\n", 0},
		{"another table", marker + "\n[network_proxy]\n", 2},
		{"a later table", ours + "[other]\n", 3},
		{"another key", ours + "allow_local_binding = true\n", 3},
		{"the key without its table", marker + "\nallowed_domains = [\n]\n", 2},
		{"an array on one line", ours + "allowed_domains = [\"x.example\"]\n", 3},
		{"an array twice", ours + "allowed_domains = [\n]\nallowed_domains = [\n]\n", 5},
		{"two entries on a line", ours + "allowed_domains = [\n\"x\", \"y\",\n]\n", 4},
		{"an entry without a comma", ours + "allowed_domains = [\n\"x\"\n]\n", 4},
		{"an entry without quotes", ours + "allowed_domains = [\nx,\n]\n", 4},
		{"an open quote", ours + "allowed_domains = [\n\"x,\n]\n", 4},
		{"an escape", ours + "allowed_domains = [\n\"\\u0078\",\n]\n", 4},
		{"a multi-line string", ours + "allowed_domains = [\n\"\"\"x\n\"\"\",\n]\n", 4},
		{"cut short", ours + "allowed_domains = [\n\"x\",\n", 4},
		{"cut in a line", ours + "allowed_domains = [\n\"x\",\n]\ndenied_dom", 6},
		{"a control character", ours + "# \x1b[2J\n", 3},
		{"not UTF-8", ours + "# \xff\n", 0},
	} {
		_, err := Parse([]byte(test.text))
		var format *FormatError
		if !errors.As(err, &format) || format.Line != test.line {
			t.Errorf("%s: got the error %v, want one about line %d", test.name, err, test.line)
		}
	}
}

// TestHostileTexts checks that no entry and no comment gets out of its place.
func TestHostileTexts(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{`x", "evil.example`, "x\nevil.example", `x\`, "x\x00", `"`, "x\r", "\u0085"} {
		d, _ := parse(nil)
		if _, _, err := d.changed(add(Allowed, entry, "")); err == nil {
			t.Errorf("the entry %q is written", entry)
		}
	}
	for comment, want := range map[string]string{
		"a\n\"evil.example\",\n#":       `a "evil.example", #`,
		"]\nallow_local_binding = true": "] allow_local_binding = true",
		"\x1b[31mred\x00\r":             "[31mred",
		"\u202egnp.exe":                 "gnp.exe", // a right-to-left override
		"\xff\xfe":                      "\uFFFD\uFFFD",
		strings.Repeat("ü", 300):        strings.Repeat("ü", 100) + "...",
	} {
		got := apply(t, "", add(Allowed, "x.example", comment))
		if line := `  "x.example", # 2026-03-01 ` + want + "\n"; !strings.Contains(got, line) || strings.Count(got, "\n") != strings.Count(head, "\n")+3 {
			t.Errorf("the comment %q: got\n%s\nwant the line %q", comment, got, line)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(head+"allowed_domains = [\n  \"a\", # b\n]\ndenied_domains = [\n]\n", "x.example", "comment")
	f.Add("", "\"", "\n")
	f.Add(marker+"\n[network_proxy.policy]\nallowed_domains = [\n\"a\"\t,#\n]", "a", "")
	f.Fuzz(func(t *testing.T, text, entry, comment string) {
		d, err := parse([]byte(text))
		if err != nil {
			return
		}
		checkTOML(t, string(d.bytes()), d.content)
		next, found, err := d.changed(add(Denied, entry, comment))
		if err != nil || entry == "" {
			return
		}
		checkTOML(t, string(next.bytes()), next.content)
		if n, before := len(next.content[Denied]), len(d.content[Denied]); found == (n == before+1) || len(next.content[Allowed]) != len(d.content[Allowed]) {
			t.Errorf("found is %t, and the list has %d entries after %d", found, n, before)
		}
	})
}
