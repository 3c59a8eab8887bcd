package learned

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func accept(Content) error { return nil }

func ignore(Content) {}

// edit makes a change that must succeed.
func edit(t *testing.T, f *File, c Change) {
	t.Helper()
	if _, err := f.Edit(t.Context(), c, accept, ignore); err != nil {
		t.Fatal(err)
	}
}

func newFile(t *testing.T) *File { return &File{Path: filepath.Join(t.TempDir(), "learned.toml")} }

// entries returns the entries of a list in the file.
func entries(t *testing.T, f *File, list List) (texts []string) {
	t.Helper()
	data, err := os.ReadFile(f.Path)
	if err != nil {
		t.Fatal(err)
	}
	content, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range content[list] {
		texts = append(texts, e.Text)
	}
	return texts
}

func TestEdit(t *testing.T) {
	t.Parallel()
	f := &File{Path: filepath.Join(t.TempDir(), "new", "learned.toml")}
	if err := f.Check(); err != nil {
		t.Errorf("a missing file: %v", err)
	}
	edit(t, f, add(Allowed, "a.example", ""))
	if err := os.Chmod(f.Path, 0o644); err != nil {
		t.Fatal(err)
	}
	var committed Content
	found, err := f.Edit(t.Context(), add(Allowed, "b.example", ""), accept, func(c Content) { committed = c })
	if err != nil || found {
		t.Fatalf("got %t, %v", found, err)
	}
	if got := entries(t, f, Allowed); !slices.Equal(got, []string{"a.example", "b.example"}) || len(committed[Allowed]) != 2 {
		t.Errorf("the file has %q, commit got %v", got, committed)
	}
	if info, err := os.Stat(f.Path); err != nil || info.Mode().Perm()&0o177 != 0 {
		t.Errorf("the file has the mode %v, %v, want 0600", info.Mode(), err)
	}
	before, _ := os.Stat(f.Path)
	found, err = f.Edit(t.Context(), add(Allowed, "b.example", ""), accept, ignore)
	if after, _ := os.Stat(f.Path); !found || err != nil || !os.SameFile(before, after) {
		t.Errorf("an entry that is there: got %t, %v, or the file was written", found, err)
	}
	found, err = f.Edit(t.Context(), remove("a.example"), accept, ignore)
	if got := entries(t, f, Allowed); !found || err != nil || !slices.Equal(got, []string{"b.example"}) {
		t.Errorf("after a removal: got %t, %v and the entries %q", found, err, got)
	}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(f.Path), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(f.Path), ".*"))
	if len(files) != 2 || len(hidden) != 0 {
		t.Errorf("got the files %q and %q, want the file and its lock", files, hidden)
	}
}

