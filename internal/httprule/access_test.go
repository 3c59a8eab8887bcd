package httprule

// Tests of requests that only read, and of those that git sends.

import (
	"strings"
	"testing"
)

const (
	fetchType = "Content-Type: application/x-git-upload-pack-request"
	pushType  = "Content-Type: application/x-git-receive-pack-request"
	lfsType   = "Content-Type: application/vnd.git-lfs+json"
)

func TestReadOnly(t *testing.T) {
	t.Parallel()
	const refused = 0xff
	tests := []struct {
		line   string
		fields []string
		want   Content
	}{
		{"GET /", nil, ContentAny}, {"HEAD /a/../b?x=y", nil, ContentAny}, {"OPTIONS *", nil, ContentAny}, {"OPTIONS /", nil, ContentAny},
		{"POST /", nil, refused}, {"PUT /", nil, refused}, {"TRACE /", nil, refused}, {"CONNECT a:1", nil, refused}, {"get /", nil, refused}, {" /", nil, refused},
		{"GET /", []string{"X-Http-Method-Override: DELETE"}, refused}, {"GET /", []string{"X-Http-Method-Override: HEAD"}, ContentAny},
		{"HEAD /", []string{"X-Method-Override: GET", "X-Method-Override: POST"}, refused}, {"GET /", []string{"X_http_method: PUT"}, refused},
		{"GET /", []string{"X-Http-Method: get"}, refused}, {"OPTIONS /", []string{"X-Method-Override: "}, refused},

		{"GET /r.git/info/refs?service=git-upload-pack", nil, ContentAny}, {"GET /r.git/info/refs", nil, ContentAny}, {"GET /r.git/HEAD", nil, ContentAny},
		{"GET /r.git/info/refs?service=git-receive-pack", nil, refused},
		{"HEAD /r.git/info/refs?service=git-receive-pack", nil, ContentAny}, {"OPTIONS /r.git/info/refs?service=git-receive-pack", nil, ContentAny},
		{"GET /r.git/info/refs?service=git%2dreceive-pack", nil, refused}, {"GET /r.git/info/refs?service=git%2Dreceive%2dpack", nil, refused},
		{"GET /r.git/info/refs?%73ervice=%67it-receive-pack", nil, refused},
		{"GET /r.git/info/refs?service=git-upload-pack&service=git-receive-pack", nil, refused}, {"GET /r.git/info/refs?service=git-receive-pack&service=git-upload-pack", nil, refused},
		{"GET /r.git/info/refs?x=y&service=git-receive-pack&z", nil, refused}, {"GET /r.git/info/refs?x=y;service=git-receive-pack", nil, refused}, {"GET /r.git/info/refs?&&service=git-receive-pack", nil, refused},
		{"GET /r.git/info/refs?service=git-receive-pack&x=%zz", nil, refused},
		{"GET /r.git/info%2frefs?service=git-receive-pack", nil, refused}, {"GET /r.git/./info/refs?service=git-receive-pack", nil, refused}, {"GET /r.git/info/refs/?service=git-receive-pack", nil, refused}, {"GET /r.git//info/refs?service=git-receive-pack", nil, refused},

		{"POST /r.git/git-upload-pack", []string{fetchType}, ContentGitFetch}, {"POST /git-upload-pack", []string{fetchType}, ContentGitFetch}, {"POST /a/b/c/git-upload-pack", []string{fetchType}, ContentGitFetch},
		{"POST /r.git/git-upload-pack", nil, refused}, {"POST /r.git/git-upload-pack", []string{pushType}, refused}, {"POST /r.git/git-upload-pack", []string{fetchType, fetchType}, refused},
		{"POST /r.git/git-upload-pack", []string{fetchType + "; charset=utf-8"}, refused}, {"POST /r.git/git-upload-pack", []string{"Content-Type: application/json"}, refused},
		{"POST /r.git/git-upload-pack?", []string{fetchType}, refused}, {"POST /r.git/git-upload-pack?a=b", []string{fetchType}, refused}, {"POST /r.git/git-upload-pack?service=git-receive-pack", []string{fetchType}, refused},
		{"POST /r.git/git-upload-pack/", []string{fetchType}, refused}, {"POST /r.git/xgit-upload-pack", []string{fetchType}, refused}, {"POST /r.git/git-upload-pack2", []string{fetchType}, refused},
		{"POST /x/../git-upload-pack", []string{fetchType}, refused}, {"POST /x%2fgit-upload-pack", []string{fetchType}, refused}, {"POST /x;/git-upload-pack", []string{fetchType}, refused}, {"POST //git-upload-pack", []string{fetchType}, refused},
		{"PUT /r.git/git-upload-pack", []string{fetchType}, refused}, {"POST /r.git/git-upload-pack", []string{fetchType, "X-Http-Method-Override: DELETE"}, refused}, {"POST /r.git/git-upload-pack", []string{fetchType, "X-Http-Method-Override: GET"}, refused},
		{"POST git-upload-pack", []string{fetchType}, refused}, {"POST *", []string{fetchType}, refused},
		{"POST /r.git/git-receive-pack", []string{pushType}, refused}, {"POST /r.git/git-receive-pack", []string{fetchType}, refused},

		{"POST /r.git/info/lfs/objects/batch", []string{lfsType}, ContentLFSDownload}, {"POST /r.git/info/lfs/objects/batch", []string{lfsType + "; charset=utf-8"}, ContentLFSDownload}, {"POST /r.git/info/lfs/objects/batch", []string{lfsType + ";charset=UTF-8"}, ContentLFSDownload},
		{"POST /r.git/info/lfs/objects/batch", []string{lfsType + "; charset=utf-16"}, refused}, {"POST /r.git/info/lfs/objects/batch", []string{"Content-Type: application/json"}, refused},
		{"POST /r.git/info/lfs/objects/batch?x", []string{lfsType}, refused}, {"POST /r.git/info/lfs/locks", []string{lfsType}, refused}, {"POST /r.git/info/lfs/locks/verify", []string{lfsType}, refused},
		{"POST /r.git/xinfo/lfs/objects/batch", []string{lfsType}, refused}, {"PUT /r.git/info/lfs/objects/abc", nil, refused}, {"GET /r.git/info/lfs/objects/abc", nil, ContentAny},
	}
	for _, tt := range tests {
		content, ok := ReadOnly(request(tt.line, tt.fields...))
		if ok != (tt.want != refused) || ok && content != tt.want {
			t.Errorf("%s %q: got %v, %v", tt.line, tt.fields, content, ok)
		}
	}
}

