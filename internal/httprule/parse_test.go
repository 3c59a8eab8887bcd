package httprule

// Tests of the problems in rules and of their text.

import (
	"strings"
	"testing"
)

func TestProblems(t *testing.T) {
	t.Parallel()
	paths := func(list ...string) Spec {
		return Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: list}
	}
	query := func(name string, values ...string) Spec {
		return Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Query: map[string][]string{name: values}}
	}
	headers := func(name string, values ...string) Spec {
		return Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Headers: map[string][]string{name: values}}
	}
	tests := []struct {
		name string
		spec Spec
		key  string
		at   int    // Index
		of   string // Name
		text string
	}{
		{"no host", Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}}, "host", -1, "", "missing"},
		{"wildcard", Spec{Host: "*.a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}, "host", -1, "", "one rule for each"},
		{"URL", Spec{Host: "https://a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}, "host", -1, "", `is a URL; write "a.test"`},
		{"port 0", Spec{Host: "a.test:0", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}, "host", -1, "", "65535"},
		{"block", Spec{Host: "10.0.0.0/8", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}, "host", -1, "", "is a block of addresses"},

		{"no methods", Spec{Host: "a.test", PathPrefixes: []string{"/"}}, "methods", -1, "", `["*"]`},
		{"empty methods", Spec{Host: "a.test", Methods: []string{}, PathPrefixes: []string{"/"}}, "methods", -1, "", `["*"]`},
		{"lower case", Spec{Host: "a.test", Methods: []string{"GET", "post"}, PathPrefixes: []string{"/"}}, "methods", 1, "", `write "POST"`},
		{"no token", Spec{Host: "a.test", Methods: []string{"GET,POST"}, PathPrefixes: []string{"/"}}, "methods", 0, "", "not a method"},
		{"empty method", Spec{Host: "a.test", Methods: []string{""}, PathPrefixes: []string{"/"}}, "methods", 0, "", "not a method"},
		{"long method", Spec{Host: "a.test", Methods: []string{strings.Repeat("A", 65)}, PathPrefixes: []string{"/"}}, "methods", 0, "", "not a method"},
		{"methods and access", Spec{Host: "a.test", Methods: []string{"GET"}, Access: "read-only"}, "methods", -1, "", "exclude"},

		{"no paths", Spec{Host: "a.test", Methods: []string{"GET"}}, "path_prefixes", -1, "", "missing"},
		{"empty paths", paths(), "path_prefixes", -1, "", "missing"},
		{"empty list of paths", Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{}}, "path_prefixes", -1, "", "empty"},
		{"empty list of paths with access", Spec{Host: "a.test", Access: "git-fetch", PathPrefixes: []string{}}, "path_prefixes", -1, "", "empty"},
		{"no slash", paths("/", "v1"), "path_prefixes", 1, "", "slash"},
		{"empty path", paths(""), "path_prefixes", 0, "", "slash"},
		{"URL as path", paths("https://a.test/"), "path_prefixes", 0, "", "slash"},
		{"asterisk", paths("/a/*"), "path_prefixes", 0, "", `"pattern:"`},
		{"query in a prefix", paths("/a?b=c"), "path_prefixes", 0, "", "query"},
		{"query in a literal", paths("literal:/a?b=c"), "path_prefixes", 0, "", "query"},
		{"dot segment", paths("/a/../b"), "path_prefixes", 0, "", "dot segment"},
		{"dot segment in a pattern", paths("pattern:/a/../*"), "path_prefixes", 0, "", "dot segment"},
		{"semicolon", paths("/a;b"), "path_prefixes", 0, "", "semicolon"},
		{"empty segment", paths("/a//b"), "path_prefixes", 0, "", "empty segment"},
		{"empty segment in a pattern", paths("pattern:/a//**"), "path_prefixes", 0, "", "empty segment"},
		{"not ASCII", paths("/é"), "path_prefixes", 0, "", "%XX"},
		{"incomplete escape", paths("/100%"), "path_prefixes", 0, "", "incomplete"},
		{"encoded slash", paths("/a%2Fb"), "path_prefixes", 0, "", "allow_encoded_slash"},
		{"encoded slash in a pattern", paths("pattern:/a%2F*"), "path_prefixes", 0, "", "allow_encoded_slash"},
		{"fragment", paths("/a#b"), "path_prefixes", 0, "", "number sign"},
		{"backslash in a pattern", paths(`pattern:/a\b`), "path_prefixes", 0, "", "backslash"},
		{"backslash at the end", paths(`pattern:/a\`), "path_prefixes", 0, "", "backslash"},
		{"runs in a segment", paths("pattern:/a**"), "path_prefixes", 0, "", "whole segments"},
		{"three asterisks", paths("pattern:/***"), "path_prefixes", 0, "", "whole segments"},
		{"too many runs", paths("pattern:/**" + strings.Repeat("/a/**", 8)), "path_prefixes", 0, "", "8 times"},
		{"too long", paths("/" + strings.Repeat("a", 256)), "path_prefixes", 0, "", "256"},
		{"too long a pattern", paths("pattern:/" + strings.Repeat("a", 250)), "path_prefixes", 0, "", "256"},

		{"no values", query("state"), "query", -1, "state", "no values"},
		{"any value", query("state", "x", "*"), "query", 1, "state", "pattern:*"},
		{"no name", query("", "x"), "query", -1, "", "no name"},
		{"backslash in a value", query("state", `pattern:a\b`), "query", 0, "state", "backslash"},
		{"long value", query("state", strings.Repeat("a", 257)), "query", 0, "state", "256"},

		{"no field values", headers("x-api"), "headers", -1, "x-api", "no values"},
		{"no field name", headers("x api", "v"), "headers", -1, "x api", "not the name"},
		{"host field", headers("Host", "a.test"), "headers", -1, "Host", "routes"},
		{"framing", headers("Transfer_Encoding", "chunked"), "headers", -1, "Transfer_Encoding", "frames"},
		{"long field value", headers("x-api", "ok", strings.Repeat("a", 257)), "headers", 1, "x-api", "256"},
		{"same field", Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Headers: map[string][]string{"X-Api": {"1"}, "x_api": {"2"}}}, "headers", -1, "x_api", "same field"},

		{"query_only", Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Deny: true, QueryOnly: true}, "query_only", -1, "", "escape the rule"},
		{"allow_encoded_slash", Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Deny: true, AllowEncodedSlash: true}, "allow_encoded_slash", -1, "", "%2F"},

		{"access", Spec{Host: "a.test", Access: "read_only"}, "access", -1, "", `did you mean "read-only"?`},
		{"access in capitals", Spec{Host: "a.test", Access: "Git-Fetch"}, "access", -1, "", `did you mean "git-fetch"?`},
		{"access far off", Spec{Host: "a.test", Access: "everything"}, "access", -1, "", `"read-only", "git-fetch" or "git-push"`},
		{"access denied", Spec{Host: "a.test", Access: "git-push", Deny: true}, "access", -1, "", "deny"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r, problems := Parse(&tt.spec)
			if r != nil || len(problems) != 1 {
				t.Fatalf("got rule %v and problems %+v, want one problem", r, problems)
			}
			got := problems[0]
			if got.Key != tt.key || got.Index != tt.at || got.Name != tt.of || !strings.Contains(got.Text, tt.text) {
				t.Errorf("got %+v, want key %q, index %d, name %q and a text with %q", got, tt.key, tt.at, tt.of, tt.text)
			}
			if !printable(got.Text) || len(got.Text) > 700 {
				t.Errorf("the text is not one line of ASCII: %q", got.Text)
			}
		})
	}
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) < 0
}

func TestEveryProblemIsReported(t *testing.T) {
	t.Parallel()
	_, problems := Parse(&Spec{
		Host: "*", Methods: []string{"get", "a b"}, PathPrefixes: []string{"x", "/a;", "/"},
		Query: map[string][]string{"b": nil, "a": {"*"}}, Headers: map[string][]string{"te": {"x"}}, Access: "",
	})
	var got []string
	for _, p := range problems {
		got = append(got, p.Key+p.Name)
	}
	if want := "host methods methods path_prefixes path_prefixes querya queryb headerste"; strings.Join(got, " ") != want {
		t.Errorf("got problems at %q, want %q", got, want)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		spec Spec
		want string
	}{
		{Spec{Host: "API.github.com.", Methods: []string{"GET", "POST"}, PathPrefixes: []string{"/repos/"}}, "GET,POST api.github.com/repos/"},
		{Spec{Host: "a.test:8443", Methods: []string{"*"}, PathPrefixes: []string{"pattern:/orgs/*/repos", "/b", "/c"}}, "* a.test:8443/orgs/*/repos and 2 more"},
		{Spec{Host: "[2001:db8::1]:443", Access: "read-only"}, "read-only [2001:db8::1]"},
		{Spec{Host: "a.test", Access: "git-fetch", PathPrefixes: []string{"/org/repo"}}, "git-fetch a.test/org/repo"},
		{Spec{Host: "a.test", Methods: []string{"OPTIONS"}, PathPrefixes: []string{"*"}}, "OPTIONS a.test *"},
		{Spec{Host: "a.test", Methods: []string{"DELETE"}, PathPrefixes: []string{"/x"}, Deny: true}, "deny DELETE a.test/x"},
		{
			Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Query: map[string][]string{"b": {"1"}, "a\n": {"2"}}, Headers: map[string][]string{"X-Api": {"v1"}}},
			`GET a.test/ with query "a\n", "b" with header "X-Api"`,
		},
		{Spec{Host: "a.test", Methods: []string{"GET"}, PathPrefixes: []string{"/" + strings.Repeat("a", 250)}}, "GET a.test/" + strings.Repeat("a", 186) + "..."},
	} {
		r := mustRule(t, tt.spec)
		if got := r.String(); got != tt.want || len(got) > maxDescription {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
