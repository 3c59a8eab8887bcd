package httprule

// Tables of rules and requests.

import (
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

// mustRule compiles a rule for api.test.
func mustRule(t testing.TB, s Spec) *Rule {
	t.Helper()
	if s.Host == "" {
		s.Host = "api.test"
	}
	r, problems := Parse(&s)
	if len(problems) > 0 {
		t.Fatalf("Parse(%+v) reports %+v", s, problems)
	}
	return r
}

// hostRules returns the rules for api.test.
func hostRules(t testing.TB, specs ...Spec) *HostRules {
	t.Helper()
	var rules []*Rule
	for _, s := range specs {
		rules = append(rules, mustRule(t, s))
	}
	target, err := hostname.ParseTarget("api.test:443")
	if err != nil {
		t.Fatal(err)
	}
	h := NewSet(rules).For(target)
	if h == nil {
		t.Fatal("no rules for api.test:443")
	}
	return h
}

// request returns a request from "METHOD TARGET" and header lines "Name: value".
func request(line string, fields ...string) *Request {
	method, target, _ := strings.Cut(line, " ")
	q := &Request{Method: method, Target: target, Header: make(http.Header)}
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		q.Header[name] = append(q.Header[name], value)
	}
	return q
}

// get returns a rule that allows GET at paths.
func get(paths ...string) Spec { return Spec{Methods: []string{"GET"}, PathPrefixes: paths} }

func TestPaths(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern  string
		match    string // blank-separated paths
		mismatch string
	}{
		{"/v1", "/v1 /v1/ /v1/x /v1/x/y /%76%31/x /v%31", "/v10 /v1x /v /v2 / /V1 /x/v1 /v1%2Dx"},
		{"/v1/", "/v1/ /v1/x /v1/x/", "/v1 /v10 /v1x/"},
		{"/", "/ /a /a/ /a/b", "*"},
		{"/a/b", "/a/b /a/b/ /a/b/c /%61/%62", "/a /a/ /a/bc /ab /a/B"},
		{"/%7euser", "/~user /%7Euser/x /%7euser", "/user /~user2"},
		{"/a%40b", "/a%40b /a%40b/c", "/a@b"},
		{"/@a/b", "/@a/b/c", "/%40a/b/c"},
		{"/a%c3%a9", "/a%C3%A9 /a%c3%A9/b", "/a%C3%A8 /a"},
		{"literal:/a*b", "/a*b /a*b/c", "/axb /a%2Ab /a"},
		{"literal:/pattern:/x", "/pattern:/x/y", "/x"},
		{"pattern:/orgs/*/repos", "/orgs/a/repos /orgs/a.b-c/repos /orgs/%40/repos", "/orgs/repos /orgs/a/b/repos /orgs/a/repos/ /orgs/a/repos/x /orgs/a/reposx"},
		{"pattern:/a/*", "/a/b /a/bc", "/a /a/ /a/b/ /a/b/c"},
		{"pattern:/a/*/", "/a/b/", "/a/b /a/ /a/b/c"},
		{"pattern:/a/**", "/a /a/ /a/b /a/b/c /a/b/", "/ab /b/a /"},
		{"pattern:/**/z", "/z /a/z /a/b/z /z/z", "/z/ /az /a/zz /z/a"},
		{"pattern:/a/**/b/**/c", "/a/b/c /a/x/b/y/c /a/b/b/c /a/c/b/c", "/a/c /a/b /a/x/c/b /a/b/c/d"},
		{"pattern:/**/a/**/a", "/a/a /a/b/a /x/a/y/a", "/a /b/a /a/b"},
		{"pattern:/v?/x", "/v1/x /v%40/x /v%31/x", "/v/x /v12/x /v//x"},
		{`pattern:/a\*b`, "/a*b", "/axb /ab"},
		{"pattern:/*a*b*", "/ab /xaxbx /aab /abab", "/ba /b /a /x"},
		{"pattern:/*.json", "/x.json /.json /a.b.json /x..json", "/json /x.jsonx /a/x.json"},
		{"pattern:/**", "/ /a /a/b /a/", "*"},
		{"pattern:/a", "/a", "/a/ /a/b /ab"},
		{"*", "*", "/ /a"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			t.Parallel()
			h := hostRules(t, Spec{Methods: []string{"*"}, PathPrefixes: []string{tt.pattern}})
			for want, paths := range map[bool]string{true: tt.match, false: tt.mismatch} {
				for path := range strings.FieldsSeq(paths) {
					if got := h.Judge(request("OPTIONS " + path)); got.Allowed != want {
						t.Errorf("%s: got %+v, want allowed %v", path, got, want)
					}
				}
			}
		})
	}
}

