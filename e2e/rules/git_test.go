//go:build e2e && linux

// This file judges the requests that git sends, in each version of its protocol and of HTTP.

package rules_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"example.com/networkproxy/internal/httprule"
)

// judge serves git and judges each request before. It serves those that are refused as well, so that it sees a whole push.
type judge struct {
	git     http.Handler
	fetches *httprule.HostRules // access = "git-fetch"
	pushes  *httprule.HostRules // access = "git-push"

	mu       sync.Mutex
	requests []judged
}

// judged is one request and its judgements.
type judged struct {
	line      string
	gzip      bool
	readOnly  error // nil: limited mode permits it
	fetch     bool  // allowed by the rule for fetches
	push      bool  // allowed by the rule for pushes
	isFetch   bool  // its body is that of a fetch
	different error // the replay of the body is not the body
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q := &httprule.Request{Method: r.Method, Target: r.RequestURI, Header: r.Header}
	got := judged{
		line: fmt.Sprintf("%s %s %s", r.Proto, r.Method, r.RequestURI), gzip: r.Header.Get("Content-Encoding") == "gzip",
		fetch: j.fetches.Judge(q).Allowed, push: j.pushes.Judge(q).Allowed,
	}
	content, ok := httprule.ReadOnly(q)
	if !ok {
		got.readOnly = fmt.Errorf("%s is no request that only reads", got.line)
	} else if replay, err := content.Check(r.Header, bytes.NewReader(body)); err != nil {
		got.readOnly = fmt.Errorf("%s: %w", got.line, err)
	} else if again, err := io.ReadAll(replay); err != nil || !bytes.Equal(again, body) {
		got.different = fmt.Errorf("%s: the replay has %d bytes of %d, %v", got.line, len(again), len(body), err)
	}
	_, err = httprule.ContentGitFetch.Check(r.Header, bytes.NewReader(body))
	got.isFetch = err == nil && string(body) != "0000" // git sends a flush packet alone to log in
	j.mu.Lock()
	j.requests = append(j.requests, got)
	j.mu.Unlock()
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	j.git.ServeHTTP(w, r)
}

// take returns the requests since the last call.
func (j *judge) take() []judged {
	j.mu.Lock()
	defer j.mu.Unlock()
	requests := j.requests
	j.requests = nil
	return requests
}

// command runs a program without the user's configuration and returns its output.
func command(t *testing.T, home string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = gitEnv(home)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func gitEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0", "GIT_SSL_NO_VERIFY=1",
		"GIT_AUTHOR_NAME=suite", "GIT_AUTHOR_EMAIL=suite@example.com", "GIT_COMMITTER_NAME=suite", "GIT_COMMITTER_EMAIL=suite@example.com",
	}
}

// newJudge makes a repository with a history and serves it over TLS. It returns the URL of the repository.
func newJudge(t *testing.T, home string) (j *judge, url string) {
	t.Helper()
	root, work := filepath.Join(home, "served"), filepath.Join(home, "origin")
	bare := filepath.Join(root, "org", "repo.git")
	command(t, home, "git", "init", "-q", "-b", "main", work)
	commits(t, home, work, 30)
	command(t, home, "git", "clone", "-q", "--bare", work, bare)
	for _, key := range []string{"http.receivepack", "uploadpack.allowFilter", "uploadpack.allowAnySHA1InWant"} {
		command(t, home, "git", "-C", bare, "config", key, "true")
	}
	command(t, home, "git", "-C", bare, "update-server-info")
	files := http.FileServer(http.Dir(root))
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(command(t, home, "git", "--exec-path")), "git-http-backend"),
		Env:  append(gitEnv(home), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"), Stderr: io.Discard,
	}
	j = &judge{
		git: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.UserAgent(), "dumb") { // as a server that only knows files
				r.URL.RawQuery = ""
				files.ServeHTTP(w, r)
				return
			}
			backend.ServeHTTP(w, r)
		}),
		fetches: rules(t, httprule.Spec{Access: "git-fetch", PathPrefixes: []string{"/org/repo.git"}}),
		pushes:  rules(t, httprule.Spec{Access: "git-push", PathPrefixes: []string{"/org/"}}),
	}
	server := httptest.NewUnstartedServer(j)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return j, server.URL + "/org/repo.git"
}

// commits adds n commits to the repository at work.
func commits(t *testing.T, home, work string, n int) {
	t.Helper()
	for i := range n {
		command(t, home, "git", "-C", work, "commit", "-q", "--allow-empty", "-m", fmt.Sprintf("Commit %d of %s", i, filepath.Base(work)))
	}
}

