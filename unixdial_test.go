// Connecting to a unix socket that was allowed, and has been changed since.

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
		conn, err := socketDialer{timeout: time.Minute}.dial(t.Context(), socketPath{asked: path, real: path})
		if err == nil {
			conn.Close()
		}
		if want := path != filepath.Join(trap, "s"); errors.Is(err, errSocketSwapped) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A path that was judged and has become the proxy's own socket since, by
// whatever name.
func TestUnixSocketDialerLeavesOutItsOwn(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var own selfListeners
	own.add(l.Addr())
	judged := filepath.Join(dir, "judged")
	if err := os.Rename(filepath.Join(dir, "admin"), judged); err != nil {
		t.Fatal(err)
	}
	dialer := socketDialer{timeout: time.Minute, own: &own}
	if conn, err := dialer.dial(t.Context(), socketPath{asked: judged, real: judged}); !errors.Is(err, errSocketSwapped) {
		t.Errorf("%v, %v", conn, err)
	}
	own.remove(l.Addr())
	conn, err := dialer.dial(t.Context(), socketPath{asked: judged, real: judged})
	if err != nil {
		t.Fatalf("when it is no longer the proxy's: %v", err)
	}
	conn.Close()
}

// socketDir is a directory for sockets, by a short path without links.
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