func TestPathsWithTwoReadings(t *testing.T) {
	t.Parallel()
	tests := []struct{ path, problem string }{
		{"/a/../b", "dot segment"}, {"/a/..", "dot segment"}, {"/.", "dot segment"}, {"/..", "dot segment"}, {"/./a", "dot segment"},
		{"/a/%2e%2e/b", "dot segment"}, {"/a/.%2E/b", "dot segment"}, {"/a/%2e", "dot segment"}, {"/a/%2e./b", "dot segment"},
		{"/a%2fb", "encoded slash"}, {"/a%2Fb", "encoded slash"}, {"/a%2f../b", "dot segment"}, {"/a/..%2fb", "dot segment"},
		{"/a%2f%2fb", "empty segment"}, {"/%2fa", "empty segment"}, {"/a/%2fb", "empty segment"}, {"/a%2f/b", "empty segment"},
		{"/a%5cb", "backslash"}, {"/a%5Cb", "backslash"}, {`/a\b`, "backslash"}, {`/a\..\b`, "backslash"},
		{"/a%25b", "percent sign"}, {"/a%252fb", "percent sign"}, {"/%252e%252e/b", "percent sign"},
		{"/a%00", "control"}, {"/a%1f", "control"}, {"/a%7f", "control"}, {"/a%0d%0aX", "control"}, {"/a%09", "control"},
		{"/a%", "incomplete"}, {"/a%4", "incomplete"}, {"/a%zz", "incomplete"}, {"/a%u002e", "incomplete"}, {"/%%32%65", "incomplete"}, {"/a%-1", "incomplete"},
		{"/a;b", "semicolon"}, {"/..;/b", "semicolon"}, {"/a;", "semicolon"}, {"/;a=b/c", "semicolon"},
		{"//a", "empty segment"}, {"/a//b", "empty segment"}, {"/a//", "empty segment"}, {"//", "empty segment"},
		{"/a#b", "number sign"}, {"/a b", "blank"}, {"/a\tb", "control"}, {"/a\x00", "control"}, {"/a\x7f", "control"}, {"/a\r\n", "control"},
		{"/\xc3\xa9", "ASCII"}, {"/\x80", "ASCII"}, {"/\xff", "ASCII"},
		{"/%c0%ae%c0%ae/b", "overlong"}, {"/a%C0%AFb", "overlong"}, {"/%c1%9c", "overlong"}, {"/%e0%80%ae", "overlong"}, {"/%E0%9f%bf", "overlong"},
		{"/%f0%80%80%ae", "overlong"}, {"/%F0%8f%BF%BF", "overlong"}, {"/%f8%80%80%80%ae", "overlong"}, {"/%fc%80%80%80%80%ae", "overlong"}, {"/%ff", "overlong"},
		{"", "slash"}, {"a", "slash"}, {"http://api.test/", "slash"}, {"api.test:443", "slash"}, {"**", "slash"}, {"%2fa", "slash"}, {`\a`, "slash"},
		{"/" + strings.Repeat("a", maxPath), "8192"},
		{"*", "asterisk"}, // with GET
	}
	h := hostRules(t, get("/"), get("*"))
	for _, tt := range tests {
		got := h.Judge(&Request{Method: "GET", Target: tt.path})
		if got.Allowed || got.Rule != -1 || !strings.Contains(got.Problem, tt.problem) {
			t.Errorf("GET %.60q: got %+v, want a problem with %q", tt.path, got, tt.problem)
		}
	}
	for _, path := range []string{
		"/a/.../b", "/...", "/.a", "/a./b", "/..a", "/a..", "/%2ea", "/a%20b", "/a%2Cb", "/%c3%a9", "/%e0%a0%80", "/%f0%90%80%80", "/%e9", "/a/", "/", "/a:b@c,d+e=f&g!h$i'j(k)l*m", `/a"<>^` + "`{|}", "/%3b", "/%3f%23", "/" + strings.Repeat("a", maxPath-1),
	} {
		if got := h.Judge(request("GET " + path)); !got.Allowed {
			t.Errorf("GET %.60q: got %+v, want allowed", path, got)
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := hostRules(t, Spec{Methods: []string{"GET", "POST"}, PathPrefixes: []string{"/a"}}, Spec{Methods: []string{"*"}, PathPrefixes: []string{"/any"}})
	for _, tt := range []struct {
		line   string
		fields []string
		want   bool
	}{
		{"GET /a", nil, true}, {"POST /a", nil, true},
		{"HEAD /a", nil, false}, {"get /a", nil, false}, {"Post /a", nil, false}, {" /a", nil, false}, {"* /a", nil, false}, {"GETX /a", nil, false},
		{"DELETE /any", nil, true}, {"x /any", nil, true}, {"DELETE /any", []string{"X-Http-Method-Override: PUT"}, true},
		{"POST /a", []string{"X-Http-Method-Override: GET"}, true},
		{"POST /a", []string{"X-Http-Method-Override: DELETE"}, false},
		{"POST /a", []string{"X-Http-Method-Override: GET", "X-Http-Method-Override: DELETE"}, false},
		{"POST /a", []string{"X-Http-Method-Override: GET, DELETE"}, false},
		{"POST /a", []string{"X-Http-Method-Override: get"}, false},
		{"POST /a", []string{"X-Http-Method-Override: "}, false},
		{"POST /a", []string{"X-Http-Method: DELETE"}, false}, {"POST /a", []string{"X-Method-Override: DELETE"}, false},
		{"POST /a", []string{"X_http_method_override: DELETE"}, false}, {"POST /a", []string{"X_METHOD_OVERRIDE: DELETE"}, false}, {"POST /a", []string{"x-http_method: DELETE"}, false},
		{"POST /a", []string{"X-Http-Method-Override2: DELETE"}, true}, {"POST /a", []string{"X-Method: DELETE"}, true},
	} {
		if got := h.Judge(request(tt.line, tt.fields...)); got.Allowed != tt.want || got.Problem != "" {
			t.Errorf("%s %q: got %+v, want allowed %v", tt.line, tt.fields, got, tt.want)
		}
	}
}

func TestQueries(t *testing.T) {
	t.Parallel()
	conditions := map[string][]string{"state": {"open", "pattern:tri*", "a b", "literal:pattern:x"}, "p": {"pattern:?", "pattern:1/*"}}
	free := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Query: conditions})
	only := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Query: conditions, QueryOnly: true})
	none := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, QueryOnly: true})
	for _, tt := range []struct {
		query            string
		free, only, none bool
	}{
		{"?state=open&p=1", true, true, false},
		{"?p=1&state=open", true, true, false},
		{"?state=tri&p=1/2", true, true, false}, {"?state=triage&p=1%2f", true, true, false},
		{"?st%61te=%6fpen&p=%31", true, true, false},
		{"?state=a+b&p=1", true, true, false}, {"?state=a%20b&p=+", true, true, false}, {"?state=a%2bb&p=1", false, false, false},
		{"?state=pattern:x&p=1", true, true, false}, {"?state=pattern%3Ax&p=%c3", true, true, false},
		{"?state=open&p=1&", true, true, false}, {"?&&state=open&p=1", true, true, false},
		{"?state=open&state=triage&p=1", true, true, false},
		{"?state=open&p=1&x=2", true, false, false}, {"?state=open&p=1&x", true, false, false}, {"?state=open&p=1&=x", true, false, false},
		{"?state=open&state=closed&p=1", false, false, false}, {"?state=closed&state=open&p=1", false, false, false},
		{"?state=open&st%61te=closed&p=1", false, false, false}, {"?state=open&p=1&state", false, false, false}, {"?state=open&p=1&state=", false, false, false},
		{"?state=open", false, false, false}, {"?p=1", false, false, false}, {"?p=12&state=open", false, false, false},
		{"?state=opened&p=1", false, false, false}, {"?state=ope&p=1", false, false, false}, {"?State=open&p=1", false, false, false},
		{"?state=open&p=1&x=%zz", false, false, false}, {"?state=open&p=1&x=%", false, false, false}, {"?state=open&p=1&%4=x", false, false, false}, {"?state=open%&p=1", false, false, false},
		{"?state=open;state=closed&p=1", false, false, false}, {"?state=open&p=1&x=1;state=closed", false, false, false}, {"?state=open;p=1", false, false, false},
		{"?state=open&p=1&x=1;y=2", true, false, false}, {"?state=open&p=;", false, false, false},
		{"", false, false, true}, {"?", false, false, true}, {"?&", false, false, true}, {"?x", false, false, false}, {"?;", false, false, false},
		{"?x=1", false, false, false}, {"??state=open&p=1", false, false, false},
	} {
		for name, test := range map[string]struct {
			rules *HostRules
			want  bool
		}{"free": {free, tt.free}, "only": {only, tt.only}, "none": {none, tt.none}} {
			if got := test.rules.Judge(request("GET /" + tt.query)); got.Allowed != test.want || got.Problem != "" {
				t.Errorf("%s %s: got %+v, want allowed %v", name, tt.query, got, test.want)
			}
		}
	}
	for _, query := range []string{"?a b", "?a#b", "?a\x00", "?\x7f", "?a\r\n"} {
		if got := free.Judge(&Request{Method: "GET", Target: "/" + query}); got.Problem == "" {
			t.Errorf("%q: got %+v, want a problem", query, got)
		}
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	h := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Headers: map[string][]string{"X-api": {"v1", "pattern:v2.*"}, "accept": {"pattern:*"}}})
	for _, tt := range []struct {
		fields []string
		want   bool
	}{
		{[]string{"X-Api: v1", "Accept: x"}, true}, {[]string{"X-Api: v2.7", "Accept: x"}, true}, {[]string{"X-Api: \t v1 ", "Accept: "}, true},
		{[]string{"X-Api: v1", "X-Api: v2.", "Accept: x", "Accept: y"}, true}, {[]string{"X-Api: v1", "Accept: x", "Other: y"}, true},
		{[]string{"X-Api: v1", "X-Api: v3", "Accept: x"}, false}, {[]string{"X-Api: v3", "X-Api: v1", "Accept: x"}, false},
		{[]string{"X-Api: v1, v3", "Accept: x"}, false}, {[]string{"X-Api: V1", "Accept: x"}, false}, {[]string{"X-Api: v10", "Accept: x"}, false},
		{[]string{"X-Api: ", "Accept: x"}, false}, {[]string{"X-Api: v1"}, false}, {[]string{"Accept: x"}, false}, {nil, false},
		{[]string{"X-Api: v1", "X_api: v3", "Accept: x"}, false}, {[]string{"X-Api: v1", "X_API: v1", "Accept: x"}, true},
		{[]string{"X-Api: v1", "Accept: x", "Connection: close"}, true},
		{[]string{"X-Api: v1", "Accept: x", "Connection: x-api"}, false}, {[]string{"X-Api: v1", "Accept: x", "Connection: close, X-API"}, false},
		{[]string{"X-Api: v1", "Accept: x", "Connection: close", "Connection: x_api"}, false},
	} {
		if got := h.Judge(request("GET /", tt.fields...)); got.Allowed != tt.want || got.Problem != "" {
			t.Errorf("%q: got %+v, want allowed %v", tt.fields, got, tt.want)
		}
	}
}

