package tomltable

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

type hook struct {
	Host  string
	Paths []string
	Query map[string][]string
	Deny  bool
}

func hookFields(h *hook) []Field {
	return []Field{{"host", String(&h.Host)}, {"paths", Strings(&h.Paths)}, {"query", StringLists(&h.Query)}, {"deny", Bool(&h.Deny)}}
}

// readHooks reads a file with an array of tables [[a.hooks]].
func readHooks(t *testing.T, text string, hooks *[]hook) (*Table, []string) {
	t.Helper()
	var problems []string
	var other string
	table := Read("f", []byte(text), "a", []Field{{"a.hooks", Tables(hooks, hookFields)}, {"a.other", String(&other)}}, func(e *Error) {
		problems = append(problems, e.Error())
	})
	return table, problems
}

func TestTables(t *testing.T) {
	t.Parallel()
	both := []hook{{Host: "x", Paths: []string{"/p", "/q"}, Query: map[string][]string{"s": {"1"}, "t u": {}}}, {Host: "y", Deny: true}}
	for _, tt := range []struct {
		name, text string
		want       []hook
		places     string // of keys
	}{
		{"headers", "[[a.hooks]]\nhost = \"x\"\npaths = [\"/p\", \"/q\"]\nquery = { s = [\"1\"], \"t u\" = [] }\n[[a.hooks]]\nhost = \"y\"\ndeny = true\n", both,
			"a.hooks=f:1:5 a.hooks[0]=f:1:5 a.hooks[0].paths=f:3:9 a.hooks[0].query.s=f:4:15 a.hooks[1]=f:5:5 a.hooks[1].deny=f:7:8"},
		{"a table below the header", "[[a.hooks]]\nhost = \"x\"\npaths = [\"/p\", \"/q\"]\n[a.hooks.query]\ns = [\"1\"]\n\"t u\" = []\n[[a.hooks]]\nhost = \"y\"\ndeny = true\n", both,
			"a.hooks[0].query.s=f:5:5 a.hooks[1].host=f:8:8"},
		{"dotted keys", "[[a.hooks]]\nhost = \"x\"\npaths = [\"/p\", \"/q\"]\nquery.s = [\"1\"]\nquery.\"t u\" = []\n[[a.hooks]]\nhost = \"y\"\ndeny = true\n", both, "a.hooks[0].query.s=f:4:11"},
		{"inline", "[a]\nhooks = [ # {\n  {host = \"x\", paths = [\"/p\", \"/q\"], query = {s = [\"1\"], \"t u\" = []}},\n  { host = 'y', deny = true } ]\n", both,
			"a.hooks=f:2:9 a.hooks[0]=f:3:3 a.hooks[1]=f:4:3 a.hooks[1].host=f:4:12"},
		{"a brace in a string", "[a]\nhooks = [{host = \"}\\\"\", deny = false}, {host = '}'}, {host = \"\"\"a}\\\"\"\"\"\"}, {host=\"z\"}]\n",
			[]hook{{Host: `}"`}, {Host: "}"}, {Host: `a}"` + `"`}, {Host: "z"}}, "a.hooks[3].host=f:2:82"},
		{"none", "[a]\nhooks = []\n", []hook{}, "a.hooks=f:2:9"},
		{"other tables between", "[[a.hooks]]\nhost = \"x\"\n[b]\nc = 1\n[[b.hooks]]\nx = 1\n[a]\nother = \"o\"\n", []hook{{Host: "x"}}, "a.other=f:8:9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			hooks := []hook{{Host: "of an earlier file"}}
			table, problems := readHooks(t, tt.text, &hooks)
			if len(problems) > 0 || !reflect.DeepEqual(hooks, tt.want) {
				t.Fatalf("got %+v, %q\nwant %+v", hooks, problems, tt.want)
			}
			var p Provenance
			p.Add(table)
			for _, place := range strings.Fields(tt.places) {
				key, want, _ := strings.Cut(place, "=")
				if got := p.Describe(key); got != want {
					t.Errorf("%s is at %s, want %s", key, got, want)
				}
			}
		})
	}
}

