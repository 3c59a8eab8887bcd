package httprule

// Fuzz targets.

import (
	"encoding/json"
	"io"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzPath compares the check of paths with the oracle. A path without a problem
// has one reading: neither decoding nor cleaning it changes its segments.
func FuzzPath(f *testing.F) {
	for _, p := range append(append([]string{"/v1/x", "/a%2fb", "/a/../b"}, harmful...), harmless...) {
		f.Add(p)
		f.Add("/a" + p + "/b")
	}
	f.Fuzz(func(t *testing.T, p string) {
		problem, slash := pathProblem(p)
		if (problem != "") != naiveProblem(p) || problem == "" && slash != encodedSlash.MatchString(p) {
			t.Fatalf("pathProblem(%q) = %q, %v", p, problem, slash)
		}
		if !printable(problem) {
			t.Fatalf("the problem of %q is not printable: %q", p, problem)
		}
		if problem != "" {
			return
		}
		u, err := url.ParseRequestURI("http://api.test" + strings.ReplaceAll(p, "?", "%3F"))
		if err != nil {
			t.Fatalf("%q has no problem, but does not parse: %v", p, err)
		}
		if cleaned := path.Clean(u.Path); cleaned != u.Path && cleaned+"/" != u.Path {
			t.Fatalf("%q is read as %q, and cleaned as %q", p, u.Path, cleaned)
		}
	})
}

// FuzzRules compares rules with the oracle.
func FuzzRules(f *testing.F) {
	f.Add("/v1", "pattern:/a/**", "/v1/x?a=b", "pattern:a*", "GET", "a", byte(0))
	f.Add("pattern:/orgs/*/r?pos", "/admin", "/orgs/%61%2fb/repos?a=ab&a=a", "ab", "GET", "b, ab", byte(7))
	f.Add("literal:/a*", "*", "*", "literal:*", "OPTIONS", "", byte(31))
	f.Add(`pattern:/\*/**/x`, "/%40", "/*/a/x?a=%zz;a", `pattern:\*`, "delete", "DELETE", byte(12))
	r := random(3)
	for range 200 {
		a, b := randomSpec(r), randomSpec(r)
		q := randomRequest(r, []Spec{a, b})
		f.Add(a.PathPrefixes[0], b.PathPrefixes[0], q.Target, randomValue(r), q.Method, q.Header.Get("X-A"), byte(r.Uint32()))
	}
	f.Fuzz(func(t *testing.T, allow, deny, target, value, method, field string, flags byte) {
		if len(target) > 1000 || len(field) > 200 {
			return // the oracle is slow
		}
		specs := []Spec{
			{Host: "api.test", Methods: []string{"GET", "OPTIONS"}, PathPrefixes: []string{allow}, AllowEncodedSlash: flags&1 != 0, QueryOnly: flags&2 != 0},
			{Host: "api.test", Methods: []string{"GET", "DELETE"}, PathPrefixes: []string{deny}, Deny: flags&4 != 0},
		}
		q := request(method+" "+target, "X-A: "+field)
		if flags&8 != 0 {
			specs[0].Query = map[string][]string{"a": {value}}
			specs[1].Headers = map[string][]string{"x-a": {value}}
		}
		if flags&16 != 0 {
			specs[1].Query = map[string][]string{"a": {value}}
			q = request(method+" "+target, "X_a: "+field, "X-Method-Override: "+field)
		}
		h, ok := parseAll(specs)
		if !ok {
			return
		}
		got := h.Judge(q)
		allowed, problem, rule := naiveJudge(specs, q)
		if got.Allowed != allowed || (got.Problem != "") != problem || got.Rule != rule {
			t.Fatalf("rules %+v\nrequest %+v\ngot %+v, want allowed %v, problem %v, rule %d", specs, q, got, allowed, problem, rule)
		}
	})
}

// fetchLine matches the first pkt-line of a fetch, except for its length.
var fetchLine = regexp.MustCompile(`^[0-9a-fA-F]{4}(want ([0-9a-f]{40}|[0-9a-f]{64})( [ -~]*)?|shallow ([0-9a-f]{40}|[0-9a-f]{64})|` +
	`deepen(-since)? [0-9]{1,20}|deepen-not [ -~]+|command=(ls-refs|fetch|object-info|bundle-uri))\n?$`)

// naiveFetch reports whether body is a fetch of git.
func naiveFetch(body string) bool {
	if len(body) < 4 || body == "0000" {
		return body == "0000"
	}
	length, err := strconv.ParseUint(body[:4], 16, 16)
	return err == nil && length > 4 && length <= maxFirstLine && int(length) <= len(body) && fetchLine.MatchString(body[:length])
}

// FuzzPktLine compares the check of fetches with a regular expression, for plain
// and compressed bodies, and checks that nothing of the body is lost.
func FuzzPktLine(f *testing.F) {
	for _, line := range []string{"want " + oid + " agent=git\n", "command=fetch", "shallow " + oid256, "deepen 1", "deepen-not x", "have " + oid, "push"} {
		f.Add(pkt(line)+"0000", byte(0))
		f.Add(compressed(pkt(line)), byte(1))
		f.Add(pkt(line), byte(2))
	}
	f.Add("0000", byte(2))
	f.Add("0000x", byte(0))
	f.Add("\x1f\x8b\x08\x1e\x00\x00\x00\x00\x00\xff\x00\x00\x00\x00", byte(1))
	f.Fuzz(func(t *testing.T, body string, mode byte) {
		header, want := noCoding, naiveFetch(body)
		switch mode % 3 {
		case 1: // the fuzzer makes the compressed form
			header = gzipped
		case 2:
			header, body = gzipped, compressed(body)
		}
		source := &counter{Reader: strings.NewReader(body)}
		var reader io.Reader = source
		if mode&4 != 0 {
			reader = iotest.OneByteReader(source)
		}
		replay, err := ContentGitFetch.Check(header, reader)
		if source.n > maxHeld {
			t.Fatalf("Check read %d bytes", source.n)
		}
		if mode%3 != 1 && (err == nil) != want {
			t.Fatalf("%q: got %v, want fetch %v", body, err, want)
		}
		if err != nil {
			if !isContentError(err) || !printable(err.Error()) {
				t.Fatalf("%q: the error is %v", body, err)
			}
			return
		}
		if got, err := io.ReadAll(replay); string(got) != body || err != nil {
			t.Fatalf("the replay of %q is %q, %v", body, got, err)
		}
	})
}

// FuzzLFS checks that a body that is accepted is a download for readers that use
// the first or the last of two equal members, and for those that ignore case. A
// body without a second reading must be accepted.
func FuzzLFS(f *testing.F) {
	for _, body := range []string{
		`{"operation":"download"}`, `{"operation":"upload"}`, `{"Operation":"download","operation":"upload"}`, `{"operation":"download","operation\u0000":""}`,
		`{"objects":[{"oid":"a","size":1}],"operation":"download","ref":{"name":"main"}}`, `[{"operation":"download"}]`, `{"operation":"download","x":{"x":[[]]}}`,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		replay, err := ContentLFSDownload.Check(noCoding, strings.NewReader(body))
		if err != nil {
			if canonical := plainDownload(body); canonical != "" {
				if _, err := ContentLFSDownload.Check(noCoding, strings.NewReader(canonical)); err != nil {
					t.Fatalf("%q is a download, but refused: %v", canonical, err)
				}
			}
			return
		}
		if got, err := io.ReadAll(replay); string(got) != body || err != nil {
			t.Fatalf("the replay of %q is %q, %v", body, got, err)
		}
		var lastOfAnyCase struct{ Operation string }
		var last map[string]any
		if err := json.Unmarshal([]byte(body), &lastOfAnyCase); err != nil || lastOfAnyCase.Operation != "download" {
			t.Fatalf("%q is read as %+v, %v", body, lastOfAnyCase, err)
		}
		if err := json.Unmarshal([]byte(body), &last); err != nil || last["operation"] != "download" {
			t.Fatalf("%q is read as %v, %v", body, last, err)
		}
		if again, err := json.Marshal(last); err != nil || count(body) != count(string(again)) {
			t.Fatalf("%q loses members when it is written again: %q, %v", body, again, err)
		}
	})
}

// plainDownload returns body with every object's members written once, or nothing
// if a member has a name that is refused, or it is no download.
func plainDownload(body string) string {
	var members map[string]any
	if json.Unmarshal([]byte(body), &members) != nil || members["operation"] != "download" || strings.Count(body, "[")+strings.Count(body, "{") > maxDepth {
		return ""
	}
	text, err := json.Marshal(members)
	if err != nil || strings.ContainsAny(string(text), `\`) || !printable(string(text)) || hasFoldedDuplicate(members) {
		return ""
	}
	return string(text)
}

func hasFoldedDuplicate(value any) bool {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			if hasFoldedDuplicate(element) {
				return true
			}
		}
	case map[string]any:
		seen := make(map[string]bool)
		for name, member := range value {
			if seen[strings.ToLower(name)] || hasFoldedDuplicate(member) {
				return true
			}
			seen[strings.ToLower(name)] = true
		}
	}
	return false
}

// count returns the number of members and elements in JSON.
func count(text string) int {
	n := 0
	for d := json.NewDecoder(strings.NewReader(text)); ; n++ {
		if _, err := d.Token(); err != nil {
			return n
		}
	}
}