// TestEditErrors checks that an edit that fails changes nothing and leaves nothing
// behind.
func TestEditErrors(t *testing.T) {
	t.Parallel()
	full, refused := errors.New("no space left on device"), errors.New("refused")
	for _, test := range []struct {
		name    string
		prepare func(f *File) error // the file has one entry before
		check   error
		want    string
	}{
		{"full disk", func(f *File) error {
			f.write = func(file *os.File, text []byte) error { file.Write(text[:len(text)/2]); return full }
			return nil
		}, nil, full.Error()},
		{"check", func(f *File) error { return nil }, refused, refused.Error()},
		{"hand-written file", func(f *File) error { return os.WriteFile(f.Path, []byte("[network_proxy]\n"), 0o600) }, nil, "does not begin with the line"},
		{"syntax error", func(f *File) error {
			return os.WriteFile(f.Path, []byte(head+"allowed_domains = [\n  \"a.example\n"), 0o600)
		}, nil, "no closing quote"},
		{"symbolic link", func(f *File) error {
			return errors.Join(os.Rename(f.Path, f.Path+".target"), os.Symlink(f.Path+".target", f.Path))
		}, nil, "symbolic link"},
		{"dangling symbolic link", func(f *File) error {
			return errors.Join(os.Remove(f.Path), os.Symlink(f.Path+".none", f.Path))
		}, nil, "symbolic link"},
		{"directory", func(f *File) error { return errors.Join(os.Remove(f.Path), os.Mkdir(f.Path, 0o700)) }, nil, "not a regular file"},
		{"file as the directory", func(f *File) error { f.Path += "/learned.toml"; return nil }, nil, "directory"},
		{"lock that cannot be opened", func(f *File) error {
			return errors.Join(os.Remove(f.Path+".lock"), os.Mkdir(f.Path+".lock", 0o700))
		}, nil, "cannot be locked"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFile(t)
			edit(t, f, add(Allowed, "a.example", ""))
			if err := test.prepare(f); err != nil {
				t.Fatal(err)
			}
			before := snapshot(t, filepath.Dir(f.Path))
			_, err := f.Edit(t.Context(), add(Denied, "b.example", ""), func(Content) error { return test.check },
				func(Content) { t.Error("commit was called") })
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), f.Path+": ") {
				t.Errorf("got the error %v, want one with the path and %q", err, test.want)
			}
			if after := snapshot(t, filepath.Dir(f.Path)); after != before {
				t.Errorf("the directory was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// snapshot describes the files of a directory with their content.
func snapshot(t *testing.T, dir string) string {
	var b strings.Builder
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // of a directory that is a file
		}
		data, _ := os.ReadFile(path)
		fmt.Fprintf(&b, "%s %v %q\n", d.Name(), d.Type(), data)
		return nil
	})
	return b.String()
}

// TestEditWaitsForOthers checks that an edit waits for another that has the lock,
// and gives up when its context ends.
func TestEditWaitsForOthers(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	editing, release := make(chan struct{}), make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := f.Edit(context.Background(), add(Allowed, "a.example", ""), accept, func(Content) { close(editing); <-release })
		first <- err
	}()
	<-editing
	ctx, cancel := context.WithTimeout(t.Context(), 5*lockInterval)
	defer cancel()
	_, err := f.Edit(ctx, add(Allowed, "late.example", ""), accept, ignore)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another edit runs: got %v, want %v", err, context.DeadlineExceeded)
	}
	close(release)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	edit(t, f, add(Allowed, "b.example", ""))
	if got := entries(t, f, Allowed); !slices.Equal(got, []string{"a.example", "b.example"}) {
		t.Errorf("got the entries %q", got)
	}
}

// addMany adds n entries, as one of several processes.
func addMany(ctx context.Context, path, name string, n int) error {
	f := &File{Path: path}
	for i := range n {
		if _, err := f.Edit(ctx, add(Allowed, fmt.Sprintf("h%d.%s.example", i, name), ""), accept, ignore); err != nil {
			return err
		}
	}
	return nil
}

// The environment of a process that TestEditsOfSeveralProcesses starts.
const envPath, envName = "LEARNED_TEST_PATH", "LEARNED_TEST_NAME"

func TestMain(m *testing.M) {
	if path := os.Getenv(envPath); path != "" {
		if err := addMany(context.Background(), path, os.Getenv(envName), entriesEach); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const entriesEach = 20

// TestEditsOfSeveralProcesses checks that edits at the same time, of one and of
// several processes, lose no entry.
func TestEditsOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const writers = 3
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if err := addMany(ctx, f.Path, fmt.Sprintf("goroutine%d", i), entriesEach); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			cmd := exec.CommandContext(ctx, os.Args[0])
			cmd.Env = append(os.Environ(), envPath+"="+f.Path, envName+"="+fmt.Sprintf("process%d", i))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	got := entries(t, f, Allowed)
	slices.Sort(got)
	if got := slices.Compact(got); len(got) != 2*writers*entriesEach {
		t.Errorf("the file has %d entries, want %d", len(got), 2*writers*entriesEach)
	}
}