func TestTablesProblems(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, text, want string }{
		{"one table", "[a.hooks]\nhost = \"x\"\n", `f:1:4: a.hooks: must be an array of tables, not one table: write [[a.hooks]]`},
		{"a string", "[a]\nhooks = \"x\"\n", `f:2:9: a.hooks: must be an array of tables, not a string`},
		{"strings", "[a]\nhooks = [\"x\"]\n", `f:2:10: a.hooks[0]: must be a table, not a string`},
		{"an array in it", "[a]\nhooks = [{host=\"x\"}, []]\n", `f:2:22: a.hooks[1]: must be a table, not an array`},
		{"an unknown key", "[[a.hooks]]\nhost = \"x\"\n[[a.hooks]]\npath = [\"/\"]\n", `f:4:1: a.hooks[1].path: unknown key; did you mean "paths"?`},
		{"another case", "[[a.hooks]]\nHost = \"x\"\n", `f:2:1: a.hooks[0].Host: unknown key; did you mean "host"? keys are lower-case`},
		{"another type", "[[a.hooks]]\npaths = \"/\"\n", `f:2:9: a.hooks[0].paths: must be an array of strings, not a string: write ["/"]`},
		{"another type in it", "[[a.hooks]]\npaths = [\"/\", 1]\n", `f:2:15: a.hooks[0].paths[1]: must be a string, not a number`},
		{"a free table that is none", "[[a.hooks]]\nquery = \"/\"\n", `f:2:9: a.hooks[0].query: must be a table, not a string`},
		{"another type in a free table", "[[a.hooks]]\nquery = { s = \"1\" }\n", `f:2:15: a.hooks[0].query.s: must be an array of strings, not a string: write ["1"]`},
		{"too deep", "[[a.hooks]]\nquery.s.t = [\"1\"]\n", `f:2:7: a.hooks[0].query.s: `},
		{"a table too deep", "[[a.hooks]]\n[a.hooks.query.s]\n", `f:2:16: a.hooks[0].query.s: `},
		{"an array of tables too deep", "[[a.hooks]]\n[[a.hooks.query]]\n", `f:2:11: a.hooks[0].query: must be one table`},
		{"an array of tables that is a value", "[[a.other]]\n", `f:1:5: a.other: must be a string, not a table`},
		{"an empty string", "[[a.hooks]]\nhost = \"\"\n", `f:2:8: a.hooks[0].host: is empty`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var hooks []hook
			_, problems := readHooks(t, tt.text, &hooks)
			if len(problems) != 1 || !strings.HasPrefix(problems[0], tt.want) {
				t.Errorf("got %q, want %q", problems, tt.want)
			}
		})
	}
}

// TestTablesOfLaterFiles: a later file replaces all elements and their positions.
func TestTablesOfLaterFiles(t *testing.T) {
	t.Parallel()
	var p Provenance
	var hooks []hook
	first, _ := readHooks(t, "[[a.hooks]]\nhost = \"x\"\n[[a.hooks]]\nhost = \"y\"\n", &hooks)
	p.Add(first)
	second, _ := readHooks(t, "[[a.hooks]]\ndeny = true\n", &hooks)
	p.Add(second)
	if len(hooks) != 1 || hooks[0].Host != "" || !hooks[0].Deny {
		t.Errorf("got %+v", hooks)
	}
	if p.Has("a.hooks[1].host") || p.Has("a.hooks[0].host") || !p.Has("a.hooks[0].deny") {
		t.Errorf("places: %v", p.places)
	}
	third, _ := readHooks(t, "[a]\nother = \"x\"\n", &hooks)
	if p.Add(third); len(hooks) != 1 || !p.Has("a.hooks[0].deny") {
		t.Error("a file without the array has changed it")
	}
}

