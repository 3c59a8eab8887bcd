//go:build e2e && linux

// This file tests git and Git LFS in limited mode and with rules.

package tls

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

func TestGit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"git-clone", testGitClone},
		{"git-push", testGitPush},
		{"git-run", testGitRun},
		{"git-access", testGitAccess},
		{"git-shape", testGitShape},
		{"lfs-download", testLFSDownload},
		{"lfs-upload", testLFSUpload},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// gitVersions are the arguments of git for the versions of HTTP.
var gitVersions = map[string][]string{
	"HTTP1": {"-c", "http.version=HTTP/1.1"},
	"HTTP2": {"-c", "http.version=HTTP/2"},
}

// repository is a repository of the origin server for one test.
type repository struct {
	dir string // on the server
	url string
}

func newRepository(t *testing.T, host string) repository {
	t.Helper()
	name := strings.ReplaceAll(host, ".", "-") + ".git"
	r := repository{filepath.Join(lab.dir, "git", name), "https://" + host + "/git/" + name}
	if err := harness.Git(lab.dir,
		[]string{"clone", "-q", "--bare", filepath.Join(lab.dir, "git", "project.git"), r.dir},
		[]string{"-C", r.dir, "config", "http.receivepack", "true"}); err != nil {
		t.Fatal(err)
	}
	return r
}

// grow adds commits to the repository. A client with commits of its own then sends a long
// list, which git compresses.
func (r repository) grow(t *testing.T, commits int) {
	t.Helper()
	work := t.TempDir()
	if err := harness.Git(lab.dir, []string{"clone", "-q", r.dir, work}); err != nil {
		t.Fatal(err)
	}
	commit(t, work, commits)
	if err := harness.Git(lab.dir, []string{"-C", work, "push", "-q", "origin", "HEAD:main"}); err != nil {
		t.Fatal(err)
	}
}

// commit makes commits with git fast-import, which takes one process for all.
func commit(t *testing.T, work string, commits int) {
	t.Helper()
	var input strings.Builder
	for i := range commits {
		fmt.Fprintf(&input, "commit refs/heads/main\ncommitter suite <suite@example.com> %d +0000\ndata 1\nx\n", 1_700_000_000+i)
		if i == 0 {
			input.WriteString("from refs/heads/main^0\n")
		}
		input.WriteString("\n")
	}
	cmd := exec.CommandContext(t.Context(), "git", "-C", work, "fast-import", "--quiet")
	cmd.Env = harness.GitEnv(lab.dir)
	cmd.Stdin = strings.NewReader(input.String())
	harness.Run(t, cmd).MustSucceed(t)
}

func testGitClone(t *testing.T) {
	for name, version := range gitVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := lab.host("web")
			repo := newRepository(t, host)
			p := start(t, limited(host))
			git := func(args ...string) harness.Result {
				t.Helper()
				return p.run(t, "git", append(append([]string{}, version...), args...)...).MustSucceed(t)
			}
			work := filepath.Join(t.TempDir(), "work")
			git("clone", "-q", repo.url, work)
			git("-c", "protocol.version=0", "clone", "-q", "--depth", "1", repo.url, filepath.Join(t.TempDir(), "shallow"))
			if got := git("-c", "protocol.version=1", "ls-remote", repo.url); !strings.Contains(got.Stdout, "refs/heads/main") {
				t.Errorf("ls-remote: %s", got.Stdout)
			}
			// Both sides have commits that the other has not.
			repo.grow(t, 50)
			commit(t, work, 500)
			for _, protocol := range []string{"0", "2"} {
				git("-C", work, "-c", "protocol.version="+protocol, "fetch", "-q", "origin")
				repo.grow(t, 5)
			}
			git("-C", work, "fsck", "--strict")
			compressed, proto := false, map[string]string{"HTTP1": "HTTP/1.1", "HTTP2": "HTTP/2.0"}[name]
			for _, s := range lab.origins.received(host) {
				compressed = compressed || s.Header.Get("Content-Encoding") == "gzip"
				if s.Proto != proto {
					t.Errorf("%s %s came over %s, want %s", s.Method, s.URI, s.Proto, proto)
				}
			}
			if !compressed {
				t.Error("no request was compressed, so the test does not cover that")
			}
		})
	}
}

