//go:build unix

package trust

import (
	"io/fs"
	"syscall"
)

// identity returns the number of a file, because a file that replaces another may have its size and time.
func identity(info fs.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(stat.Ino)
	}
	return 0
}
