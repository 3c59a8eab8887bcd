package httprule

// A naive implementation of rules, to compare the package with. It follows the
// documentation, uses regular expressions and allocates freely.

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	validEscape  = regexp.MustCompile(`%[0-9a-fA-F]{2}`)
	encodedSlash = regexp.MustCompile(`(?i)%2f`)
	forbidden    = regexp.MustCompile(`[^!-~]|[\\;#]|(?i:%5c|%25|%[01][0-9a-f]|%7f)`)
	overlongForm = regexp.MustCompile(`(?i)%c[01]|%e0%[89]|%f0%8|%f[89a-f]`)
)

// naiveProblem reports whether a path has two readings.
func naiveProblem(path string) bool {
	if !strings.HasPrefix(path, "/") || len(path) > maxPath || forbidden.MatchString(path) || overlongForm.MatchString(path) ||
		strings.Contains(validEscape.ReplaceAllString(path, ""), "%") {
		return true
	}
	segments := strings.Split(encodedSlash.ReplaceAllString(path, "/"), "/")[1:]
	for i, segment := range segments {
		text, err := url.PathUnescape(segment)
		if err != nil || text == "." || text == ".." || text == "" && i < len(segments)-1 {
			return true
		}
	}
	return false
}

// characters splits text into characters: single bytes, and as "%XX" the escapes of
// bytes that are not unreserved. If all is set, every escape is decoded.
func characters(text string, all bool) []string {
	var list []string
	for len(text) > 0 {
		if escape := validEscape.FindString(text); escape != "" && strings.HasPrefix(text, escape) {
			b, _ := strconv.ParseUint(escape[1:], 16, 8)
			if all || strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~", rune(b)) {
				list = append(list, string([]byte{byte(b)}))
			} else {
				list = append(list, strings.ToUpper(escape))
			}
			text = text[3:]
			continue
		}
		list = append(list, text[:1])
		text = text[1:]
	}
	return list
}

// The wildcards in the result of globCharacters.
const (
	wildOne = "any one"
	wildRun = "any run"
)

// globCharacters is characters for a glob.
func globCharacters(text string, all, isPath bool) []string {
	var list []string
	for i, part := range strings.Split(text, `\*`) {
		if i > 0 {
			list = append(list, "*")
		}
		parts := strings.FieldsFunc(strings.NewReplacer("*", "\x00*\x00", "?", "\x00?\x00").Replace(part), func(r rune) bool { return r == 0 })
		for _, p := range parts {
			switch {
			case p == "*":
				list = append(list, wildRun)
			case p == "?":
				list = append(list, wildOne)
			case isPath:
				list = append(list, characters(p, all)...)
			default:
				list = append(list, strings.Split(p, "")...)
			}
		}
	}
	return list
}

// matches reports whether a pattern matches text: for each pair of suffixes in
// turn, from the end.
func matches[P, T any](pattern []P, text []T, isRun func(P) bool, one func(P, T) bool) bool {
	after := make([]bool, len(text)+1)
	after[len(text)] = true
	for i := len(pattern) - 1; i >= 0; i-- {
		now := make([]bool, len(text)+1)
		for j := len(text); j >= 0; j-- {
			if isRun(pattern[i]) {
				now[j] = after[j] || j < len(text) && now[j+1]
			} else {
				now[j] = j < len(text) && one(pattern[i], text[j]) && after[j+1]
			}
		}
		after = now
	}
	return after[0]
}

func matchCharacters(pattern, text []string) bool {
	return matches(pattern, text, func(p string) bool { return p == wildRun }, func(p, c string) bool { return p == wildOne || p == c })
}

// naivePath reports whether an element of path_prefixes matches a path.
func naivePath(entry, path string, all, split bool) bool {
	if entry == "*" || path == "*" {
		return entry == path
	}
	if split {
		path = encodedSlash.ReplaceAllString(path, "/")
	}
	segments := strings.Split(path, "/")[1:]
	if glob, ok := strings.CutPrefix(entry, "pattern:"); ok {
		return matches(strings.Split(glob, "/")[1:], segments, func(p string) bool { return p == "**" }, func(p, segment string) bool {
			return (segment != "" || p == "") && matchCharacters(globCharacters(p, all, true), characters(segment, all))
		})
	}
	prefix := strings.Split(strings.TrimPrefix(entry, "literal:"), "/")[1:]
	if last := len(prefix) - 1; prefix[last] == "" { // any segment is below it
		prefix = prefix[:last]
		if len(segments) <= len(prefix) {
			return false
		}
	}
	return len(segments) >= len(prefix) && slices.EqualFunc(prefix, segments[:len(prefix)], func(p, segment string) bool {
		return slices.Equal(characters(p, all), characters(segment, all))
	})
}

// naiveValue reports whether an entry for a value matches.
func naiveValue(entry, value string) bool {
	text := strings.Split(value, "")
	if glob, ok := strings.CutPrefix(entry, "pattern:"); ok {
		return matchCharacters(globCharacters(glob, false, false), text)
	}
	return strings.TrimPrefix(entry, "literal:") == value
}