// wantPushRefused checks the outcome of git push, and that the server has received nothing
// of it.
func wantPushRefused(t *testing.T, got harness.Result, host string) {
	t.Helper()
	remote := ""
	for line := range strings.Lines(got.Stderr) {
		if strings.HasPrefix(line, "remote:") {
			remote += line
		}
	}
	if got.Exit == 0 || !strings.Contains(remote, "networkproxy blocked") {
		t.Errorf("git push: exit %d, stderr %s; want a failure with our message after remote:", got.Exit, got.Stderr)
	}
	for _, s := range lab.origins.received(host) {
		if strings.Contains(s.URI, "receive-pack") {
			t.Errorf("the origin server received %s %s", s.Method, s.URI)
		}
	}
}

func testGitPush(t *testing.T) {
	for name, version := range gitVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := lab.host("web")
			repo := newRepository(t, host)
			p := start(t, limited(host))
			work := filepath.Join(t.TempDir(), "work")
			p.run(t, "git", append(append([]string{}, version...), "clone", "-q", repo.url, work)...).MustSucceed(t)
			commit(t, work, 1)
			got := p.run(t, "git", append(append([]string{}, version...), "-C", work, "push", "origin", "HEAD:refs/heads/new")...)
			wantPushRefused(t, got, host)
			p.wantBlocked(t, refusal{Host: host, Port: 443, Protocol: "https", Method: "GET", Reason: "method_not_allowed"})
		})
	}
}

// testGitRun uses the command of the documentation, with no configuration, and inside a
// fence as well.
func testGitRun(t *testing.T) {
	eachWay(t, func(t *testing.T, flags []string) {
		host := lab.host("web")
		repo := newRepository(t, host)
		work := filepath.Join(t.TempDir(), "work")
		flags = append([]string{"-allow", host, "-limited"}, flags...)
		runCommand(t, nil, flags, "git", "clone", repo.url, work).MustSucceed(t)
		if _, err := os.Stat(filepath.Join(work, ".git", "HEAD")); err != nil {
			t.Error(err)
		}
		commit(t, work, 1)
		wantPushRefused(t, runCommand(t, nil, flags, "git", "-C", work, "push", "origin", "HEAD:refs/heads/new"), host)
	})
	t.Run("github.test", func(t *testing.T) {
		t.Parallel()
		work := filepath.Join(t.TempDir(), "work")
		runCommand(t, nil, []string{"-allow", "github.test", "-limited"}, "git", "clone", "https://github.test/git/project.git", work).MustSucceed(t)
	})
}

func testGitAccess(t *testing.T) {
	for access, pushes := range map[string]bool{"git-fetch": false, "git-push": true} {
		t.Run(access, func(t *testing.T) {
			t.Parallel()
			host := lab.host("web")
			repo := newRepository(t, host)
			p := start(t, full(hook(host, fmt.Sprintf("access = %q", access)), host))
			work := filepath.Join(t.TempDir(), "work")
			p.run(t, "git", "clone", "-q", repo.url, work).MustSucceed(t)
			commit(t, work, 1)
			got := p.run(t, "git", "-C", work, "push", "origin", "HEAD:refs/heads/new")
			if pushes {
				got.MustSucceed(t)
			} else {
				wantPushRefused(t, got, host)
			}
			p.client(t, http1).send(t, "POST", "https://"+host+"/v1/x", "data").wantStatus(t, http.StatusForbidden)
			p.client(t, http1).send(t, "PUT", "https://"+host+"/v1/x", "data").wantStatus(t, http.StatusForbidden)
		})
	}
}