func TestAccess(t *testing.T) {
	t.Parallel()
	rules := map[string]*HostRules{}
	for _, name := range accessNames {
		rules[name] = hostRules(t, Spec{Access: name, PathPrefixes: []string{"/org/repo", "/org/repo.git"}})
	}
	tests := []struct {
		line   string
		fields []string
		allow  string // read-only, git-fetch, git-push: r, f, p
	}{
		{"GET /org/repo/info/refs?service=git-upload-pack", nil, "rfp"}, {"HEAD /org/repo.git/info/refs?service=git-upload-pack", nil, "rfp"},
		{"GET /org/repo/info/refs?service=git-receive-pack", nil, "p"}, {"GET /org/repo/info/refs?service=git%2dreceive-pack", nil, ""},
		{"GET /org/repo/info/refs?service=git-upload-pack&x=y", nil, "r"}, {"GET /org/repo/info/refs?service=git-upload-pack&service=git-receive-pack", nil, ""},
		{"GET /org/repo/info/refs", nil, "rfp"}, {"GET /org/repo/HEAD", nil, "rfp"}, {"GET /org/repo/objects/info/packs", nil, "rfp"},
		{"GET /org/repo/objects/ab/" + strings.Repeat("c", 38), nil, "rfp"}, {"GET /org/repo/objects/pack/pack-1.idx", nil, "rfp"},
		{"GET /org/repo/tree/main", nil, "r"}, {"GET /org/repo", nil, "r"}, {"OPTIONS /org/repo/HEAD", nil, "r"}, {"GET /org/repo/objects/pack/other", nil, "r"},
		{"POST /org/repo/git-upload-pack", []string{fetchType}, "fp"}, {"POST /org/repo.git/git-upload-pack", []string{fetchType}, "fp"},
		{"POST /org/repo/git-receive-pack", []string{pushType}, "p"}, {"POST /org/repo/git-receive-pack?x", []string{pushType}, ""}, {"POST /org/repo/git-receive-pack", []string{fetchType}, ""},
		{"POST /org/repo/git-receive-pack", []string{pushType, "X-Http-Method-Override: PUT"}, ""},
		{"POST /org/repo/info/lfs/objects/batch", []string{lfsType}, "fp"}, {"GET /org/repo/info/lfs/objects/abc", nil, "rfp"}, {"GET /org/repo/gitlab-lfs/objects/abc", nil, "rfp"},
		{"PUT /org/repo/info/lfs/objects/abc", nil, "p"}, {"PUT /org/repo/gitlab-lfs/objects/abc/12", nil, "p"}, {"PUT /org/repo/x", nil, ""},
		{"POST /org/repo/info/lfs/locks/verify", []string{lfsType}, "p"}, {"GET /org/repo/info/lfs/locks?path=x", nil, "rp"}, {"POST /org/repo/info/lfs/locks", nil, ""},
		{"POST /org/repo/issues", nil, ""}, {"DELETE /org/repo", nil, ""},
		{"GET /org/repo2/info/refs?service=git-upload-pack", nil, ""}, {"POST /org/other/git-upload-pack", []string{fetchType}, ""}, {"POST /org/repo.github/git-upload-pack", []string{fetchType}, ""},
		{"GET /org/repo/HEAD", []string{"X-Http-Method-Override: DELETE"}, ""}, {"OPTIONS *", nil, ""},
	}
	for _, tt := range tests {
		for letter, name := range map[string]string{"r": "read-only", "f": "git-fetch", "p": "git-push"} {
			if got := rules[name].Judge(request(tt.line, tt.fields...)); got.Allowed != strings.Contains(tt.allow, letter) || got.Problem != "" {
				t.Errorf("%s: %s %q: got %+v, want allowed for %q", name, tt.line, tt.fields, got, tt.allow)
			}
		}
	}
}