func TestDeny(t *testing.T) {
	t.Parallel()
	rules := []Spec{
		{Methods: []string{"*"}, PathPrefixes: []string{"/"}, AllowEncodedSlash: true},
		{Deny: true, Methods: []string{"*"}, PathPrefixes: []string{"/admin", "/@x/y", "/p/%40q", "pattern:/**/secret", "pattern:/t/*"}},
		{Deny: true, Methods: []string{"DELETE", "PUT"}, PathPrefixes: []string{"/data"}},
		{Deny: true, Methods: []string{"GET"}, PathPrefixes: []string{"/q"}, Query: map[string][]string{"state": {"closed"}}},
		{Deny: true, Methods: []string{"GET"}, PathPrefixes: []string{"/h"}, Headers: map[string][]string{"x-api": {"v1"}}},
	}
	reversed := make([]Spec, len(rules))
	for i, s := range rules {
		reversed[len(rules)-1-i] = s
	}
	first, last := hostRules(t, rules...), hostRules(t, reversed...)
	for _, tt := range []struct {
		line   string
		fields []string
		rule   int
	}{
		{"GET /", nil, 0}, {"GET /administrator", nil, 0}, {"DELETE /x", nil, 0}, {"GET /data", nil, 0}, {"POST /data", nil, 0}, {"GET /x%2Fy", nil, 0},
		{"GET /admin", nil, 1}, {"GET /admin/x", nil, 1}, {"GET /%61dmin/", nil, 1}, {"GET /a/b/secret", nil, 1}, {"GET /secret", nil, 1},
		{"GET /p/@q", nil, 1}, {"GET /p/%40q/x", nil, 1}, {"GET /t/x", nil, 1}, {"GET /t/x%2fy", nil, 1}, {"GET /t/x/y", nil, 0},
		{"GET /%40x/y/z", nil, 1}, {"GET /@x/y", nil, 1}, {"GET /@x%2fy", nil, 1}, {"GET /%40x%2Fy%2Fz", nil, 1}, {"GET /admin%2fx", nil, 1}, {"GET /a%2fsecret", nil, 1}, {"GET /a%2fb/secret", nil, 1},
		{"DELETE /data/1", nil, 2}, {"PUT /data", nil, 2}, {"POST /data", []string{"X-Http-Method-Override: delete"}, 2},
		{"POST /data", []string{"X-Method-Override: GET", "X-Method-Override: PUT"}, 2}, {"POST /data", []string{"X_http_method: x, PUT"}, 2}, {"POST /data", []string{"X-Method-Override: PATCH"}, 0},
		{"GET /q?state=closed", nil, 3}, {"GET /q?state=open&state=closed", nil, 3}, {"GET /q?x=1;state=closed", nil, 3}, {"GET /q?st%61te=close%64", nil, 3}, {"GET /q?x=%zz", nil, 3},
		{"GET /q?state=open", nil, 0}, {"GET /q", nil, 0}, {"GET /q?state=closed1", nil, 0}, {"POST /q?state=closed", nil, 0},
		{"GET /h", []string{"X-Api: v1"}, 4}, {"GET /h", []string{"X-Api: v2", "X-Api: v1"}, 4}, {"GET /h", []string{"X_api:  v1 "}, 4}, {"GET /h", []string{"X-Api: v2, v1"}, 4},
		{"GET /h", []string{"X-Api: v2"}, 0}, {"GET /h", nil, 0},
	} {
		q := request(tt.line, tt.fields...)
		if got := first.Judge(q); got.Allowed != (tt.rule == 0) || got.Rule != tt.rule || got.Problem != "" {
			t.Errorf("%s %q: got %+v, want rule %d", tt.line, tt.fields, got, tt.rule)
		}
		if got, want := last.Judge(q), len(rules)-1-tt.rule; got.Allowed != (tt.rule == 0) || got.Rule != want {
			t.Errorf("%s %q in reversed order: got %+v, want rule %d", tt.line, tt.fields, got, want)
		}
	}
}

