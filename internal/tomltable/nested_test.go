package tomltable

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// group is an element of an array of tables that has one itself.
type group struct {
	Name  string              `toml:"name"`
	Query map[string][]string `toml:"query"`
	Items []item              `toml:"items"`
}

type item struct {
	ID   string   `toml:"id"`
	On   bool     `toml:"on"`
	Tags []string `toml:"tags"`
}

func groupFields(g *group) []Field {
	return []Field{{"name", String(&g.Name)}, {"query", StringLists(&g.Query)}, {"items", Tables(&g.Items, itemFields)}}
}

func itemFields(i *item) []Field {
	return []Field{{"id", String(&i.ID)}, {"on", Bool(&i.On)}, {"tags", Strings(&i.Tags)}}
}

// readGroups reads a file with an array of tables [[a.groups]].
func readGroups(text string, groups *[]group) (*Table, []string) {
	var problems []string
	table := Read("f", []byte(text), "a", []Field{{"a.groups", Tables(groups, groupFields)}}, func(e *Error) {
		problems = append(problems, e.Error())
	})
	return table, problems
}

func TestNestedTables(t *testing.T) {
	t.Parallel()
	want := []group{
		{Name: "x", Items: []item{{ID: "1", Tags: []string{"p", "q"}}, {ID: "2", On: true}}},
		{Name: "y"},
		{Name: "z", Query: map[string][]string{"k": {"v"}}, Items: []item{{ID: "3"}}},
	}
	for _, tt := range []struct{ name, text, places string }{
		{"headers", "[[a.groups]]\nname = 'x'\n[[a.groups.items]]\nid = '1'\ntags = ['p', 'q']\n[[a.groups.items]]\nid = '2'\non = true\n" +
			"[[a.groups]]\nname = 'y'\n[[a.groups]]\nname = 'z'\n[[a.groups.items]]\nid = '3'\n[a.groups.query]\nk = ['v']\n",
			"a.groups[0].items=f:3:12 a.groups[0].items[1]=f:6:12 a.groups[0].items[1].on=f:8:6 a.groups[2].items[0].id=f:14:6 a.groups[2].query.k=f:16:5"},
		{"inline tables in headers", "[[a.groups]]\nname = 'x'\nitems = [{id = '1', tags = ['p', 'q']},\n {id = '2', on = true}]\n[[a.groups]]\nname = 'y'\n[[a.groups]]\nname = 'z'\nitems = [{id = '3'}]\nquery = {k = ['v']}\n",
			"a.groups[0].items=f:3:9 a.groups[0].items[0]=f:3:10 a.groups[0].items[1]=f:4:2 a.groups[0].items[1].on=f:4:18 a.groups[2].items[0].id=f:9:16"},
		{"inline tables only", "[a]\ngroups = [{name = 'x', items = [{id = '1', tags = ['p', 'q']}, # }\n {id = '2', on = true}]}, {name = 'y'},\n {name = 'z', items = [{id = '3'}], query = {k = ['v']}}]\n",
			"a.groups[0].items[1]=f:3:2 a.groups[1]=f:3:27 a.groups[2]=f:4:2 a.groups[2].items[0]=f:4:24 a.groups[2].query.k=f:4:50"},
		{"an inline table at the top", "a = {groups = [{name = 'x', items = [{id = '1', tags = ['p', 'q']}, {id = '2', on = true}]}, {name = 'y'}, {name = 'z', items = [{id = '3'}], query = {k = ['v']}}]}\n",
			"a.groups[2].items[0].id=f:1:136"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for range 20 { // the result must not depend on the order of a map
				var groups []group
				table, problems := readGroups(tt.text, &groups)
				if len(problems) > 0 || !reflect.DeepEqual(groups, want) {
					t.Fatalf("got %+v, %q\nwant %+v", groups, problems, want)
				}
				var p Provenance
				p.Add(table)
				for _, place := range strings.Fields(tt.places) {
					key, want, _ := strings.Cut(place, "=")
					if got := p.Describe(key); got != want {
						t.Errorf("%s is at %s, want %s", key, got, want)
					}
				}
			}
		})
	}
}

func TestNestedTablesProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"an unknown key", "[[a.groups]]\nitems = [{id = '1'}, {ids = '2'}]\n", `f:2:23: a.groups[0].items[1].ids: unknown key; did you mean "id"?`},
		{"an unknown key like no other", "[[a.groups]]\nitems = [{zzzzzz = '1'}]\n", `f:2:11: a.groups[0].items[0].zzzzzz: unknown key; the keys of [a.groups.items] are id, on, tags`},
		{"a key of the outer table", "[[a.groups]]\n[[a.groups.items]]\nname = '1'\n", `f:3:1: a.groups[0].items[0].name: unknown key; did you mean "name" in [a.groups]?`},
		{"another type", "[[a.groups]]\n[[a.groups.items]]\n[[a.groups.items]]\nid = 1\n", `f:4:6: a.groups[0].items[1].id: must be a string, not a number`},
		{"one table", "[[a.groups]]\n[a.groups.items]\n", `f:2:11: a.groups[0].items: must be an array of tables, not one table: write [[a.groups.items]]`},
		{"one inline table", "[[a.groups]]\nitems = {id = '1'}\n", `f:2:9: a.groups[0].items: must be an array of tables, not a table: write [{ ... }]`},
		{"one inline table at the top", "[a]\ngroups = { name = '1' }\n", `f:2:10: a.groups: must be an array of tables, not a table: write [{ ... }]`},
		{"dotted keys", "[a]\ngroups.name = '1'\n", `f:2:1: a.groups: must be an array of tables, not a table: write [[a.groups]]`},
		{"dotted keys in it", "[[a.groups]]\nitems.id = '1'\n", `f:2:1: a.groups[0].items: must be an array of tables, not a table: write [[a.groups.items]]`},
		{"a table of a key that is none", "[[a.groups]]\n[a.groups.name]\n", `f:2:11: a.groups[0].name: must be a string, not a table`},
		{"a table below no element", "[a.groups.query]\nk = ['v']\n", `f:1:4: a.groups: must be an array of tables, not a table: write [[a.groups]]`},
		{"an inline array of mixed values", "[[a.groups]]\nitems = [{id = '1'}, 'x', {}]\n", `f:2:22: a.groups[0].items[1]: must be a table, not a string`},
		{"nested arrays", "[[a.groups]]\nitems = [[{id = '1'}]]\n", `f:2:10: a.groups[0].items[0]: must be a table, not an array`},
		{"a name with control characters", "[[a.groups]]\nquery = { \"\\u001b[31m\\u0000\" = 1 }\n", `f:2:32: a.groups[0].query."\x1b[31m\x00": must be an array of strings, not a number`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var groups []group
			_, problems := readGroups(tt.text, &groups)
			if len(problems) != 1 || problems[0] != tt.want {
				t.Errorf("got %q\nwant %q", problems, tt.want)
			}
		})
	}
}

// TestTablesAreNotExtended: TOML forbids to add to an array or a table that is written
// inline, and to write one table twice.
func TestTablesAreNotExtended(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"[a]\ngroups = [{name = 'x'}]\n[[a.groups]]\nname = 'y'\n",
		"[a]\ngroups = []\n[[a.groups]]\nname = 'y'\n",
		"[a]\ngroups = [{name = 'x'}]\n[a.groups.query]\nk = ['v']\n",
		"[[a.groups]]\nquery = {k = ['v']}\nquery.l = ['v']\n",
		"[[a.groups]]\nquery = {k = ['v']}\n[a.groups.query]\nl = ['v']\n",
		"[[a.groups]]\n[a.groups.query]\nk = ['v']\n[a.groups.query]\nl = ['v']\n",
		"[[a.groups]]\nquery.k = ['v']\nquery.k = ['w']\n",
		"[[a.groups]]\nquery = {k = ['v'], k = ['w']}\n",
		"[[a.groups]]\nitems = [{id = '1', id = '2'}]\n",
		"[[a.groups]]\nitems = [{id = '1'}]\n[[a.groups.items]]\nid = '2'\n",
		"[[a.groups]]\nname = 'x'\nname = 'y'\n",
		"[[a.groups]]\n[a.groups]\n",
	} {
		var groups []group
		if _, problems := readGroups(text, &groups); len(problems) == 0 {
			t.Errorf("accepted as %+v:\n%s", groups, text)
		}
	}
}

