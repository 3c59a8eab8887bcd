//go:build e2e && linux

// This file tests git with a repository served over smart HTTP: clone and push.

package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
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
	err := harness.Git(dir,
		[]string{"init", "-q", "-b", "main", work},
		[]string{"-C", work, "add", "."},
		[]string{"-C", work, "commit", "-q", "-m", "Begin"},
		[]string{"clone", "-q", "--bare", work, bare},
		[]string{"-C", bare, "config", "http.receivepack", "true"})
	if err != nil {
		return nil, err
	}
	return harness.GitBackend("/git", root, dir)
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

func TestGit(t *testing.T) {
	t.Parallel()
	pushOffset := map[string]int64{"http": gitBlobSize, "https": 2 * gitBlobSize}
	p := start(t, config{Allowed: []string{"git.example"}, Denied: []string{"denied.example"}})
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			work := filepath.Join(t.TempDir(), "work")
			git := func(args ...string) harness.Result {
				return p.run(t, "git", append([]string{"-C", filepath.Dir(work)}, args...)...)
			}
			url := scheme + "://git.example/git/project.git"
			git("clone", "-q", url, work).MustSucceed(t)
			git("-C", work, "fsck", "--strict").MustSucceed(t)
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
			git("-C", work, "checkout", "-q", "-b", branch).MustSucceed(t)
			git("-C", work, "add", ".").MustSucceed(t)
			git("-C", work, "commit", "-q", "-m", "Add more").MustSucceed(t)
			git("-C", work, "push", "-q", "origin", "HEAD").MustSucceed(t)
			head := git("-C", work, "rev-parse", "HEAD").MustSucceed(t).Stdout
			remote := git("ls-remote", url, "refs/heads/"+branch).MustSucceed(t).Stdout
			if !strings.HasPrefix(remote, strings.TrimSpace(head)+"\t") {
				t.Errorf("after the push the remote has %q, want %q", remote, head)
			}
		})
		for _, host := range []string{"other.example", "denied.example"} {
			t.Run(scheme+" to "+host, func(t *testing.T) {
				t.Parallel()
				res := p.run(t, "git", "clone", scheme+"://"+host+"/git/project.git", t.TempDir())
				if res.Exit == 0 || !strings.Contains(res.Stderr, "403") {
					t.Errorf("git clone: exit %d, want a failure that says 403:\n%s", res.Exit, res.Stderr)
				}
			})
		}
	}
}
