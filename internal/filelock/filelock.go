// Package filelock locks files and directories against other processes, and against
// other locks of the same process.
package filelock

import (
	"errors"
	"os"
)

// ErrInUse is returned if somebody else has the lock.
var ErrInUse = errors.New("another process uses it")

// TryFile opens the file at path, creates it with mode 0600 if it does not exist, and
// locks it. It does not wait and follows no symbolic link. Closing the result ends the
// lock, and so does the end of the process. A process that is started at that moment
// may keep the lock until its program begins.
func TryFile(path string) (*os.File, error) { return tryFile(path) }

// TryDir locks a directory in the same way. Programs that remove old temporary files,
// such as systemd-tmpfiles, leave a locked directory alone. On Windows, the lock is a
// file in the directory.
func TryDir(dir string) (*os.File, error) { return tryDir(dir) }