// TestNestedTablesAreBounded: the time grows with the size of the file, however its
// tables are nested.
func TestNestedTablesAreBounded(t *testing.T) {
	t.Parallel()
	n, depth := 10_000, 200_000
	if testing.Short() {
		n, depth = n/10, depth/10
	}
	var items, keys, inline strings.Builder
	for i := range n {
		fmt.Fprintf(&items, "[[a.groups.items]]\nid = '%d'\n", i)
		fmt.Fprintf(&keys, "k%d = ['v']\n", i)
		fmt.Fprintf(&inline, "{name = '%d', items = [{id = '1'}]},", i)
	}
	var groups []group
	if _, problems := readGroups("[[a.groups]]\n"+items.String(), &groups); len(problems) > 0 || len(groups[0].Items) != n {
		t.Errorf("headers: %q", problems)
	}
	if _, problems := readGroups("[[a.groups]]\n[a.groups.query]\n"+keys.String(), &groups); len(problems) > 0 || len(groups[0].Query) != n {
		t.Errorf("free keys: %q", problems)
	}
	if _, problems := readGroups("[a]\ngroups = ["+inline.String()+"]\n", &groups); len(problems) > 0 || len(groups) != n || groups[n-1].Items[0].ID != "1" {
		t.Errorf("inline tables: %q", problems)
	}
	for _, deep := range []string{
		"[a]\ngroups = " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
		"[a]\ngroups = [{query = " + strings.Repeat("{k=", 5000) + "1" + strings.Repeat("}", 5000) + "}]",
		"[a]\ngroups = " + strings.Repeat("[{items=", 5000) + strings.Repeat("}]", 5000),
		"[a.groups" + strings.Repeat(".items", depth) + "]\n",
		"[[a.groups]]\n[[a.groups" + strings.Repeat(".items", depth) + "]]\n",
		"[[a.groups]]\nquery" + strings.Repeat(".k", 5000) + " = ['v']\n",
	} {
		if _, problems := readGroups(deep, &groups); len(problems) != 1 {
			t.Errorf("%.40s...: %q", deep, problems)
		}
	}
}

// FuzzTables: a file without mistakes has the values that go-toml's own decoding finds.
func FuzzTables(f *testing.F) {
	for _, seed := range []string{
		"[[a.groups]]\nname = 'x'\n[[a.groups.items]]\nid = '1'\n[a.groups.query]\nk = ['v']\n[[a.groups]]\n",
		"[a]\ngroups = [{name = \"}\", items = [{id = '''a''''}, {on = true}], query = {'k.l' = ['v']}}, # {\n {}]\n",
		"a = {groups = [{query.k = [], items = []}]}",
		"[[a.groups]]\n[[a.groups]]\nquery.k = [\"\"\"a\\\"\"\"\"\"\"]\n",
		"[[a.groups]]\nitems = [{tags = [\"{\", '{', \"\\\"{\"]}, {id = \"x\"}]\n",
		"[[a.groups]]\nitems = [1, [{}], {items = [{}]}]\n[a.groups.items]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var groups []group
		table, problems := readGroups(string(data), &groups)
		for _, p := range problems {
			if !strings.HasPrefix(p, "f:") && !strings.HasPrefix(p, "f: ") {
				t.Fatalf("an error without a position: %s", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		var ref struct {
			A struct {
				Groups []group `toml:"groups"`
			} `toml:"a"`
		}
		if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\uFEFF")), &ref); err != nil {
			t.Fatalf("accepted, but go-toml says: %v", err)
		}
		if !equalGroups(groups, ref.A.Groups) {
			t.Fatalf("got  %+v\nwant %+v", groups, ref.A.Groups)
		}
		checkPlaces(t, data, table, groups)
	})
}

// equalGroups compares values; an empty list equals none.
func equalGroups(a, b []group) bool {
	normal := func(groups []group) string {
		var s strings.Builder
		for _, g := range groups {
			fmt.Fprintf(&s, "%q %q", g.Name, g.Query)
			for _, i := range g.Items {
				fmt.Fprintf(&s, " %q %v %q", i.ID, i.On, i.Tags)
			}
			s.WriteByte('\n')
		}
		return s.String()
	}
	return normal(a) == normal(b)
}

// checkPlaces checks that each element has a place in the text that begins a table.
func checkPlaces(t *testing.T, data []byte, table *Table, groups []group) {
	t.Helper()
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	lines := bytes.Split(data, []byte("\n"))
	check := func(key string) {
		t.Helper()
		p, ok := table.places[key]
		if !ok {
			t.Fatalf("%s has no place", key)
		}
		if rest := lines[p.at.line-1][p.at.column-1:]; len(rest) == 0 || bytes.IndexByte([]byte("{abcdefghijklmnopqrstuvwxyz\"'"), rest[0]) < 0 {
			t.Fatalf("%s is at %d:%d, %q", key, p.at.line, p.at.column, rest)
		}
	}
	for i, g := range groups {
		key := ItemKey("a.groups", i)
		check(key)
		for j := range g.Items {
			check(ItemKey(key+".items", j))
		}
	}
}
