//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package trust

import (
	"io/fs"
	"os"
	"syscall"
)

// lockIsOf reports whether a lock is that of a directory.
func lockIsOf(lock *os.File, dir fs.FileInfo) bool {
	info, err := lock.Stat()
	return err == nil && os.SameFile(info, dir)
}

// removeLocked removes a directory and then ends its lock.
func removeLocked(dir string, lock *os.File) {
	os.RemoveAll(dir)
	lock.Close()
}

// isOurs reports whether a file belongs to this user.
func isOurs(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// othersCanReplace reports whether every user can rename and remove the files of others in a directory.
func othersCanReplace(dir fs.FileInfo) bool {
	return dir.Mode().Perm()&0o002 != 0 && dir.Mode()&fs.ModeSticky == 0
}