// TestGit checks that limited mode and the rule for fetches permit each request of a fetch, that they refuse a push at its first
// request and at every other, and that the rule for pushes permits both.
func TestGit(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"0", "1", "2"} {
		for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
			t.Run("protocol "+protocol+" over "+version, func(t *testing.T) {
				t.Parallel()
				home := t.TempDir()
				j, url := newJudge(t, home)
				git := func(args ...string) {
					t.Helper()
					command(t, home, append([]string{"git", "-c", "protocol.version=" + protocol, "-c", "http.version=" + version}, args...)...)
				}
				dir := func(name string) string { return filepath.Join(home, name) }
				fetches := []struct {
					name string
					run  func()
				}{
					{"ls-remote", func() { git("ls-remote", url) }},
					{"clone", func() { git("clone", "-q", url, dir("clone")) }},
					{"shallow clone", func() { git("clone", "-q", "--depth", "1", url, dir("shallow")) }},
					{"deepen", func() { git("-C", dir("shallow"), "fetch", "-q", "--deepen", "5") }},
					{"shallow since", func() { git("clone", "-q", "--shallow-since=2000-01-01", url, dir("since")) }},
					{"partial clone", func() { git("clone", "-q", "--filter=blob:none", url, dir("partial")) }},
					{"unshallow", func() { git("-C", dir("shallow"), "fetch", "-q", "--unshallow") }},
					{"many haves", func() {
						commits(t, home, dir("clone"), 300)
						commits(t, home, dir("origin"), 3)
						command(t, home, "git", "-C", dir("origin"), "push", "-q", filepath.Join(home, "served", "org", "repo.git"), "main")
						git("-C", dir("clone"), "fetch", "-q")
					}},
					{"dumb clone", func() { git("-c", "http.userAgent=dumb", "clone", "-q", url, dir("dumb")) }},
				}
				compressed := false
				for _, f := range fetches {
					if f.name == "dumb clone" {
						command(t, home, "git", "-C", filepath.Join(home, "served", "org", "repo.git"), "update-server-info")
					}
					f.run()
					for _, r := range checkRequests(t, f.name, version, j.take()) {
						compressed = compressed || r.gzip
						if r.readOnly != nil || !r.fetch || !r.push {
							t.Errorf("%s: %s: fetch rule %v, push rule %v, limited mode: %v", f.name, r.line, r.fetch, r.push, r.readOnly)
						}
					}
				}
				if !compressed {
					t.Error("git sent no compressed body")
				}
				for name, size := range map[string]int{"small push": 1 << 10, "large push": 3 << 20} {
					push(t, home, dir("clone"), name, size, git)
					for i, r := range checkRequests(t, name, version, j.take()) {
						if r.readOnly == nil || r.fetch || !r.push || r.isFetch {
							t.Errorf("%s, request %d: %s: fetch rule %v, push rule %v, limited mode: %v, body of a fetch %v", name, i, r.line, r.fetch, r.push, r.readOnly, r.isFetch)
						}
					}
				}
			})
		}
	}
}

// push commits a file of the given size and pushes it to a branch.
func push(t *testing.T, home, work, name string, size int, git func(...string)) {
	t.Helper()
	data := make([]byte, size)
	for i := range data { // hard to compress
		data[i] = byte(i * i >> 3 * (i>>8 | 1))
	}
	if err := os.WriteFile(filepath.Join(work, "file"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, home, "git", "-C", work, "checkout", "-q", "-b", strings.ReplaceAll(name, " ", "-"))
	command(t, home, "git", "-C", work, "add", ".")
	command(t, home, "git", "-C", work, "commit", "-q", "--allow-empty", "-m", name)
	git("-C", work, "-c", "http.postBuffer=65536", "push", "-q", "origin", "HEAD")
}

// checkRequests fails the test if there are none, if they have another version of HTTP, or if a replay differs.
func checkRequests(t *testing.T, name, version string, requests []judged) []judged {
	t.Helper()
	if len(requests) == 0 {
		t.Errorf("%s: git sent no request", name)
	}
	for _, r := range requests {
		if r.different != nil {
			t.Errorf("%s: %v", name, r.different)
		}
		if !strings.HasPrefix(r.line, version) {
			t.Errorf("%s: %s, want %s", name, r.line, version)
		}
	}
	return requests
}