// TestAccessToEveryPath checks that paths with two readings are refused only where
// the path matters.
func TestAccessToEveryPath(t *testing.T) {
	t.Parallel()
	read, fetch := hostRules(t, Spec{Access: "read-only"}), hostRules(t, Spec{Access: "git-fetch"})
	both := hostRules(t, Spec{Access: "git-fetch"}, Spec{Methods: []string{"GET"}, PathPrefixes: []string{"/x"}, AllowEncodedSlash: true})
	if got := read.Judge(request("GET /a/../b;c?d e")); !got.Allowed {
		t.Errorf("read-only: got %+v", got)
	}
	if got := read.Judge(request("OPTIONS *")); !got.Allowed {
		t.Errorf("read-only: got %+v", got)
	}
	if got := fetch.Judge(request("GET /a/../b/HEAD")); got.Allowed || got.Problem == "" {
		t.Errorf("git-fetch: got %+v", got)
	}
	if got := fetch.Judge(request("GET /a/b/HEAD")); !got.Allowed {
		t.Errorf("git-fetch: got %+v", got)
	}
	if got := both.Judge(request("GET /a%2fb/HEAD")); got.Allowed || got.Problem != problemEncodedSlash {
		t.Errorf("git-fetch beside a rule with encoded slashes: got %+v", got)
	}
}

// TestContentOfSeveralRules checks that the order of rules does not decide what
// the body must be.
func TestContentOfSeveralRules(t *testing.T) {
	t.Parallel()
	fetch := Spec{Access: "git-fetch"}
	posts := Spec{Methods: []string{"POST"}, PathPrefixes: []string{"/r"}}
	q := request("POST /r/git-upload-pack", fetchType)
	for _, tt := range []struct {
		rules []Spec
		want  Result
	}{
		{[]Spec{fetch}, Result{Allowed: true, Content: ContentGitFetch}},
		{[]Spec{fetch, fetch}, Result{Allowed: true, Content: ContentGitFetch}},
		{[]Spec{fetch, posts}, Result{Allowed: true, Rule: 1}},
		{[]Spec{posts, fetch}, Result{Allowed: true}},
	} {
		if got := hostRules(t, tt.rules...).Judge(q); got != tt.want {
			t.Errorf("got %+v, want %+v", got, tt.want)
		}
	}
}
