//go:build e2e && linux

// This file tests git with a repository served over smart HTTP: clone and push.

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gitBlobSize is the size of the file in each commit. Its pack exceeds git's buffer of
// 1 MiB, so that git uses chunked bodies in both directions.
const gitBlobSize = 3 << 20

// newGitServer creates a repository with one commit in dir and returns a handler that
// serves it below /git/.
func newGitServer(dir string) (http.Handler, error) {
	root := filepath.Join(dir, "git")
	work := filepath.Join(dir, "git-work")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return nil, err
	}
	if err := writeBlob(filepath.Join(work, "blob"), 0); err != nil {
		return nil, err
	}
	bare := filepath.Join(root, "project.git")
	for _, args := range [][]string{
		{"init", "-q", "-b", "main", work},
		{"-C", work, "add", "."},
		{"-C", work, "commit", "-q", "-m", "Begin"},
		{"clone", "-q", "--bare", work, bare},
		{"-C", bare, "config", "http.receivepack", "true"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Env = gitEnv(dir)
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	libexec, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git --exec-path: %w", err)
	}
	return withLength(&cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(libexec)), "git-http-backend"),
		Root:   "/git",
		Env:    append(gitEnv(dir), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
		Stderr: io.Discard,
	}), nil
}

// withLength reads a chunked request body to its end first, because net/http/cgi
// refuses bodies of unknown length.
func withLength(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength < 0 {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
		}
		next.ServeHTTP(w, r)
	})
}

// writeBlob writes gitBlobSize bytes of the stream from offset. Parts that do not
// overlap have no common data that git could leave out of a pack.
func writeBlob(file string, offset int64) error {
	part := stream(offset + gitBlobSize)
	if _, err := io.CopyN(io.Discard, part, offset); err != nil {
		return err
	}
	blob, err := io.ReadAll(part)
	if err != nil {
		return err
	}
	return os.WriteFile(file, blob, 0o644)
}

// gitEnv returns an environment in which git ignores the user's configuration.
func gitEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=suite", "GIT_AUTHOR_EMAIL=suite@example.com",
		"GIT_COMMITTER_NAME=suite", "GIT_COMMITTER_EMAIL=suite@example.com",
	}
}

func TestGit(t *testing.T) {
	t.Parallel()
	pushOffset := map[string]int64{"http": gitBlobSize, "https": 2 * gitBlobSize}
	p := start(t, config{Allowed: []string{"git.example"}, Denied: []string{"denied.example"}})
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			work := filepath.Join(t.TempDir(), "work")
			git := func(args ...string) result {
				return p.run(t, "git", append([]string{"-C", filepath.Dir(work)}, args...)...)
			}
			url := scheme + "://git.example/git/project.git"
			git("clone", "-q", url, work).mustSucceed(t)
			git("-C", work, "fsck", "--strict").mustSucceed(t)
			got, err := os.ReadFile(filepath.Join(work, "blob"))
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := io.ReadAll(stream(gitBlobSize)); !bytes.Equal(got, want) {
				t.Error("the cloned file differs from the committed one")
			}

			// Push a pack of the same size to a new branch.
			if err := writeBlob(filepath.Join(work, "more"), pushOffset[scheme]); err != nil {
				t.Fatal(err)
			}
			branch := lab.unique("branch")
			git("-C", work, "checkout", "-q", "-b", branch).mustSucceed(t)
			git("-C", work, "add", ".").mustSucceed(t)
			git("-C", work, "commit", "-q", "-m", "Add more").mustSucceed(t)
			git("-C", work, "push", "-q", "origin", "HEAD").mustSucceed(t)
			head := git("-C", work, "rev-parse", "HEAD").mustSucceed(t).stdout
			remote := git("ls-remote", url, "refs/heads/"+branch).mustSucceed(t).stdout
			if !strings.HasPrefix(remote, strings.TrimSpace(head)+"\t") {
				t.Errorf("after the push the remote has %q, want %q", remote, head)
			}
		})
		for _, host := range []string{"other.example", "denied.example"} {
			t.Run(scheme+" to "+host, func(t *testing.T) {
				t.Parallel()
				res := p.run(t, "git", "clone", scheme+"://"+host+"/git/project.git", t.TempDir())
				if res.exit == 0 || !strings.Contains(res.stderr, "403") {
					t.Errorf("git clone: exit %d, want a failure that says 403:\n%s", res.exit, res.stderr)
				}
			})
		}
	}
}
