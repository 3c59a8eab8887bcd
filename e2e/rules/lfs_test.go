//go:build e2e && linux

// This file judges the requests that Git LFS sends.

package rules_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// lfsServer is a server of Git LFS below /org/repo.git/info/lfs/. It serves all else with git.
type lfsServer struct {
	git http.Handler

	mu      sync.Mutex
	objects map[string]string
}

func (s *lfsServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, at, found := strings.Cut(r.URL.Path, "/info/lfs/")
	switch name := path.Base(at); {
	case !found:
		s.git.ServeHTTP(w, r)
	case at == "objects/batch":
		s.batch(w, r)
	case strings.HasPrefix(at, "objects/") && r.Method == "PUT":
		data, _ := io.ReadAll(r.Body)
		s.objects[name] = string(data)
	case strings.HasPrefix(at, "objects/") && r.Method == "GET":
		io.WriteString(w, s.objects[name])
	case at == "locks/verify":
		w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
		io.WriteString(w, `{"ours":[],"theirs":[]}`)
	default:
		http.NotFound(w, r)
	}
}

func (s *lfsServer) batch(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Operation string
		Objects   []struct {
			OID  string
			Size int
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var objects []map[string]any
	for _, o := range request.Objects {
		action := map[string]any{"href": "https://" + r.Host + "/org/repo.git/info/lfs/objects/" + o.OID}
		objects = append(objects, map[string]any{"oid": o.OID, "size": o.Size, "authenticated": true, "actions": map[string]any{request.Operation: action}})
	}
	w.Header().Set("Content-Type", "application/vnd.git-lfs+json")
	json.NewEncoder(w).Encode(map[string]any{"transfer": "basic", "objects": objects})
}

// TestLFS checks that limited mode and the rule for fetches permit each request of a download by Git LFS and refuse each that only
// an upload needs, and that the rule for pushes permits both.
func TestLFS(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	j, url := newJudge(t, home)
	j.git = &lfsServer{git: j.git, objects: make(map[string]string)}
	git := func(args ...string) {
		t.Helper()
		command(t, home, append([]string{"git"}, args...)...)
	}
	git("lfs", "install", "--skip-repo")
	work, again := filepath.Join(home, "work"), filepath.Join(home, "again")
	git("clone", "-q", url, work)
	checkRequests(t, "clone", "HTTP/", j.take())
	git("-C", work, "lfs", "track", "*.bin")
	for i := range 120 { // more than one batch
		if err := os.WriteFile(filepath.Join(work, fmt.Sprintf("%d.bin", i)), fmt.Appendf(nil, "object %d", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	git("-C", work, "add", ".")
	git("-C", work, "commit", "-q", "-m", "Add objects")
	git("-C", work, "push", "-q", "origin", "HEAD")
	writes := 0
	for _, r := range checkRequests(t, "push", "HTTP/", j.take()) {
		if !r.push {
			t.Errorf("push: the push rule refuses %s", r.line)
		}
		if r.readOnly != nil {
			writes++
		} else if !strings.Contains(r.line, " GET ") && !strings.HasSuffix(r.line, "/git-upload-pack") { // it lists the references
			t.Errorf("push: limited mode permits %s", r.line)
		}
	}
	if writes < 120 {
		t.Errorf("push: limited mode refuses %d requests, want at least one for each object", writes)
	}
	git("clone", "-q", url, again)
	batches := 0
	for _, r := range checkRequests(t, "clone with objects", "HTTP/", j.take()) {
		if r.readOnly != nil || !r.fetch || !r.push {
			t.Errorf("clone: %s: fetch rule %v, push rule %v, limited mode: %v", r.line, r.fetch, r.push, r.readOnly)
		}
		if strings.HasSuffix(r.line, "/batch") {
			batches++
		}
	}
	if got, err := os.ReadFile(filepath.Join(again, "7.bin")); string(got) != "object 7" || batches == 0 {
		t.Errorf("after %d batches, the object is %q, %v", batches, got, err)
	}
}
