package unixsock

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A directory of the path was replaced by a link after the check.
func TestDialFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	trap := filepath.Join(dir, "trap")
	if err := os.Mkdir(trap, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(trap, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	swapped := filepath.Join(dir, "judged")
	if err := os.Symlink(trap, swapped); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(trap, "s"), filepath.Join(swapped, "s")} {
		conn, err := Dialer{Timeout: time.Minute}.Dial(t.Context(), path, path)
		if err == nil {
			conn.Close()
		}
		if want := path != filepath.Join(trap, "s"); errors.Is(err, ErrChanged) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// socketDir returns a new directory for sockets. Its path is short and has no
// symbolic links.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