func TestEncodedSlashes(t *testing.T) {
	t.Parallel()
	h := hostRules(t,
		Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/npm", "pattern:/projects/*/issues", "/groups/a%2fb"}, AllowEncodedSlash: true},
		get("/other"))
	for path, want := range map[string]Result{
		"/npm/@scope%2fname":         {Allowed: true},
		"/npm/@scope%2Fname/x":       {Allowed: true},
		"/projects/a%2Fb/issues":     {Allowed: true},
		"/groups/%61%2Fb/c":          {Allowed: true},
		"/groups/a/b":                {Rule: -1},
		"/npm%2fx":                   {Rule: -1, Problem: problemEncodedSlash},
		"/other/a%2fb":               {Rule: -1, Problem: problemEncodedSlash},
		"/other/a":                   {Allowed: true, Rule: 1},
		"/projects/a%2fb%2fissues":   {Rule: -1, Problem: problemEncodedSlash},
		"/projects/a%2f..%2f/issues": {Rule: -1, Problem: `it has a dot segment ("." or "..")`},
		"/npm/..%2fx":                {Rule: -1, Problem: `it has a dot segment ("." or "..")`},
		"/npm/x%2f.":                 {Rule: -1, Problem: `it has a dot segment ("." or "..")`},
		"/npm/x%2f%2fy":              {Rule: -1, Problem: "it has an empty segment (//)"},
	} {
		if got := h.Judge(request("GET " + path)); got != want {
			t.Errorf("GET %s: got %+v, want %+v", path, got, want)
		}
	}
}

func TestSets(t *testing.T) {
	t.Parallel()
	if s := NewSet(nil); s != nil || s.For(hostname.Target{}) != nil {
		t.Error("a set of no rules is not nil, or has rules")
	}
	s := NewSet([]*Rule{
		mustRule(t, Spec{Host: "A.test.", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}),
		mustRule(t, Spec{Host: "a.test:8443", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}),
		mustRule(t, Spec{Host: "[2001:db8::1]", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}),
		mustRule(t, Spec{Host: "localhost:80", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}),
		mustRule(t, Spec{Host: "127.0.0.1", Methods: []string{"GET"}, PathPrefixes: []string{"/"}}),
	})
	for text, rule := range map[string]int{
		"a.test:443": 0, "a.test:8443": 1, "[2001:db8::1]:443": 2, "localhost:80": 3, "127.0.0.1:443": 4,
		"a.test:80": -1, "b.a.test:443": -1, "localhost:443": -1, "[::ffff:127.0.0.1]:443": 4,
	} {
		target, err := hostname.ParseTarget(text)
		if err != nil {
			t.Fatal(err)
		}
		h := s.For(target)
		if h == nil {
			if rule >= 0 {
				t.Errorf("%s has no rules", text)
			}
			continue
		}
		if got := h.Judge(request("GET /")); got.Rule != rule {
			t.Errorf("%s: got rule %d, want %d", text, got.Rule, rule)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	s := NewSet([]*Rule{
		mustRule(t, Spec{Methods: []string{"GET", "POST"}, PathPrefixes: []string{"/v1/", "pattern:/orgs/*/repos/**"}, Query: map[string][]string{"state": {"pattern:o*"}}, Headers: map[string][]string{"x-api": {"v1"}}}),
		mustRule(t, Spec{Methods: []string{"DELETE"}, PathPrefixes: []string{"/"}, Deny: true}),
	})
	target := mustRule(t, get("/")).Target()
	q := request("GET /orgs/a%20b/repos/x?state=%6fpen", "X-Api: v1", "Accept: */*", "Connection: close")
	if !s.For(target).Judge(q).Allowed {
		t.Fatal("the request is refused")
	}
	var allowed int
	if n := testing.AllocsPerRun(100, func() {
		if s.For(target).Judge(q).Allowed {
			allowed++
		}
	}); n != 0 {
		t.Errorf("For and Judge allocate %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := ReadOnly(q); ok {
			allowed++
		}
	}); n != 0 {
		t.Errorf("ReadOnly allocates %v times", n)
	}
}