type pair struct{ name, value string }

// naivePairs decodes a query whose pairs end at one of the separators.
func naivePairs(query, separators string) (pairs []pair, ok bool) {
	for _, text := range strings.FieldsFunc(query, func(r rune) bool { return strings.ContainsRune(separators, r) }) {
		name, value, _ := strings.Cut(text, "=")
		n, err := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err != nil || err2 != nil {
			return nil, false
		}
		if text != "=" {
			pairs = append(pairs, pair{n, v})
		}
	}
	return pairs, true
}

// naiveFields returns the values of a field under all its spellings.
func naiveFields(header http.Header, names ...string) (values []string) {
	for name, list := range header {
		if slices.Contains(names, strings.ToLower(strings.ReplaceAll(name, "_", "-"))) {
			for _, value := range list {
				values = append(values, strings.Trim(value, " \t"))
			}
		}
	}
	return values
}

func naiveMethods(q *Request) []string {
	return append(naiveFields(q.Header, "x-http-method-override", "x-http-method", "x-method-override"), q.Method)
}

// naiveAllows reports whether an allow rule without access matches.
func naiveAllows(s *Spec, q *Request) bool {
	for _, method := range naiveMethods(q) {
		if !slices.Contains(s.Methods, method) && !slices.Contains(s.Methods, "*") {
			return false
		}
	}
	path, query, _ := strings.Cut(q.Target, "?")
	if encodedSlash.MatchString(path) && !s.AllowEncodedSlash ||
		!slices.ContainsFunc(s.PathPrefixes, func(entry string) bool { return naivePath(entry, path, false, false) }) {
		return false
	}
	for _, separators := range []string{"&", "&;"} {
		pairs, ok := naivePairs(query, separators)
		if !ok && (len(s.Query) > 0 || s.QueryOnly) {
			return false
		}
		occurs := make(map[string]bool)
		for _, p := range pairs {
			values, named := s.Query[p.name]
			if !named && s.QueryOnly || named && !slices.ContainsFunc(values, func(v string) bool { return naiveValue(v, p.value) }) {
				return false
			}
			if named {
				occurs[p.name] = true
			}
		}
		if len(occurs) < len(s.Query) {
			return false
		}
	}
	for name, entries := range s.Headers {
		values := naiveFields(q.Header, foldName(name))
		for _, value := range values {
			if !slices.ContainsFunc(entries, func(v string) bool { return naiveValue(v, value) }) {
				return false
			}
		}
		if len(values) == 0 {
			return false
		}
	}
	return true
}

// naiveDenies reports whether a deny rule matches.
func naiveDenies(s *Spec, q *Request) bool {
	if !slices.Contains(s.Methods, "*") && !slices.ContainsFunc(s.Methods, func(method string) bool {
		return q.Method == method || slices.ContainsFunc(naiveMethods(q)[:len(naiveMethods(q))-1], func(text string) bool {
			return slices.ContainsFunc(strings.Split(text, ","), func(m string) bool { return strings.EqualFold(strings.Trim(m, " \t"), method) })
		})
	}) {
		return false
	}
	path, query, _ := strings.Cut(q.Target, "?")
	if !slices.ContainsFunc(s.PathPrefixes, func(entry string) bool {
		return naivePath(entry, path, true, false) || naivePath(entry, path, true, true)
	}) {
		return false
	}
	for name, entries := range s.Query {
		found := false
		for _, separators := range []string{"&", "&;"} {
			pairs, ok := naivePairs(query, separators)
			found = found || !ok || slices.ContainsFunc(pairs, func(p pair) bool {
				return p.name == name && slices.ContainsFunc(entries, func(v string) bool { return naiveValue(v, p.value) })
			})
		}
		if !found {
			return false
		}
	}
	for name, entries := range s.Headers {
		if !slices.ContainsFunc(naiveFields(q.Header, foldName(name)), func(value string) bool {
			return slices.ContainsFunc(append(strings.Split(value, ","), value), func(element string) bool {
				return slices.ContainsFunc(entries, func(v string) bool { return naiveValue(v, strings.Trim(element, " \t")) })
			})
		}) {
			return false
		}
	}
	return true
}

// naiveJudge is Judge for rules without access.
func naiveJudge(specs []Spec, q *Request) (allowed, problem bool, rule int) {
	path, query, _ := strings.Cut(q.Target, "?")
	slash := encodedSlash.MatchString(path)
	slashAllowed := slices.ContainsFunc(specs, func(s Spec) bool { return s.AllowEncodedSlash })
	if badQuery.MatchString(query) || path == "*" && q.Method != "OPTIONS" || path != "*" && naiveProblem(path) || slash && !slashAllowed {
		return false, true, -1
	}
	for i := range specs {
		if specs[i].Deny && naiveDenies(&specs[i], q) {
			return false, false, i
		}
	}
	for i := range specs {
		if !specs[i].Deny && naiveAllows(&specs[i], q) {
			return true, false, i
		}
	}
	return false, slash, -1
}

var badQuery = regexp.MustCompile("[\x00-\x20\x7f#]")
