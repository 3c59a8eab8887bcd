// Package trust makes the clients in a child process trust a certificate authority, in addition to those that they trust already.
//
// Most clients read the authorities that they trust from the file that a variable names, and then from nowhere else. So the package
// writes files with the certificates that the client would have used and the additional one, and returns an environment that names
// them. A [Store] holds the files of a process, and [Files] are those of one session. The files contain certificates, and one of them
// the user's settings of wget.
//
// The package knows nothing of the proxy. It reads the files that the environment of the child names, and starts no process.
package trust

import (
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sync/singleflight"
)

// Config is the configuration of a store.
type Config struct {
	// CA returns the certificates of the additional authority in PEM form. It always returns the same, or an error.
	CA func() ([]byte, error)

	// Log gets warnings, each once. It must not block.
	Log *slog.Logger

	// Base is the directory for the store's own directory. Empty means that for temporary files.
	Base string

	// Roots finds the certificates that clients trust without configuration. Nil means those of the system.
	Roots func() (Roots, error)
}

// Store holds the files of one process, in a directory that only its user can read. It creates the directory when the first file
// is written, and then also removes the directories of processes that ended without removing theirs. Safe for concurrent use.
type Store struct {
	config Config
	use    usage
	made   singleflight.Group // of the directory

	mu     sync.Mutex
	root   *root              // nil before it is needed
	warned map[string]bool    // by text
	built  map[string]*bundle // by what they were made of
	names  int                // of directories of sessions
}

// NewStore returns an empty store.
func NewStore(c Config) *Store {
	if c.Base == "" {
		c.Base = os.TempDir()
	}
	if c.Roots == nil {
		c.Roots = systemRoots
	}
	return &Store{config: c, warned: make(map[string]bool), built: make(map[string]*bundle)}
}

// errClosed is returned after the end of a session or of the store.
var errClosed = errors.New("the session has ended")

// Close removes all files. It waits while a file is written. Later calls fail.
func (s *Store) Close() error {
	if !s.use.close() {
		return nil
	}
	s.mu.Lock()
	r := s.root
	s.root = nil
	s.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.remove()
}

// directory returns the store's directory, and creates it if it does not exist, also if somebody has removed it.
func (s *Store) directory() (*root, error) {
	made, err, _ := s.made.Do("", func() (any, error) {
		s.mu.Lock()
		r := s.root
		s.mu.Unlock()
		if r != nil && r.exists() {
			return r, nil
		}
		if r != nil {
			r.release()
		}
		r, err := newRoot(s.config.Base, privateAccess)
		if err != nil {
			return (*root)(nil), err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.root = r
		return r, nil
	})
	return made.(*root), err
}

// nextName returns a name for the directory of a session.
func (s *Store) nextName() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names++
	return "s" + strconv.Itoa(s.names)
}

// warn logs a warning if it was not logged before.
func (s *Store) warn(text string, args ...any) {
	key := text
	for _, a := range args {
		if word, ok := a.(string); ok {
			key += "\x00" + word
		}
	}
	s.mu.Lock()
	known := s.warned[key] || len(s.warned) >= maxWarnings
	s.warned[key] = true
	s.mu.Unlock()
	if !known {
		s.config.Log.Warn(text, args...)
	}
}

// maxWarnings bounds the different warnings that are remembered.
const maxWarnings = 256

// usage counts the writes to a directory, so that its end can wait for them. The zero value is in use.
type usage struct {
	mu     sync.Mutex
	closed bool
	writes sync.WaitGroup
}

// begin reports whether a write may begin. If so, it must end with end.
func (u *usage) begin() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return false
	}
	u.writes.Add(1)
	return true
}

func (u *usage) end() { u.writes.Done() }

// close lets no further write begin and waits for those that have begun. It reports whether this was the first close.
func (u *usage) close() bool {
	u.mu.Lock()
	first := !u.closed
	u.closed = true
	u.mu.Unlock()
	u.writes.Wait()
	return first
}
