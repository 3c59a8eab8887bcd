// Noticing that a configuration file has changed, by polling: it works on
// every file system, through atomic renames, bind mounts and symbolic links,
// where notifications are lost or never sent.

package networkproxy

import (
	"context"
	"io/fs"
	"os"
	"slices"
	"time"
)

// watchInterval leaves half of the two seconds within which an edit takes
// effect to reading and compiling it.
const watchInterval = time.Second

// fileStamp identifies one state of a file; the zero value, a missing one.
type fileStamp struct {
	info    fs.FileInfo
	changed time.Time // of the inode: an edit that keeps size and mtime shows here, where the system tells it
}

// same reports whether nothing has happened to the file. An older
// modification time is a change like any other: a restored backup has one.
func (s fileStamp) same(t fileStamp) bool {
	if s.info == nil || t.info == nil {
		return s.info == nil && t.info == nil
	}
	return os.SameFile(s.info, t.info) &&
		s.info.Size() == t.info.Size() &&
		s.info.ModTime().Equal(t.info.ModTime()) &&
		s.changed.Equal(t.changed)
}

// stampFiles looks at every file. What cannot be looked at counts as missing.
func stampFiles(paths []string) []fileStamp {
	stamps := make([]fileStamp, len(paths))
	for i, path := range paths {
		if info, err := os.Stat(path); err == nil {
			stamps[i] = fileStamp{info: info, changed: changeTime(info)}
		}
	}
	return stamps
}

// watched are the files whose change means a reload.
func (s *settings) watched() []string {
	paths := slices.Clone(s.files)
	if s.requirements != "" {
		paths = append(paths, s.requirements)
	}
	return paths
}

// watch reloads whenever a file changes, until ctx ends. seen is the state
// before the configuration in force was read.
func (h *Handle) watch(ctx context.Context, paths []string, seen []fileStamp) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := stampFiles(paths)
		if slices.EqualFunc(now, seen, fileStamp.same) {
			continue
		}
		// Taken before the read: an edit during it is seen at the next tick.
		seen = now
		h.reload(ctx) // logs what is wrong, and /health tells it
	}
}