// TestManyTables: the time grows with the size of the file.
func TestManyTables(t *testing.T) {
	t.Parallel()
	n := 20_000
	if testing.Short() {
		n = 2000
	}
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "[[a.hooks]]\nhost = \"x%d\"\nquery = { a = [\"1\"] }\n", i)
	}
	var hooks []hook
	if _, problems := readHooks(t, text.String(), &hooks); len(problems) > 0 || len(hooks) != n || hooks[n-1].Host != fmt.Sprint("x", n-1) {
		t.Errorf("%d tables, %q", len(hooks), problems)
	}
}

type provider struct {
	Env []string
	URL string
}

func readProviders(t *testing.T, text string, m *map[string]provider) (*Table, []string) {
	t.Helper()
	var problems []string
	table := Read("f", []byte(text), "a", []Field{{"a.providers", NamedTables(m, func(p *provider) []Field {
		return []Field{{"env", Strings(&p.Env)}, {"url", String(&p.URL)}}
	})}}, func(e *Error) { problems = append(problems, e.Error()) })
	return table, problems
}

func TestNamedTables(t *testing.T) {
	t.Parallel()
	want := map[string]provider{"x": {Env: []string{"A"}, URL: "u"}, "y z": {URL: "v"}, "old": {URL: "w"}}
	for _, text := range []string{
		"[a.providers.x]\nenv = [\"A\"]\nurl = \"u\"\n[a.providers.\"y z\"]\nurl = \"v\"\n",
		"[a]\nproviders.x.env = [\"A\"]\nproviders.x.url = \"u\"\nproviders.\"y z\".url = \"v\"\n",
		"[a]\nproviders = { x = { env = [\"A\"], url = \"u\" }, \"y z\" = { url = \"v\" } }\n",
		"[a.providers]\nx = { env = [\"A\"], url = \"u\" }\n\"y z\" = { url = \"v\" }\n",
	} {
		m := map[string]provider{"old": {URL: "w"}}
		table, problems := readProviders(t, text, &m)
		if len(problems) > 0 || !reflect.DeepEqual(m, want) {
			t.Errorf("%q: %+v, %q", text, m, problems)
		}
		var p Provenance
		if p.Add(table); !p.Has("a.providers.x.env") || !p.Has(`a.providers."y z".url`) || !p.Has("a.providers") {
			t.Errorf("%q: places %v", text, p.places)
		}
	}
	merged := map[string]provider{"x": {Env: []string{"A"}, URL: "u"}}
	readProviders(t, "[a.providers.x]\nurl = \"v\"\n", &merged)
	if want := (provider{Env: []string{"A"}, URL: "v"}); !reflect.DeepEqual(merged["x"], want) {
		t.Errorf("merged: %+v", merged)
	}
	for text, want := range map[string]string{
		"[a.providers.x]\nurls = \"u\"\n":    `f:2:1: a.providers.x.urls: unknown key; did you mean "url"?`,
		"[a]\nproviders = []\n":              "f:2:13: a.providers: must be a table",
		"[a.providers]\nx = 1\n":             "f:2:5: a.providers.x: must be a table, not a number",
		"[[a.providers.x]]\nurl = \"u\"\n":   "f:1:15: a.providers.x: must be one table",
		"[a.providers.x]\nurl = [\"u\"]\n":   "f:2:7: a.providers.x.url: must be a string",
		"[a.providers.x.y]\nurl = \"u\"\n":   `f:1:16: a.providers.x.y: unknown key`,
		"[a]\nproviders.x.env.y = [\"u\"]\n": "f:2:13: a.providers.x.env: must be an array of strings, not a table",
	} {
		m := map[string]provider{}
		if _, problems := readProviders(t, text, &m); len(problems) != 1 || !strings.HasPrefix(problems[0], want) {
			t.Errorf("%q: %q, want %q", text, problems, want)
		}
	}
}
