// Directories for the files, and those that other processes left behind.

package trust

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/singleflight"

	"example.com/networkproxy/internal/filelock"
)

// access holds the mode bits of directories and files.
type access struct{ dir, file fs.FileMode }

var (
	privateAccess = access{dir: 0o700, file: 0o400}
	sharedAccess  = access{dir: 0o711, file: 0o444} // for a sandbox with another user
)

const (
	// rootPrefix begins the names of the directories of all processes.
	rootPrefix = "networkproxy-trust-"

	// contents is the directory with the content of files, by its hash.
	contents = "content"
)

// root is a directory of this process. Its lock tells other processes that it is in use.
type root struct {
	dir    string
	access access
	lock   *os.File
	info   fs.FileInfo // of the directory
	writes singleflight.Group
}

// newRoot creates a directory in base, and removes those that other processes of this user left there.
func newRoot(base string, a access) (*root, error) {
	base, err := checkBase(base)
	if err != nil {
		return nil, err
	}
	sweep(base)
	const attempts = 50 // other processes may take a new directory for one that was left behind
	for range attempts {
		var r *root
		if r, err = tryRoot(filepath.Join(base, rootPrefix+randomName()), a); err == nil {
			return r, nil
		}
		if !errors.Is(err, filelock.ErrInUse) && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return nil, fmt.Errorf("cannot create a directory for certificates in %s: %w", base, err)
}

// checkBase returns the path of a directory without symbolic links. It returns an error if others could replace what is in it.
func checkBase(base string) (string, error) {
	base, err := filepath.Abs(base)
	if err == nil {
		base, err = filepath.EvalSymlinks(base)
	}
	if err != nil {
		return "", fmt.Errorf("the directory for certificates: %w", err)
	}
	info, err := os.Stat(base)
	switch {
	case err != nil:
		return "", fmt.Errorf("the directory for certificates: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("the directory for certificates: %s is not a directory", base)
	case strings.ContainsFunc(base, isControl):
		return "", fmt.Errorf("the directory for certificates: the path %q contains control characters; use another one", base)
	case othersCanReplace(info):
		return "", fmt.Errorf("the directory for certificates: every user can replace files in %s; use another one, for example by setting TMPDIR, or run chmod +t on it", base)
	}
	return base, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func randomName() string {
	b := make([]byte, 8)
	rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// tryRoot creates and locks the directory dir.
func tryRoot(dir string, a access) (*root, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := filelock.TryDir(dir)
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	r := &root{dir: dir, access: a, lock: lock}
	if r.info, err = os.Lstat(dir); err == nil && !lockIsOf(lock, r.info) {
		err = filelock.ErrInUse // removed before it was locked
	}
	if err == nil {
		err = os.Mkdir(filepath.Join(dir, contents), 0o700)
	}
	for _, d := range []string{filepath.Join(dir, contents), dir} {
		if err == nil {
			err = os.Chmod(d, a.dir) // whatever the umask is
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.remove())
	}
	return r, nil
}

// exists reports whether the directory is still there. Programs remove old files of the directory for temporary files.
func (r *root) exists() bool {
	info, err := os.Lstat(filepath.Join(r.dir, contents))
	if err != nil || !info.IsDir() {
		return false
	}
	info, err = os.Lstat(r.dir)
	return err == nil && os.SameFile(info, r.info)
}

// release ends the lock.
func (r *root) release() { r.lock.Close() }

// remove removes the directory. It does not follow links.
func (r *root) remove() error {
	r.release()
	return os.RemoveAll(r.dir)
}

// session creates a directory for a session.
func (r *root) session(name string) (string, error) {
	dir := filepath.Join(r.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, r.access.dir)
}

// put makes a file with content in a directory of r. Files with the same content share their place on the disk, except on file
// systems without hard links.
func (r *root) put(dir, name string, content []byte) (string, error) {
	path := filepath.Join(dir, name)
	hash := contentName(content)
	original, err, _ := r.writes.Do(hash, func() (any, error) {
		original := filepath.Join(r.dir, contents, hash)
		// A command may have changed what an earlier session has.
		if has, err := readRegular(original, int64(len(content))); err == nil && bytes.Equal(has, content) {
			return original, nil
		}
		return original, writeFile(original, content, r.access.file)
	})
	if err != nil {
		return "", err
	}
	// The command may have replaced the file.
	if has, err := os.Lstat(path); err == nil {
		if want, err := os.Lstat(original.(string)); err == nil && os.SameFile(has, want) {
			return path, nil
		}
		return path, writeFile(path, content, r.access.file)
	}
	if err := os.Link(original.(string), path); err != nil {
		return path, writeFile(path, content, r.access.file)
	}
	return path, nil
}

// contentName returns the name of a file with content in contents.
func contentName(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// writeFile puts a new file at path. No reader finds a part of it, and it leaves nothing behind if it fails.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	temporary := filepath.Join(filepath.Dir(path), ".new-"+randomName())
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		os.Remove(temporary)
	}
	return err
}

// sweep removes the directories of processes of this user that have ended. It ignores errors, because nothing depends on it.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), rootPrefix) {
			continue
		}
		dir := filepath.Join(base, e.Name())
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || !isOurs(info) {
			continue
		}
		lock, err := filelock.TryDir(dir)
		if err != nil {
			continue // in use
		}
		// The lock is held while the directory is removed, so that a process that has just created it notices.
		removeLocked(dir, lock)
	}
}
