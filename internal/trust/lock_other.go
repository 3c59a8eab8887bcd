//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package trust

import (
	"io/fs"
	"os"
)

func lockIsOf(*os.File, fs.FileInfo) bool { return false }

func removeLocked(_ string, lock *os.File) { lock.Close() }

func isOurs(fs.FileInfo) bool { return false }

func othersCanReplace(fs.FileInfo) bool { return false }
