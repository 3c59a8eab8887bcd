// The files of one session.

package trust

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sync/singleflight"
)

// Files are the files of one session. Nothing is written before the first call of a method. Safe for concurrent use.
type Files struct {
	store *Store
	base  string // where the directory is; empty: in the store's
	use   usage
	made  singleflight.Group // of the directory

	mu    sync.Mutex
	root  *root
	dir   string            // in root; empty before it is needed
	names map[string]string // hashes of contents by the names of files
}

// Session returns the files of a session. Their directory is in dir, or in the store's if dir is empty. A dir that the caller
// chooses is for commands that run as another user: everybody who can search dir can read the files, and they contain nothing of
// the user's own files except certificates.
func (s *Store) Session(dir string) *Files {
	return &Files{store: s, base: dir, names: make(map[string]string)}
}

// Close removes the files. It waits while a file is written. Later calls fail.
func (f *Files) Close() error {
	if !f.use.close() {
		return nil
	}
	f.mu.Lock()
	r, dir := f.root, f.dir
	f.mu.Unlock()
	switch {
	case r == nil:
		return nil
	case f.base != "":
		return r.remove()
	}
	return os.RemoveAll(dir)
}

// begin reports whether a file may be written: neither the session nor the store has ended. If so, end must follow. Reading what
// others wrote comes before, so that a file system that hangs does not keep a session from ending.
func (f *Files) begin() bool {
	if !f.use.begin() {
		return false
	}
	if !f.store.use.begin() {
		f.use.end()
		return false
	}
	return true
}

func (f *Files) end() {
	f.store.use.end()
	f.use.end()
}

// Bundle returns the path of a file with the certificates of env, an environment in the form of [os.Environ], those of the system,
// and ours. The file is called bundle.pem the first time.
func (f *Files) Bundle(env []string) (string, error) {
	b, err := f.baseBundle(parseEnvironment(env))
	if err != nil {
		return "", err
	}
	return f.put("bundle.pem", b.pem)
}

func (f *Files) baseBundle(e *environment) (*bundle, error) {
	return f.store.bundle(f.store.present(baseSources(e)), true)
}

// directory returns the session's directory and the root that it is in.
func (f *Files) directory() (*root, string, error) {
	_, err, _ := f.made.Do("", func() (any, error) {
		f.mu.Lock()
		r, dir := f.root, f.dir
		f.mu.Unlock()
		if r != nil && r.exists() {
			if info, err := os.Lstat(dir); err == nil && info.IsDir() {
				return nil, nil
			}
		}
		r, err := f.makeRoot(r)
		if err != nil {
			return nil, err
		}
		if dir, err = r.session(f.store.nextName()); err != nil {
			return nil, fmt.Errorf("cannot create a directory for certificates: %w", err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		f.root, f.dir = r, dir
		clear(f.names)
		return nil, nil
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.root, f.dir, err
}

// makeRoot returns the root for the session's directory. old is its earlier root, or nil.
func (f *Files) makeRoot(old *root) (*root, error) {
	if f.base == "" {
		return f.store.directory()
	}
	if old != nil && old.exists() {
		return old, nil
	}
	if old != nil {
		old.release()
	}
	return newRoot(f.base, sharedAccess)
}

// put returns the path of a file with content. Another content of the same name gets a name of its own, because a command may be
// reading the first file.
func (f *Files) put(name string, content []byte) (string, error) {
	if !f.begin() {
		return "", errClosed
	}
	defer f.end()
	r, dir, err := f.directory()
	if err != nil {
		return "", err
	}
	path, err := r.put(dir, f.reserve(name, content), content)
	if err != nil {
		return "", fmt.Errorf("cannot write certificates for the command: %w", err)
	}
	return path, nil
}

// putPrivate is put for content that sessions do not share.
func (f *Files) putPrivate(name string, content []byte) (string, error) {
	if !f.begin() {
		return "", errClosed
	}
	defer f.end()
	r, dir, err := f.directory()
	if err != nil {
		return "", err
	}
	path, mode := filepath.Join(dir, f.reserve(name, content)), fs.FileMode(0o600)
	if f.base != "" {
		mode = r.access.file
	}
	if err := writeFile(path, content, mode); err != nil {
		return "", fmt.Errorf("cannot write settings for the command: %w", err)
	}
	return path, nil
}

// reserve returns the name for a content: name, or name with a part of the content's hash if another content has name.
func (f *Files) reserve(name string, content []byte) string {
	hash := contentName(content)
	f.mu.Lock()
	defer f.mu.Unlock()
	if has, taken := f.names[name]; taken && has != hash {
		ext := filepath.Ext(name)
		name = strings.TrimSuffix(name, ext) + "-" + hash[:16] + ext
	}
	f.names[name] = hash
	return name
}