// testGitShape sends requests that look like those of a fetch.
func testGitShape(t *testing.T) {
	const fetchType = "application/x-git-upload-pack-request"
	eachVersion(t, func(t *testing.T, version string) {
		host := lab.host("web")
		p := start(t, limited(host))
		for _, v := range []struct {
			name, method, path, contentType, body string
			passes                                bool
		}{
			{"ls-refs", "POST", "/git/project.git/git-upload-pack", fetchType, "0014command=ls-refs\n0000", true},
			{"a flush", "POST", "/git/project.git/git-upload-pack", fetchType, "0000", true},
			{"another type", "POST", "/git/project.git/git-upload-pack", "application/json", "0014command=ls-refs\n0000", false},
			{"a query", "POST", "/git/project.git/git-upload-pack?x=1", fetchType, "0014command=ls-refs\n0000", false},
			{"another body", "POST", "/git/project.git/git-upload-pack", fetchType, `{"delete": true}`, false},
			{"another command", "POST", "/git/project.git/git-upload-pack", fetchType, "0011command=push\n0000", false},
			{"no body", "POST", "/git/project.git/git-upload-pack", fetchType, "", false},
			{"push", "POST", "/git/project.git/git-receive-pack", "application/x-git-receive-pack-request", "0000", false},
			{"discovery of a push", "GET", "/git/project.git/info/refs?service=git-receive-pack", "", "", false},
			{"the same, encoded", "GET", "/git/project.git/info/refs?service=git%2dreceive-pack", "", "", false},
			{"the same, second", "GET", "/git/project.git/info/refs?service=git-upload-pack&service=git-receive-pack", "", "", false},
			{"the same, encoded name", "GET", "/git/project.git/info/refs?s%65rvice=git-receive-pack", "", "", false},
			{"the same, encoded path", "GET", "/git/project.git/info/%72efs?service=git-receive-pack", "", "", false},
			{"locks", "POST", "/git/project.git/info/lfs/locks", "application/vnd.git-lfs+json", `{"path":"x"}`, false},
		} {
			before := len(lab.origins.received(host))
			req := request(t, v.method, "https://"+host+v.path, v.body)
			if v.contentType != "" {
				req.Header.Set("Content-Type", v.contentType)
			}
			got := p.client(t, version).do(t, req)
			if passed := got.status != http.StatusForbidden; passed != v.passes {
				t.Errorf("%s: status %d, want that it passes: %t: %s", v.name, got.status, v.passes, got.body)
			}
			if !v.passes {
				if n := len(lab.origins.received(host)) - before; n != 0 {
					t.Errorf("%s: the origin server received %d requests, want none", v.name, n)
				}
			}
		}
	})
}

// lfs sends a batch request of Git LFS in limited mode and returns whether it passed.
func lfs(t *testing.T, version, body string) bool {
	t.Helper()
	host := lab.host("web")
	p := start(t, limited(host))
	req := request(t, "POST", "https://"+host+"/git/project.git/info/lfs/objects/batch", body)
	req.Header.Set("Content-Type", "application/vnd.git-lfs+json")
	req.Header.Set("Accept", "application/vnd.git-lfs+json")
	got := p.client(t, version).do(t, req)
	received := lab.origins.received(host)
	if passed := got.status == http.StatusOK; passed != (len(received) == 1) || !passed && got.status != http.StatusForbidden {
		t.Errorf("%.100s: status %d, and the origin server received %d requests: %s", body, got.status, len(received), got.body)
	}
	return got.status == http.StatusOK
}

func testLFSDownload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		if !lfs(t, version, `{"operation":"download","transfers":["basic"],"objects":[{"oid":"aa","size":1}]}`) {
			t.Error("the download was refused")
		}
	})
}

func testLFSUpload(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		for _, body := range []string{
			`{"operation":"upload","objects":[]}`,
			`{"operation":"download","operation":"upload","objects":[]}`,
			`{"operation":"upload","operation":"download","objects":[]}`,
			`{"operation":"download","Operation":"upload","objects":[]}`,
			`{"operation":"download","\u006fperation":"upload","objects":[]}`,
			`{"operation":"down` + "\x00" + `load"}`,
			`{"objects":[]}`,
			`{"operation":"download"} {"operation":"upload"}`,
			`[{"operation":"download"}]`,
			`{"operation":"download","objects":[` + strings.Repeat(" ", 2<<20) + `]}`,
			``,
		} {
			if lfs(t, version, body) {
				t.Errorf("%.100s passed", body)
			}
		}
	})
}
