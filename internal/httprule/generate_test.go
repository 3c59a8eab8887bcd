package httprule

// Random paths, rules and requests, made of the pieces that matter.

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// pieces are parts of paths: harmless ones, and those that servers read in
// different ways.
var (
	harmless = []string{"/", "/", "/", "/", "v1", "v", "1", "a", "b", "%61", "%76%31", "x", "admin", "ad", "%6din", ".x", "x.", "...", "~", "%7e", "%7E", "@", "%40", "*", "%2a", "+", "-", "_", ":", "=", "%20", "%c3%a9", "%e0%a0%80", ","}
	harmful  = []string{"..", ".", "/../", "/./", "%2e", "%2E%2e", ".%2e", "%2f", "%2F", "..%2f", "%2f..", "//", "%5c", `\`, "%25", "%252e", "%252f", "%", "%4", "%zz", ";", "..;", ";x=y", "%3b", "#", "%23", "%3f", "%00", "%09", "%7f", " ", "\t", "é", "%c0%ae", "%c0%af", "%e0%80%af", "%f0%80%80%af", "%ff"}
)

// randomPath returns a path that has harmful pieces with probability evil.
func randomPath(r *rand.Rand, evil float64) string {
	var b strings.Builder
	b.WriteByte('/')
	for range r.IntN(8) {
		if r.Float64() < evil {
			b.WriteString(harmful[r.IntN(len(harmful))])
		} else {
			b.WriteString(harmless[r.IntN(len(harmless))])
		}
	}
	return b.String()
}

func pick(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }

// randomEntry returns an element of path_prefixes, which may be invalid.
func randomEntry(r *rand.Rand) string {
	path := randomPath(r, 0.02)
	switch r.IntN(4) {
	case 0:
		return path
	case 1:
		return "literal:" + path
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(path, "/") {
		switch r.IntN(6) {
		case 0:
			segment = "**"
		case 1:
			segment = "*" + segment
		case 2:
			segment += "?"
		}
		b.WriteString(strings.ReplaceAll(segment, "***", "**") + "/")
	}
	text := "/" + strings.Trim(b.String(), "/")
	if r.IntN(4) == 0 && text != "/" {
		text += "/"
	}
	return "pattern:" + text
}

func randomValue(r *rand.Rand) string {
	return pick(r, "a", "b", "ab", "a b", "literal:pattern:a", "literal:*", "pattern:*", "pattern:a*", "pattern:?", "pattern:*b*", `pattern:\*a`, "")
}

// randomSpec returns the text of a rule, which may be invalid.
func randomSpec(r *rand.Rand) Spec {
	s := Spec{Host: "api.test", Methods: []string{pick(r, "GET", "POST", "*", "DELETE")}, PathPrefixes: []string{randomEntry(r)}, Deny: r.IntN(3) == 0}
	if r.IntN(3) == 0 {
		s.Methods = append(s.Methods, pick(r, "GET", "PUT", "OPTIONS"))
	}
	for r.IntN(2) == 0 {
		s.PathPrefixes = append(s.PathPrefixes, pick(r, randomEntry(r), "/", "*"))
	}
	if r.IntN(3) == 0 {
		s.Query = map[string][]string{pick(r, "a", "b", "a b"): {randomValue(r), randomValue(r)}}
		s.QueryOnly = !s.Deny && r.IntN(2) == 0
	}
	if r.IntN(4) == 0 {
		s.Headers = map[string][]string{pick(r, "x-a", "X_A", "x-b"): {randomValue(r)}}
	}
	s.AllowEncodedSlash = !s.Deny && r.IntN(3) == 0
	return s
}

// randomRequest returns a request with a path near to those of the rules.
func randomRequest(r *rand.Rand, specs []Spec) *Request {
	path := randomPath(r, 0.05)
	if s := specs[r.IntN(len(specs))]; r.IntN(3) > 0 {
		path = s.PathPrefixes[r.IntN(len(s.PathPrefixes))]
		path = strings.TrimPrefix(strings.TrimPrefix(path, "literal:"), "pattern:")
		path = strings.NewReplacer("**", pick(r, "a", "a/b", "v1", ""), "*", pick(r, "", "x", "%40"), "?", pick(r, "x", "%61", "ab")).Replace(path)
		path = strings.ReplaceAll(path, "//", "/")
		path += pick(r, "", "/", "/x", "x", "%2fx", "/%61", ";", "/..")
	}
	q := &Request{Method: pick(r, "GET", "GET", "POST", "DELETE", "OPTIONS", "PUT"), Target: path, Header: make(http.Header)}
	if r.IntN(20) == 0 {
		q.Target = "*"
	}
	if r.IntN(2) == 0 {
		q.Target += "?"
		for r.IntN(3) > 0 {
			q.Target += pick(r, "a=a", "a=b", "b=a", "a", "a+b=ab", "a=%61b", "%61=a", "a%20b=a+b", "x=1", "=", "a=%zz", "a=*a") + pick(r, "&", "&", ";", "")
		}
	}
	for r.IntN(3) == 0 {
		name := pick(r, "X-A", "X_a", "X-B", "X-Http-Method-Override", "X_method_override", "X-Http-Method")
		q.Header[name] = append(q.Header[name], pick(r, "a", "b", "ab", " a ", "b, a", "GET", "POST", "delete", "DELETE, PUT", ""))
	}
	return q
}

// random returns a source that depends on seed alone.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// TestAgainstOracle compares random judgements with those of the oracle.
func TestAgainstOracle(t *testing.T) {
	t.Parallel()
	rounds := 200_000
	if testing.Short() {
		rounds = 5_000
	}
	r := random(1)
	var allowed, denied, unmatched, problems, invalid int
	for range rounds {
		specs := []Spec{randomSpec(r), randomSpec(r), randomSpec(r)}
		h, ok := parseAll(specs)
		if !ok {
			invalid++
			continue
		}
		q := randomRequest(r, specs)
		got := h.Judge(q)
		wantAllowed, wantProblem, wantRule := naiveJudge(specs, q)
		if got.Allowed != wantAllowed || (got.Problem != "") != wantProblem || got.Rule != wantRule {
			t.Fatalf("rules %+v\nrequest %+v\ngot %+v, want allowed %v, problem %v, rule %d", specs, q, got, wantAllowed, wantProblem, wantRule)
		}
		switch {
		case got.Allowed:
			allowed++
		case got.Problem != "":
			problems++
		case got.Rule >= 0:
			denied++
		default:
			unmatched++
		}
	}
	t.Logf("allowed %d, denied %d, not matched %d, refused for the path %d, invalid rules %d", allowed, denied, unmatched, problems, invalid)
	if least := rounds / 50; min(allowed, denied, unmatched, problems) < least {
		t.Errorf("want at least %d of each judgement", least)
	}
}

// parseAll compiles rules for one host.
func parseAll(specs []Spec) (*HostRules, bool) {
	var rules []*Rule
	for i := range specs {
		r, problems := Parse(&specs[i])
		if len(problems) > 0 {
			return nil, false
		}
		rules = append(rules, r)
	}
	return NewSet(rules).For(rules[0].target), true
}

func TestPathProblemsAgainstOracle(t *testing.T) {
	t.Parallel()
	r := random(2)
	rounds := 50_000
	if testing.Short() {
		rounds = 5_000
	}
	for range rounds {
		path := randomPath(r, 0.2)
		problem, slash := pathProblem(path)
		if (problem != "") != naiveProblem(path) || problem == "" && slash != encodedSlash.MatchString(path) {
			t.Fatalf("%q: got %q, %v", path, problem, slash)
		}
	}
}

// words returns all lists of at most n letters.
func words(letters []string, n int) [][]string {
	all := [][]string{nil}
	for begin := 0; n > 0; n-- {
		end := len(all)
		for _, word := range all[begin:end] {
			for _, letter := range letters {
				all = append(all, append(word[:len(word):len(word)], letter))
			}
		}
		begin = end
	}
	return all
}

// TestAllShortPatterns compares all short patterns with the oracle, for all short
// texts and paths.
func TestAllShortPatterns(t *testing.T) {
	t.Parallel()
	most := 4 // letters or segments in a pattern
	if testing.Short() {
		most = 3
	}
	texts := words([]string{"a", "b"}, most+1)
	for _, pattern := range words([]string{"a", "b", "*", "?"}, most) {
		text := strings.Join(pattern, "")
		p, ok := compile(text, plain)
		if !ok {
			t.Fatalf("%q does not compile", text)
		}
		naive := globCharacters(text, false, false)
		for _, word := range texts {
			if got, want := p.match(strings.Join(word, ""), plain), matchCharacters(naive, word); got != want {
				t.Errorf("%q matches %q: got %v, want %v", text, word, got, want)
			}
		}
	}
	paths := words([]string{"a", "b"}, most)[1:]
	for _, pattern := range words([]string{"a", "b", "*", "**"}, most)[1:] {
		text := "/" + strings.Join(pattern, "/")
		p, _, problem := parsePathGlob(text)
		if problem != "" {
			t.Fatalf("%q %s", text, problem)
		}
		for _, segments := range paths {
			for _, path := range []string{"/" + strings.Join(segments, "/"), "/" + strings.Join(segments, "/") + "/"} {
				if got, want := p.match(path, inPath, false), naivePath(patternPrefix+text, path, false, false); got != want {
					t.Errorf("%q matches %q: got %v, want %v", text, path, got, want)
				}
			}
		}
	}
}

// TestTimeOfPatterns checks that the worst patterns and paths take a bounded number
// of steps: with exponential time the test would not end.
func TestTimeOfPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ pattern, path string }{
		{"pattern:/" + strings.Repeat("*a", 120) + "b", "/" + strings.Repeat("a", maxPath-1)},
		{"pattern:" + strings.Repeat("/**/*a*a*a*b", 8), strings.Repeat("/aaaaaaaaaaaaaaa", maxPath/16)},
		{"pattern:" + strings.Repeat("/**/a/a/a/a", 8) + "/b", strings.Repeat("/a", maxPath/2)},
	} {
		h := hostRules(t, get(tt.pattern))
		if got := h.Judge(request("GET " + tt.path)); got.Allowed || got.Problem != "" {
			t.Errorf("%.40q: got %+v", tt.pattern, got)
		}
	}
	value := hostRules(t, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/"}, Query: map[string][]string{"a": {"pattern:" + strings.Repeat("*a", 120) + "b"}}})
	if got := value.Judge(request("GET /?a=" + strings.Repeat("a", 64<<10))); got.Allowed {
		t.Errorf("got %+v", got)
	}
}
