// Noticing that a file has changed.

package filewatch

import (
	"context"
	"io/fs"
	"os"
	"slices"
	"time"
)

// Interval is the time between two checks of the files by a [Watcher].
const Interval = 500 * time.Millisecond

// stamp identifies one state of a file. The zero value stands for a missing file.
type stamp struct {
	info    fs.FileInfo
	changed time.Time // of the inode; zero on some systems. It differs after an edit that keeps size and modification time
}

// stampOf returns the stamp of the file at path. A file that cannot be examined counts as missing.
func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info: info, changed: changeTime(info)}
}

// equal reports whether two stamps are of the same state of a file. An older modification time is a change as well, because a
// restored backup has one.
func (s stamp) equal(t stamp) bool {
	if s.info == nil || t.info == nil {
		return s.info == nil && t.info == nil
	}
	return os.SameFile(s.info, t.info) &&
		s.info.Size() == t.info.Size() &&
		s.info.ModTime().Equal(t.info.ModTime()) &&
		s.changed.Equal(t.changed)
}

// Watcher polls files for changes.
type Watcher struct {
	paths []string // without pipes, which never change
	seen  []stamp  // the last state that was acted on
}

// NewWatcher returns a watcher that looks for changes since readings.
func NewWatcher(readings []Reading) *Watcher {
	w := &Watcher{seen: stampsOf(readings)}
	for _, r := range readings {
		if !r.Pipe {
			w.paths = append(w.paths, r.Path)
		}
	}
	return w
}

// stampsOf returns the stamps of readings, without pipes.
func stampsOf(readings []Reading) []stamp {
	var stamps []stamp
	for _, r := range readings {
		if !r.Pipe {
			stamps = append(stamps, r.stamp)
		}
	}
	return stamps
}

// Empty reports whether there is no file to watch.
func (w *Watcher) Empty() bool { return len(w.paths) == 0 }

// Run calls changed whenever a file has changed, until ctx ends. Changed returns the readings that it acted on, of the files that
// the watcher was made for, or nil if it read none; Run looks for changes since these. If again is true, Run calls changed again
// after Interval, because it could not act on what it read.
func (w *Watcher) Run(ctx context.Context, changed func(context.Context) (readings []Reading, again bool)) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := make([]stamp, len(w.paths))
		for i, path := range w.paths {
			now[i] = stampOf(path)
		}
		if slices.EqualFunc(now, w.seen, stamp.equal) {
			continue
		}
		w.seen = now
		readings, again := changed(ctx)
		if readings != nil {
			w.seen = stampsOf(readings)
		}
		if again {
			w.seen = nil
		}
	}
}
