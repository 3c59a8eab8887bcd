//go:build unix

package trust

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func (l *lab) mode(path string) os.FileMode {
	l.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		l.Fatal(err)
	}
	return info.Mode()
}

func (l *lab) bundle(f *Files) string {
	l.Helper()
	path, err := f.Bundle(nil)
	if err != nil {
		l.Fatal(err)
	}
	return path
}

// Sessions share the place of equal files, and each has a directory of its own.
func TestFilesArePrivateAndShared(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	a, b := l.store.Session(""), l.store.Session("")
	first, second := l.bundle(a), l.bundle(b)
	for _, dir := range []string{filepath.Dir(first), filepath.Dir(filepath.Dir(first))} {
		if m := l.mode(dir); m != os.ModeDir|0o700 {
			t.Errorf("%s has the mode %v", dir, m)
		}
	}
	if m := l.mode(first); m != 0o400 {
		t.Errorf("%s has the mode %v", first, m)
	}
	one, err := os.Lstat(first)
	if err != nil {
		t.Fatal(err)
	}
	if two, err := os.Lstat(second); err != nil || !os.SameFile(one, two) || first == second {
		t.Errorf("%s and %s are different files (%v)", first, second, err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := namesIn(t, l.read(second)); got != "system ours" {
		t.Errorf("after the end of another session: %q", got)
	}
}

// A directory that the host chooses is for a sandbox with another user.
func TestChosenDirectory(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	chosen := t.TempDir()
	l.write(".wgetrc", []byte("password = secret\n"))
	f := l.store.Session(chosen)
	vars := l.environ(f, "HOME="+l.dir)
	for _, name := range []string{"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "WGETRC"} {
		path := vars[name]
		if !strings.HasPrefix(path, chosen+"/") || l.mode(path) != 0o444 {
			t.Errorf("%s=%s has the mode %v", name, path, l.mode(path))
		}
		for dir := filepath.Dir(path); dir != chosen; dir = filepath.Dir(dir) {
			if m := l.mode(dir); m != os.ModeDir|0o711 {
				t.Errorf("%s has the mode %v", dir, m)
			}
		}
	}
	if strings.Contains(string(l.read(vars["WGETRC"])), "secret") {
		t.Error("another user can read the settings of wget")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if left := l.list(chosen); len(left) > 0 {
		t.Errorf("after Close: %q", left)
	}
	if left := l.list(l.base); len(left) > 0 {
		t.Errorf("the store has %q", left)
	}
	if _, err := l.store.Session(filepath.Join(chosen, "none")).Bundle(nil); err == nil {
		t.Error("a directory that does not exist is no error")
	}
}

// What dead processes left behind is removed. What is in use, or of others, stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	outside := l.write("outside/kept", nil)
	dead := filepath.Join(l.base, rootPrefix+"dead")
	for _, dir := range []string{filepath.Join(dead, "s1"), filepath.Join(l.base, "networkproxy-other")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, target := range map[string]string{
		filepath.Join(dead, "s1", "link"):       filepath.Dir(outside),
		filepath.Join(l.base, rootPrefix+"lnk"): filepath.Dir(outside),
	} {
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(l.base, rootPrefix+"file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	alive, err := newRoot(l.base, privateAccess)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(dead); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory of a dead process: %v", err)
	}
	l.bundle(l.store.Session("")) // sweeps as well
	if !alive.exists() {
		t.Error("a directory in use was removed")
	}
	for _, path := range []string{outside, filepath.Join(l.base, "networkproxy-other"), filepath.Join(l.base, rootPrefix+"lnk"), filepath.Join(l.base, rootPrefix+"file")} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
		os.Remove(path)
	}
	if os.Geteuid() == 0 {
		other := filepath.Join(l.base, rootPrefix+"other")
		if err := errors.Join(os.Mkdir(other, 0o700), os.Chown(other, 12345, 12345)); err != nil {
			t.Fatal(err)
		}
		sweep(l.base)
		if _, err := os.Lstat(other); err != nil {
			t.Errorf("the directory of another user: %v", err)
		}
		os.Remove(other)
	}
	if err := alive.remove(); err != nil {
		t.Error(err)
	}
}

// Many processes that start at once do not remove the directories of each other.
func TestSweepsAtOnce(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				r, err := newRoot(base, privateAccess)
				if err != nil {
					t.Error(err)
					return
				}
				if path, err := r.put(r.dir, "file", []byte("x")); err != nil {
					t.Error(path, err)
				}
				sweep(base)
				if !r.exists() {
					t.Error("a directory in use was removed")
				}
				if err := r.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(base); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

// A process that was killed is noticed, although its children live on.
func TestLockEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	r, err := newRoot(base, privateAccess)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	sweep(base)
	if !r.exists() {
		t.Fatal("a directory in use was removed")
	}
	r.lock.Close() // as at the end of this process
	sweep(base)
	if r.exists() {
		t.Error("the directory is in use as long as a child runs")
	}
}

func TestBaseThatOthersCanChange(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	open := filepath.Join(t.TempDir(), "open")
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(l.dir, "link")
	if err := os.Symlink(open, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		mode os.FileMode
		want string
	}{
		{0o777, "every user can replace files"},
		{0o777 | os.ModeSticky, ""},
		{0o775, ""},
		{0o700, ""},
	} {
		if err := os.Chmod(open, test.mode); err != nil {
			t.Fatal(err)
		}
		for _, base := range []string{open, link} {
			f := l.store.Session(base)
			_, err := f.Bundle(nil)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("mode %v: %v", test.mode, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	if _, err := newRoot(l.roots.Path, privateAccess); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("a file: %v", err)
	}
	odd := filepath.Join(l.dir, "a\nca_certificate = x")
	if err := os.Mkdir(odd, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := newRoot(odd, privateAccess); err == nil || !strings.Contains(err.Error(), "control characters") {
		t.Errorf("a path with a line end: %v", err)
	}
}

// Files that a command or a cleaner has removed or replaced are written again.
func TestRemovedFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	f := l.store.Session("")
	path := l.bundle(f)
	dir := filepath.Dir(path)
	root := filepath.Dir(dir)
	elsewhere := l.write("elsewhere", []byte("mine"))
	for name, damage := range map[string]func() error{
		"the file":      func() error { return os.Remove(path) },
		"its directory": func() error { return os.RemoveAll(filepath.Dir(path)) },
		"all":           func() error { return os.RemoveAll(root) },
		"the contents":  func() error { return os.RemoveAll(filepath.Join(filepath.Dir(filepath.Dir(path)), contents)) },
		"by a link":     func() error { return errors.Join(os.Remove(path), os.Symlink(elsewhere, path)) },
		"by other text": func() error { return errors.Join(os.Remove(path), os.WriteFile(path, []byte("x"), 0o600)) },
		"what it links to": func() error {
			return errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, append(l.read(path)[1:], ' '), 0o600))
		},
		"nothing at all": func() error { return nil },
	} {
		if err := damage(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		path = l.bundle(f)
		root = filepath.Dir(filepath.Dir(path))
		if got := namesIn(t, l.read(path)); got != "system ours" {
			t.Errorf("%s: %s has %q", name, path, got)
		}
	}
	if got := l.read(elsewhere); string(got) != "mine" {
		t.Errorf("a file that a link leads to has %q", got)
	}
}

func TestCloseDuringEnviron(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var wg sync.WaitGroup
	for range 20 {
		f := l.store.Session("")
		for range 4 {
			wg.Go(func() {
				if env, err := f.Environ([]string{"A=b"}); err != nil && !errors.Is(err, errClosed) || (env == nil) != (err != nil) {
					t.Errorf("got %q, %v", env, err)
				}
			})
		}
		wg.Go(func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			f.mu.Lock()
			dir := f.dir
			f.mu.Unlock()
			if dir == "" {
				return
			}
			if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is there after Close: %v", dir, err)
			}
		})
	}
	wg.Go(func() {
		if err := l.store.Close(); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
}

// If a file cannot be written, as on a full disk, there is an error, and no bundle that is cut short or has less in it.
func TestFilesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	f := l.store.Session("")
	r, dir, err := f.directory()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bundle.pem", "ca.pem", "trust.jks"} {
		base, err := f.baseBundle(parseEnvironment(nil))
		if err != nil {
			t.Fatal(err)
		}
		content := map[string][]byte{"bundle.pem": base.pem, "ca.pem": l.ours, "trust.jks": base.jks()}[name]
		obstacle := filepath.Join(r.dir, contents, contentName(content), "x")
		if err := os.MkdirAll(obstacle, 0o700); err != nil {
			t.Fatal(err)
		}
		if env, err := f.Environ(nil); env != nil || err == nil || !strings.Contains(err.Error(), "cannot write certificates") {
			t.Errorf("%s: got %q, %v", name, env, err)
		}
		if path, err := f.Bundle(nil); (err == nil) != (name != "bundle.pem") {
			t.Errorf("%s: Bundle: %s, %v", name, path, err)
		}
		if slices.Contains(l.list(dir), name) || slices.ContainsFunc(l.list(filepath.Join(r.dir, contents)), func(n string) bool { return strings.HasPrefix(n, ".new") }) {
			t.Errorf("%s: left %q, %q", name, l.list(dir), l.list(filepath.Join(r.dir, contents)))
		}
		if err := os.RemoveAll(filepath.Dir(obstacle)); err != nil {
			t.Fatal(err)
		}
	}
	l.environ(f)
}
