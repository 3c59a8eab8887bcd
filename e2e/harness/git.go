//go:build e2e && linux

package harness

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
)

// GitBackend returns a handler that serves the repositories in root below the path prefix,
// for reading and for writing. home is the HOME of git.
func GitBackend(prefix, root, home string) (http.Handler, error) {
	libexec, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git --exec-path: %w", err)
	}
	return withLength(&cgi.Handler{
		Path:   filepath.Join(strings.TrimSpace(string(libexec)), "git-http-backend"),
		Root:   prefix,
		Env:    append(GitEnv(home), "GIT_PROJECT_ROOT="+root, "GIT_HTTP_EXPORT_ALL=1"),
		Stderr: io.Discard,
	}), nil
}

// withLength reads a body of unknown length to its end first, because net/http/cgi refuses
// such bodies.
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

// Git runs git commands one after the other, with home as their HOME.
func Git(home string, commands ...[]string) error {
	for _, args := range commands {
		cmd := exec.Command("git", args...)
		cmd.Env = GitEnv(home)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
		}
	}
	return nil
}

// GitEnv returns an environment in which git ignores the user's configuration.
func GitEnv(home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=suite", "GIT_AUTHOR_EMAIL=suite@example.com",
		"GIT_COMMITTER_NAME=suite", "GIT_COMMITTER_EMAIL=suite@example.com",
	}
}
