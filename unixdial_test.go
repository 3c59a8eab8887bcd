package networkproxy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A path that was judged and has become a link since, before there is anything
// to compare the socket with.
func TestUnixSocketDialerFollowsNoLink(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
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
		conn, err := socketDialer{timeout: time.Minute}.dial(t.Context(), socketPath{asked: path, real: path})
		if err == nil {
			conn.Close()
		}
		if want := path != filepath.Join(trap, "s"); errors.Is(err, errSocketSwapped) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}
