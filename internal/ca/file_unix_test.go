//go:build unix

package ca

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Another user who owns the file knows the key.
func TestLoadRefusesTheKeyOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	dir, ca := t.TempDir(), issue(t, nil, nil, nil)
	cert, key := write(t, filepath.Join(dir, "cert"), certText(ca)), write(t, filepath.Join(dir, "key"), pkcs8(t, ca.key))
	if err := os.Chown(key, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(cert, key); err == nil || !strings.Contains(err.Error(), "belongs to the user with the number 12345") {
		t.Errorf("got %v", err)
	}
}

// fileOf is a regular file with a mode, a user and a group.
type fileOf struct {
	fs.FileInfo
	mode     fs.FileMode
	uid, gid uint32
}

func (f fileOf) Mode() fs.FileMode { return f.mode }
func (f fileOf) Sys() any          { return &syscall.Stat_t{Uid: f.uid, Gid: f.gid} }

// The user 1000 reads a key. A key of root with an ACL for the user has mode 0440.
func TestPrivateKeysOfUsers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		file fileOf
		ok   bool
	}{
		{fileOf{mode: 0o600, uid: 1000, gid: 1000}, true},
		{fileOf{mode: 0o400, uid: 1000, gid: 0}, true},
		{fileOf{mode: 0o440, uid: 1000, gid: 1000}, false},
		{fileOf{mode: 0o600, uid: 1001, gid: 1000}, false},
		{fileOf{mode: 0o400, uid: 0, gid: 0}, true},
		{fileOf{mode: 0o440, uid: 0, gid: 0}, true},
		{fileOf{mode: 0o460, uid: 0, gid: 0}, false},
		{fileOf{mode: 0o444, uid: 0, gid: 0}, false},
		{fileOf{mode: 0o440, uid: 0, gid: 1000}, false},
	} {
		err := checkPrivateTo(1000, test.file)
		if (err == nil) != test.ok {
			t.Errorf("mode %04o, user %d, group %d: got %v, want accepted: %t", test.file.mode, test.file.uid, test.file.gid, err, test.ok)
		}
	}
}

// A pipe without a writer must not stop the start of the proxy.
func TestLoadDoesNotWaitForAPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := Load(pipe, pipe)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Load waits for a writer")
	}
}
