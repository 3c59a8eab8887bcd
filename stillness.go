// Reading configuration files that may be in the middle of being written. A
// file counts only once it has been still: two looks, some time apart, find the
// same file with the same size, times and content.
//
// Stillness is the main defence against half-written files, because a file
// that is cut short can be valid TOML and lack nothing but its denylist. A
// writer that pauses for longer than the wait is not noticed by it; checkWhole
// then catches what no edit leaves behind. Renaming a complete file over the
// old one is safe at any speed.

package networkproxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	// watchQuiet is how long a file that changed by itself must be still. With
	// watchInterval it keeps the promise that an edit takes effect within two
	// seconds.
	watchQuiet = time.Second

	// askedQuiet is the same where somebody says that the file is complete: at
	// the start and for a reload that was asked for.
	askedQuiet = 200 * time.Millisecond

	// quietSteps is how many looks make up the time that a file must be still.
	// Several, so that a change just behind a look does not double the wait.
	quietSteps = 4

	// quietRounds bounds the wait, in multiples of the time that a file must be
	// still: one that does not come to rest within it is being written.
	quietRounds = 8

	// coarseClock is the coarsest step of the times that file systems keep
	// (FAT: two seconds).
	coarseClock = 2 * time.Second
)

// maxConfigSize bounds a configuration file. A million patterns are about
// 30 MB.
const maxConfigSize = 64 << 20

// fileReading is what one look at a configuration file found.
type fileReading struct {
	path  string
	stamp fileStamp // of the path, before it was opened
	data  []byte
	err   error     // a *ConfigError; data is nil then
	began time.Time // when the look began
	pipe  bool      // read at the start, and never again
	torn  bool      // the file changed while it was read
}

// lookAt reads the file at path. A pipe, as shells make for <(...), is read
// only at the start, because what it held is gone afterwards.
func lookAt(path string, start bool) fileReading {
	r := fileReading{path: path, began: time.Now(), stamp: stampFiles([]string{path})[0]}
	r.data, r.err = r.read(start)
	return r
}

func (r *fileReading) read(start bool) ([]byte, error) {
	path := r.path
	fail := func(problem string, err error) error {
		if err != nil {
			// The path is told as the origin already.
			var perr *fs.PathError
			cause := err
			if errors.As(err, &perr) {
				cause = perr.Err
			}
			problem += ": " + cause.Error()
		}
		return &ConfigError{Position: Position{File: path}, Problem: problem, Err: err}
	}

	if path == "" {
		return nil, &ConfigError{Problem: "the path of a configuration file is empty"}
	}
	// A FIFO is opened once and with blocking: an open without it would take the
	// place of the reader, let the writer come and go, and read nothing.
	flag := os.O_RDONLY | openNonblock
	if info, err := os.Stat(path); start && err == nil && info.Mode().Type() == fs.ModeNamedPipe {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(path, flag, 0)
	if err != nil {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, fail("check the path, or create the file", err)
		case errors.Is(err, fs.ErrPermission):
			return nil, fail("give this user permission to read it", err)
		}
		return nil, fail("cannot be read", err)
	}
	defer f.Close()

	info, err := f.Stat()
	if err != nil {
		return nil, fail("cannot be read", err)
	}
	switch kind := info.Mode().Type(); {
	case kind == 0:
	case info.IsDir():
		return nil, fail("is a directory: name the file in it", nil)
	case kind == fs.ModeNamedPipe && start:
		r.pipe = true
	case kind == fs.ModeNamedPipe:
		return nil, fail("is a pipe, which is read only at the start: put a regular file there", nil)
	default:
		return nil, fail("is not a regular file: name a file, or a pipe", nil)
	}

	tooLarge := fmt.Sprintf("is larger than %d MiB, which no configuration is: is it the right file?", maxConfigSize>>20)
	if info.Size() > maxConfigSize {
		return nil, fail(tooLarge, nil)
	}
	data, whole, err := readAtMost(f, maxConfigSize)
	if err != nil {
		return nil, fail("cannot be read", err)
	}
	if !whole {
		return nil, fail(tooLarge, nil)
	}
	after, err := f.Stat()
	r.torn = err != nil || !r.stamp.same(fileStamp{info: after, changed: changeTime(after)})
	return data, nil
}

// same reports whether two looks found the same.
func (r *fileReading) same(other *fileReading) bool {
	if r.err != nil || other.err != nil {
		return r.err != nil && other.err != nil && r.err.Error() == other.err.Error()
	}
	return r.pipe && other.pipe ||
		!r.torn && !other.torn && r.stamp.same(other.stamp) && bytes.Equal(r.data, other.data)
}

// rested reports whether the file had been still for quiet when it was read,
// by its own times. Only the change time counts, which no program can set.
func (r *fileReading) rested(quiet time.Duration) bool {
	if r.pipe {
		return true
	}
	return r.err == nil && !r.torn && !r.stamp.changed.IsZero() &&
		r.began.Sub(r.stamp.changed) >= quiet+coarseClock
}

// fileReader reads configuration files, all of them together, so that no
// layer is older than another.
type fileReader struct {
	paths []string
	kept  map[string]fileReading // pipes, as they were read at the start
	start bool
}

func (f *fileReader) look() []fileReading {
	readings := make([]fileReading, len(f.paths))
	for i, path := range f.paths {
		r, ok := f.kept[path]
		if !ok {
			r = lookAt(path, f.start)
		}
		if r.pipe {
			if f.kept == nil {
				f.kept = make(map[string]fileReading)
			}
			f.kept[path] = r
		}
		readings[i] = r
	}
	return readings
}

// read returns readings of all files after they have been still for quiet. A
// file that does not become still in a bounded time, or that cannot be read at
// all, is an error of its reading; the others count.
func (f *fileReader) read(ctx context.Context, quiet time.Duration) ([]fileReading, error) {
	last := f.look()
	if !slices.ContainsFunc(last, func(r fileReading) bool { return !r.rested(quiet) }) {
		return last, nil
	}
	if quiet < watchQuiet && slices.ContainsFunc(last, func(r fileReading) bool { return r.err != nil }) &&
		!slices.ContainsFunc(last, func(r fileReading) bool { return r.err == nil && !r.rested(quiet) }) {
		// Whoever asked is told at once. An error puts nothing in force.
		return last, nil
	}
	tick := time.NewTicker(max(quiet/quietSteps, 1))
	defer tick.Stop()
	still := make([]int, len(last)) // looks since each file changed
	// A file that has just come to rest gets the time to stay so.
	for step := 0; step < quietRounds*quietSteps || !slices.Contains(still, 0); step++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
		next := f.look()
		for i := range next {
			still[i]++
			if !last[i].same(&next[i]) {
				still[i] = 0
			}
		}
		last = next
		if slices.Min(still) >= quietSteps {
			return last, nil
		}
	}
	for i := range last {
		if still[i] < quietSteps {
			last[i].data, last[i].err = nil, &ConfigError{Position: Position{File: last[i].path}, Err: errBeingWritten}
		}
	}
	return last, nil
}

// errBeingWritten says that a file does not come to rest.
var errBeingWritten = errors.New("the file is being written: it kept changing while it was read; reload when it is complete, or rename a complete file over it")

// readAtMost reads r to its end, if that comes within limit bytes. A pipe, a
// device and a file that grows say nothing true of their size beforehand.
func readAtMost(r io.Reader, limit int64) (data []byte, whole bool, err error) {
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	return data, int64(len(data)) <= limit, err
}
