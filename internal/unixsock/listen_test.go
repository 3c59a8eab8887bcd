package unixsock

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	t.Parallel()
	if os.PathSeparator != '/' {
		t.Skip("file modes do not protect sockets on this system")
	}
	dir := socketDir(t)
	path := filepath.Join(dir, "s")
	for range 2 { // the second replaces a socket that nobody listens on
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		stale.Close()
		l, err := Listen(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().String() != path {
			t.Errorf("Addr() = %s, want %s", l.Addr(), path)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != os.ModeSocket|0o600 {
			t.Fatalf("%v, %v; want a socket with mode 0600", info.Mode(), err)
		}
		if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), "another process listens") {
			t.Errorf("a socket in use: %v", err)
		}
		l.Close()
		if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
}

func TestListenRefusals(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"relative":                            "absolute path",
		"/" + strings.Repeat("x", MaxPath):    "at most 103",
		file:                                  "not a socket",
		filepath.Join(dir, "missing", "sock"): "must exist and be writable",
	} {
		if l, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v; want an error with %q", path, l, err, want)
		}
	}
}

// Close leaves the file alone that took the place of the socket.
func TestCloseLeavesOtherFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "s")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}
