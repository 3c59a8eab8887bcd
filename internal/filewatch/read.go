// Package filewatch reads files that another program may be writing, and watches them for changes.
//
// [Reader] returns the content of files only after they have been still for a while: readings some time apart find the same size,
// times and content. This is the main defence against half-written files, because a file that is cut short can be valid. It does
// not notice a writer that pauses for longer than the wait; the caller has to check the content for that. A program that renames a
// complete file over the old one is safe at any speed.
//
// [Watcher] notices changes by polling. Polling works on every file system, and through atomic renames, bind mounts and symbolic
// links, where notifications are lost or never sent. The package does not interpret what it reads.
package filewatch

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
	// LongQuiet is how long a file must be still unless the caller says that it is complete. With Interval it adds up to a second
	// and a half, so that an edit can take effect within two seconds.
	LongQuiet = time.Second

	// ShortQuiet is how long a file must be still if the caller says that it is complete.
	ShortQuiet = 200 * time.Millisecond

	// MaxSize is the size of the largest file that is read. A million patterns are about 30 MB.
	MaxSize = 64 << 20

	// quietSteps is the number of readings while a file must be still. With several, a change just after a reading does not
	// double the wait.
	quietSteps = 4

	// quietRounds bounds the wait, in multiples of the time that a file must be still.
	quietRounds = 8

	// coarseClock is the coarsest resolution of the times in file systems (FAT: two seconds).
	coarseClock = 2 * time.Second
)

// ErrBeingWritten is in the error of a file that did not become still.
var ErrBeingWritten = errors.New("the file is being written: it kept changing while it was read; reload when it is complete, or rename a complete file over it")

// Error is the reason why a file could not be read.
type Error struct {
	Path    string // may be empty, which is an error itself
	Problem string // what to do about it, with the text of Err; empty if Err is ErrBeingWritten
	Err     error  // may be nil
}

func (e *Error) Error() string {
	if e.Problem == "" {
		return fmt.Sprintf("%s: %v", e.Path, e.Err)
	}
	return fmt.Sprintf("%s: %s", e.Path, e.Problem)
}

func (e *Error) Unwrap() error { return e.Err }

// Reading is the result of reading one file.
type Reading struct {
	Path string
	Data []byte
	Err  error // an [*Error]; Data is nil then
	Pipe bool  // the file is a pipe, which is read only once

	stamp stamp // of the path, before the file was opened
	began time.Time
	torn  bool // the file changed while it was read
}

// ReadOnce reads the file at path without waiting for it to be still. It reads a pipe, as shells make for <(...), only if pipes is
// true, because reading consumes the content.
func ReadOnce(path string, pipes bool) Reading {
	r := Reading{Path: path, began: time.Now(), stamp: stampOf(path)}
	r.Data, r.Err = r.read(pipes)
	return r
}

func (r *Reading) read(pipes bool) ([]byte, error) {
	path := r.Path
	fail := func(problem string, err error) error {
		if err != nil {
			// Error has the path already.
			var perr *fs.PathError
			cause := err
			if errors.As(err, &perr) {
				cause = perr.Err
			}
			problem += ": " + cause.Error()
		}
		return &Error{Path: path, Problem: problem, Err: err}
	}

	if path == "" {
		return nil, fail("the path is empty", nil)
	}
	// A FIFO is opened once, and without O_NONBLOCK: that flag would let the writer open the FIFO and leave again, and the
	// reader would read nothing.
	flag := os.O_RDONLY | openNonblock
	if info, err := os.Stat(path); pipes && err == nil && info.Mode().Type() == fs.ModeNamedPipe {
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
	case kind == fs.ModeNamedPipe && pipes:
		r.Pipe = true
	case kind == fs.ModeNamedPipe:
		return nil, fail("is a pipe, which is read only at the start: put a regular file there", nil)
	default:
		return nil, fail("is not a regular file: name a file, or a pipe", nil)
	}

	tooLarge := fmt.Sprintf("is larger than %d MiB: is it the right file?", MaxSize>>20)
	if info.Size() > MaxSize {
		return nil, fail(tooLarge, nil)
	}
	data, whole, err := readAtMost(f, MaxSize)
	if err != nil {
		return nil, fail("cannot be read", err)
	}
	if !whole {
		return nil, fail(tooLarge, nil)
	}
	after, err := f.Stat()
	r.torn = err != nil || !r.stamp.equal(stamp{info: after, changed: changeTime(after)})
	return data, nil
}

