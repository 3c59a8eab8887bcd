package trust

import (
	"io/fs"
	"os"
)

// lockIsOf returns true: Windows removes no file that is open.
func lockIsOf(*os.File, fs.FileInfo) bool { return true }

// removeLocked ends the lock of a directory and removes it, because Windows removes no file that is open.
func removeLocked(dir string, lock *os.File) {
	lock.Close()
	os.RemoveAll(dir)
}

// isOurs returns true: the directory for temporary files is the user's own.
func isOurs(fs.FileInfo) bool { return true }

// othersCanReplace returns false, because mode bits do not describe who can write to a directory.
func othersCanReplace(fs.FileInfo) bool { return false }
