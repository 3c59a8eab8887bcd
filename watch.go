// Noticing that a configuration file has changed, by polling: it works on
// every file system, through atomic renames, bind mounts and symbolic links,
// where notifications are lost or never sent.

package networkproxy

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

// watchInterval is how often the files are looked at. An edit takes effect
// within two seconds: watchInterval, then watchQuiet, and half a second is left
// to reading and compiling.
const watchInterval = 500 * time.Millisecond

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

// watched returns the files whose change means a reload: those of the
// configuration, and last that of the managed limits.
func (s *settings) watched() []string {
	paths := slices.Clone(s.files)
	if s.requirements != "" {
		paths = append(paths, s.requirements)
	}
	return paths
}

// watcher reloads whenever a file changes.
type watcher struct {
	h     *Handle
	paths []string    // without pipes, which never change
	seen  []fileStamp // the state of the files that was acted on
}

// newWatcher returns a watcher that starts from the files of the configuration
// in force.
func newWatcher(h *Handle) *watcher {
	w := &watcher{h: h}
	for _, r := range h.files.readings {
		if !r.pipe {
			w.paths = append(w.paths, r.path)
		}
	}
	w.seen = w.stampsOf(h.files.readings)
	return w
}

// stampsOf returns the stamps of readings, in the order of w.paths.
func (w *watcher) stampsOf(readings []fileReading) []fileStamp {
	var stamps []fileStamp
	for _, r := range readings {
		if !r.pipe {
			stamps = append(stamps, r.stamp)
		}
	}
	return stamps
}

// run watches until ctx ends.
func (w *watcher) run(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.look(ctx)
	}
}

// look reloads if a file has changed. The reload waits until the files are
// still; the state that it then read is what the next change is told by.
func (w *watcher) look(ctx context.Context) {
	now := stampFiles(w.paths)
	if slices.EqualFunc(now, w.seen, fileStamp.same) {
		return
	}
	w.seen = now
	r, err := w.h.startReload(ctx, watchQuiet)
	if err != nil {
		return
	}
	// It logs what is wrong, and /health tells it. A configuration source that
	// does not return keeps nobody from noticing the next change.
	r.wait(r.calling)
	if readings := r.readings.Load(); readings != nil {
		w.seen = w.stampsOf(*readings)
	}
	select {
	case <-r.decided:
		if errors.Is(r.err, errBeingWritten) {
			w.seen = nil // the last look was not acted on
		}
	default:
	}
}