// equal reports whether two readings found the same file with the same content, or the same error.
func (r *Reading) equal(other *Reading) bool {
	if r.Err != nil || other.Err != nil {
		return r.Err != nil && other.Err != nil && r.Err.Error() == other.Err.Error()
	}
	return r.Pipe && other.Pipe ||
		!r.torn && !other.torn && r.stamp.equal(other.stamp) && bytes.Equal(r.Data, other.Data)
}

// rested reports whether the file had been still for quiet before it was read, according to its own times. Only the change time
// counts, because no program can set it.
func (r *Reading) rested(quiet time.Duration) bool {
	if r.Pipe {
		return true
	}
	return r.Err == nil && !r.torn && !r.stamp.changed.IsZero() &&
		r.began.Sub(r.stamp.changed) >= quiet+coarseClock
}

// Reader reads several files at the same moment, so that their contents belong together.
type Reader struct {
	Paths []string
	Pipes map[string]Reading // pipes that were read before, by path; Read adds to them
	Start bool               // this is the first reading: pipes not in Pipes are read
}

// Read returns the readings of all files, in the order of Paths, once the files have been still for quiet. A file that cannot be
// read, or that does not become still within eight times quiet, has an error in its reading; the other readings are valid. If quiet
// is shorter than LongQuiet and some files cannot be read while the others are still, Read returns at once, because somebody
// waits for the error. The error of Read is the cause of ctx.
func (f *Reader) Read(ctx context.Context, quiet time.Duration) ([]Reading, error) {
	last := f.readAll()
	if !slices.ContainsFunc(last, func(r Reading) bool { return !r.rested(quiet) }) {
		return last, nil
	}
	if quiet < LongQuiet && slices.ContainsFunc(last, func(r Reading) bool { return r.Err != nil }) &&
		!slices.ContainsFunc(last, func(r Reading) bool { return r.Err == nil && !r.rested(quiet) }) {
		return last, nil
	}
	tick := time.NewTicker(max(quiet/quietSteps, 1))
	defer tick.Stop()
	still := make([]int, len(last)) // the number of readings since each file changed
	// A file that has just become still gets the time to remain so.
	for step := 0; step < quietRounds*quietSteps || !slices.Contains(still, 0); step++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return last, context.Cause(ctx)
		}
		next := f.readAll()
		for i := range next {
			still[i]++
			if !last[i].equal(&next[i]) {
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
			last[i].Data, last[i].Err = nil, &Error{Path: last[i].Path, Err: ErrBeingWritten}
		}
	}
	return last, nil
}

// readAll reads every file once.
func (f *Reader) readAll() []Reading {
	readings := make([]Reading, len(f.Paths))
	for i, path := range f.Paths {
		r, ok := f.Pipes[path]
		if !ok {
			r = ReadOnce(path, f.Start)
		}
		if r.Pipe {
			if f.Pipes == nil {
				f.Pipes = make(map[string]Reading)
			}
			f.Pipes[path] = r
		}
		readings[i] = r
	}
	return readings
}

// readAtMost reads r to its end, and reports whether the end came within limit bytes. The size that Stat returns is not reliable
// for pipes, devices, and files that grow.
func readAtMost(r io.Reader, limit int64) (data []byte, whole bool, err error) {
	data, err = io.ReadAll(io.LimitReader(r, limit+1))
	return data, int64(len(data)) <= limit, err
}
