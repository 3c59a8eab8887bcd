// Package learned keeps two lists of hosts in a TOML file of its own: those that a user has allowed or denied for good. The file
// is a configuration file that other programs can read, but this package alone writes it:
//
//	# networkproxy: learned hosts
//	[network_proxy.policy]
//	allowed_domains = [
//	  "api.example.com", # 2026-03-01 approved by the user
//	]
//
// A file that the package would not have written is never changed. A change keeps every line that it does not touch. It reads the
// file again while it holds a lock that works between processes, writes a new file, and renames it over the old one. So no change
// is lost, and a reader sees the file before or after a change.
//
// The package does not know what an entry means.
package learned

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"example.com/networkproxy/internal/filelock"
)

// maxSize is the size of the largest file that is changed.
const maxSize = 64 << 20

// File is the file. Its methods are safe for concurrent use.
type File struct {
	Path string

	write func(*os.File, []byte) error // for tests of a full disk; nil: writes and syncs
}

// Check returns an error if the path leads to anything but a regular file. A symbolic link is an error, because a change would
// replace the link.
func (f *File) Check() error {
	info, err := os.Lstat(f.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("cannot be examined: %w", withoutPath(err))
	case info.Mode().Type() == fs.ModeSymlink:
		return errors.New("is a symbolic link, which a change would replace: name the file that it leads to")
	case !info.Mode().IsRegular():
		return errors.New("is not a regular file")
	}
	return nil
}

// Edit makes a change. found reports whether the file had the entry of the change before: a change that adds an entry then changes
// nothing. The file is created if it is missing, with its directory.
//
// Before Edit writes, it calls check with the new content. An error of check is returned, and nothing is written. When the file
// has the new content, Edit calls commit with it. No other Edit of the same file, in any process, runs until both have returned.
//
// Edit stops waiting for other processes when ctx ends. After any error, the file is as it was before.
func (f *File) Edit(ctx context.Context, c Change, check func(Content) error, commit func(Content)) (found bool, err error) {
	// All errors below leave out the path, which is added here.
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", f.Path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o700); err != nil {
		return false, fmt.Errorf("cannot create its directory: %w", withoutPath(err))
	}
	unlock, err := f.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()

	before, err := f.read()
	if err != nil {
		return false, err
	}
	after, found, err := before.changed(c)
	if err != nil {
		return found, err
	}
	if err := check(after.content); err != nil {
		return found, err
	}
	if after != before {
		if err := f.replace(after.bytes()); err != nil {
			return found, err
		}
	}
	commit(after.content)
	return found, nil
}

// read reads the file for a change.
func (f *File) read() (*document, error) {
	if err := f.Check(); err != nil {
		return nil, err
	}
	file, err := os.Open(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return parse(nil)
	}
	if err != nil {
		return nil, withoutPath(err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	switch {
	case err != nil:
		return nil, withoutPath(err)
	case len(data) > maxSize:
		return nil, fmt.Errorf("is larger than %d MiB: is it the right file?", maxSize>>20)
	}
	return parse(data)
}

// replace replaces the file by one with the given text and mode 0600.
func (f *File) replace(text []byte) error {
	dir, name := filepath.Split(f.Path)
	temp, err := os.CreateTemp(dir, "."+name+".*.tmp") // of mode 0600
	if err != nil {
		return fmt.Errorf("cannot create a file beside it: %w", withoutPath(err))
	}
	defer os.Remove(temp.Name()) // fails after the rename
	write := f.write
	if write == nil {
		write = writeAndSync
	}
	err = errors.Join(write(temp, text), temp.Close())
	if err != nil {
		return fmt.Errorf("cannot write a file beside it: %w", withoutPath(err))
	}
	if err := os.Rename(temp.Name(), f.Path); err != nil {
		return fmt.Errorf("cannot be replaced: %w", withoutPath(err))
	}
	// The new content is in place and stays, unless the machine loses power
	// before the system writes the directory. So this is no error.
	_ = syncDir(dir)
	return nil
}

func writeAndSync(file *os.File, text []byte) error {
	if _, err := file.Write(text); err != nil {
		return err
	}
	return file.Sync()
}

// lockInterval is the time between two tries to get the lock.
const lockInterval = 10 * time.Millisecond

// lock gets the lock on the file. The lock is on a second file beside it, because a lock on the file itself would end with its
// replacement. The second file stays, because removing it would let two processes lock different files.
func (f *File) lock(ctx context.Context) (unlock func(), err error) {
	path := f.Path + ".lock"
	for {
		lock, err := filelock.TryFile(path)
		switch {
		case err == nil:
			return func() { lock.Close() }, nil
		case !errors.Is(err, filelock.ErrInUse):
			return nil, fmt.Errorf("cannot be locked with %s: %w", path, withoutPath(err))
		}
		retry := time.NewTimer(lockInterval)
		select {
		case <-retry.C:
		case <-ctx.Done():
			retry.Stop()
			return nil, fmt.Errorf("another change of it has not ended: %w", context.Cause(ctx))
		}
	}
}

// withoutPath returns err without the path that the os package adds, because the message names the file already.
func withoutPath(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
