package httprule

// This file knows which requests only read, and which ones git sends.

import (
	"strings"
)

// access is a preset of methods and paths.
type access uint8

const (
	accessNone access = iota
	readOnly
	gitFetch
	gitPush
)

// accessNames are the names of the presets, in the order of their constants.
var accessNames = []string{"read-only", "git-fetch", "git-push"}

// looksAtPaths reports whether the preset depends on the path.
func (a access) looksAtPaths() bool { return a == gitFetch || a == gitPush }

// readMethods are the methods that only read (RFC 9110 section 9.2.1), without
// TRACE, which repeats the header of the request. dumbMethods are those that git
// uses to read files.
var (
	readMethods = []string{"GET", "HEAD", "OPTIONS"}
	dumbMethods = []string{"GET", "HEAD"}
)

// ReadOnly reports whether a request only reads: it is GET, HEAD or OPTIONS, a
// fetch of git, or the request for a download by Git LFS. The body of the last two
// must also pass c.Check. The first request of a push is a GET, and is refused, so
// that git stops there.
//
// Fields that replace the method count as methods. A GET can still transfer data,
// in its path and query.
func ReadOnly(q *Request) (c Content, ok bool) {
	path, query, hasQuery := strings.Cut(q.Target, "?")
	switch {
	case everyMethod(q, readMethods):
		return ContentAny, q.Method != "GET" || !asksForPush(query)
	case hasQuery || q.Method != "POST" || overrides(q.Header):
		return ContentAny, false
	}
	if problem, encodedSlash := pathProblem(path); problem != "" || encodedSlash {
		return ContentAny, false
	}
	return readingPost(q, path)
}

// Write says what a request that ReadOnly refuses does, for people: "a push of git". It
// returns "" if the method says it.
func Write(q *Request) string {
	path, query, _ := strings.Cut(q.Target, "?")
	switch {
	case hasSegments(path, "git-receive-pack"), q.Method == "GET" && asksForPush(query):
		return "a push of git"
	case overrides(q.Header):
		return "a method that a header field replaces"
	}
	return ""
}

// readingPost recognises the POST requests that only read, at a path without
// problems.
func readingPost(q *Request, path string) (Content, bool) {
	switch {
	case hasSegments(path, "git-upload-pack") && contentType(q) == "application/x-git-upload-pack-request":
		return ContentGitFetch, true
	case hasSegments(path, "info/lfs/objects/batch") && isLFS(q):
		return ContentLFSDownload, true
	}
	return ContentAny, false
}

// contentType returns the Content-Type of the request, or the empty string if it
// does not have exactly one.
func contentType(q *Request) string {
	if values := q.Header["Content-Type"]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// isLFS reports whether the request has the Content-Type of Git LFS, and no other
// encoding of characters than UTF-8.
func isLFS(q *Request) bool {
	mediaType, parameter, hasParameter := strings.Cut(contentType(q), ";")
	return strings.Trim(mediaType, " \t") == "application/vnd.git-lfs+json" &&
		(!hasParameter || strings.EqualFold(strings.Trim(parameter, " \t"), "charset=utf-8"))
}

// pushService is the value of the parameter "service" that begins a push.
const pushService = "git-receive-pack"

var asksPush = condition{name: "service", values: []glob{literal(pushService, plain)}}

// asksForPush reports whether some server may read the parameter
// service=git-receive-pack in query: git looks it up there, at any path.
func asksForPush(query string) bool {
	return asksPush.occursIn(query, false) || asksPush.occursIn(query, true)
}

// Paths that git reads as files (gitprotocol-http(5), "Dumb Clients"), and those of
// the API and the objects of Git LFS. GitLab has paths of its own for objects.
var (
	dumbPaths = mustPaths(
		"/**/info/refs", "/**/HEAD", "/**/objects/info/packs", "/**/objects/info/alternates", "/**/objects/info/http-alternates",
		"/**/objects/??/*", "/**/objects/pack/pack-*.pack", "/**/objects/pack/pack-*.idx",
	)
	lfsAPIPaths    = mustPaths("/**/info/lfs/**")
	lfsObjectPaths = mustPaths("/**/info/lfs/objects/*", "/**/gitlab-lfs/objects/*", "/**/gitlab-lfs/objects/*/*")
)

// allows reports whether the preset allows the request, and what its body must be.
// For presets that look at paths, the path has no problem.
func (a access) allows(q *Request) (Content, bool) {
	if a == readOnly {
		content, ok := ReadOnly(q)
		return content, ok && content == ContentAny
	}
	return a.allowsGit(q)
}

// allowsGit is allows for the presets of git.
func (a access) allowsGit(q *Request) (Content, bool) {
	path, query, hasQuery := strings.Cut(q.Target, "?")
	push := a == gitPush
	switch {
	case path == "*":
		return ContentAny, false
	case everyMethod(q, dumbMethods):
		return ContentAny, readsGit(path, query, hasQuery, push)
	case overrides(q.Header) || hasQuery:
		return ContentAny, false
	case push && writesGit(q, path):
		return ContentAny, true
	case q.Method == "POST":
		return readingPost(q, path)
	}
	return ContentAny, false
}

// readsGit reports whether a GET is one of git or Git LFS.
func readsGit(path, query string, hasQuery, push bool) bool {
	switch {
	case !hasQuery:
		return matchAny(dumbPaths, path) || matchAny(lfsObjectPaths, path) || push && hasSegments(path, "info/lfs/locks")
	case hasSegments(path, "info/refs"):
		return query == "service=git-upload-pack" || push && query == "service="+pushService
	}
	return push && hasSegments(path, "info/lfs/locks")
}

// writesGit reports whether a request is one of those that git and Git LFS send
// for a push.
func writesGit(q *Request, path string) bool {
	switch q.Method {
	case "POST":
		return hasSegments(path, "git-receive-pack") && contentType(q) == "application/x-git-receive-pack-request" ||
			matchAny(lfsAPIPaths, path) && isLFS(q)
	case "PUT":
		return matchAny(lfsObjectPaths, path)
	}
	return false
}

func mustPaths(globs ...string) []pathPattern {
	var patterns []pathPattern
	for _, text := range globs {
		p, _, problem := parsePathGlob(text)
		if problem != "" {
			panic("httprule: " + text + " " + problem)
		}
		patterns = append(patterns, p)
	}
	return patterns
}

func matchAny(patterns []pathPattern, path string) bool {
	for _, p := range patterns {
		if p.match(path, inPath, false) {
			return true
		}
	}
	return false
}

// IsGit reports whether a request is one of git, by its path. git shows people the
// response to such a request only if it is plain text.
func IsGit(q *Request) bool {
	path, _, _ := strings.Cut(q.Target, "?")
	return hasSegments(path, "info/refs") || hasSegments(path, "git-upload-pack") || hasSegments(path, "git-receive-pack")
}
