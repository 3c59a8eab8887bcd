// Copying between sockets on Linux: no buffer while idle, a pooled buffer for
// small streams, splice for large ones.

package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// spliceAfter is how many bytes a stream copies before it gets a pipe.
	spliceAfter = 64 << 10

	// pipeCheckInterval is how often a spliced stream is checked. If it moved
	// less than spliceAfter since the last check, it loses its pipe. Idle
	// tunnels must not hold pipes, because all pipes of an unprivileged user
	// share 64 MiB (pipe(7), pipe-user-pages-soft). Beyond that, new pipes are
	// too small to be useful.
	pipeCheckInterval = 100 * time.Millisecond

	// spliceRetry is how many bytes a stream copies before it tries again after
	// it could not get a pipe.
	spliceRetry = 1 << 20
)

// socketCopier copies from one stream socket to another.
//
// It reads and writes without blocking, inside the callbacks of
// syscall.RawConn, and waits in the runtime's poller. Between calls, unwritten
// bytes stay in buf or pipe, so that an interrupted wait (by a deadline, for
// example) neither loses nor repeats a byte.
type socketCopier struct {
	dir *direction

	buf      *buffer // nil while empty
	off, end int     // buf[off:end] must still be written

	pipe         pipe  // open while the stream is spliced
	inPipe       int   // unwritten bytes in the pipe
	spliced      int64 // bytes since the last check
	copied       int64 // bytes since the stream last lost its pipe
	unspliceable bool  // these sockets cannot be spliced

	// Results of the callbacks.
	drained  bool // no more to read for now
	eof      bool // the stream has ended
	corked   bool // the last write waits for the end of the stream (MSG_MORE)
	readErr  error
	writeErr error
}

// rawStream returns the raw connection of a stream socket of package net, or
// nil for any other connection.
func rawStream(c net.Conn) syscall.RawConn {
	var sc syscall.Conn
	switch c := c.(type) {
	case *net.TCPConn:
		sc = c
	case *net.UnixConn:
		if c.LocalAddr().Network() != "unix" {
			return nil // messages, not a stream
		}
		sc = c
	default:
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (s *socketCopier) copy() (stopReason, error) {
	defer s.release()
	write := func(fd uintptr) bool { return s.write(int(fd)) }
	read := func(fd uintptr) bool { return s.readMore(int(fd)) }
	for {
		if err := s.dir.rawSrc.Read(read); err != nil {
			if s.pipe.open() && errors.Is(err, os.ErrDeadlineExceeded) {
				s.checkPipe()
				continue
			}
			return sourceFailed, err
		}
		if s.pending() && s.writeErr == nil {
			if err := s.dir.rawDst.Write(write); err != nil {
				return destinationFailed, err
			}
		}
		switch {
		case s.writeErr != nil:
			return destinationFailed, opError("write", s.dir.dst, s.writeErr)
		case s.readErr != nil:
			return sourceFailed, opError("read", s.dir.src, s.readErr)
		case s.eof:
			return atEnd, nil
		case s.shouldSplice():
			s.beginSplice()
		}
	}
}

// readMore is the callback that reads without blocking. It reports false, holding no
// buffer, if there is no more to read for now.
//
// The caller writes what was read, because a wait for dst inside a read would prevent
// src from being closed.
func (s *socketCopier) readMore(fd int) bool {
	s.read(fd)
	if s.off < s.end {
		s.dir.observe(s.buf[s.off:s.end])
	}
	if !s.drained || s.pending() {
		return true
	}
	s.releaseBuffer()
	return false
}

// pending reports whether bytes must still be written.
func (s *socketCopier) pending() bool { return s.inPipe > 0 || s.off < s.end }

// shouldSplice reports whether to splice the stream from here on. Spliced bytes
// cannot be observed.
func (s *socketCopier) shouldSplice() bool {
	return s.copied >= spliceAfter && !s.unspliceable && !s.pipe.open() && s.dir.observer == nil
}

// read reads the available bytes into the pipe or the buffer.
func (s *socketCopier) read(fd int) {
	s.drained = false
	if s.pipe.open() {
		n, err := retryEINTR(func() (int, error) { return s.pipe.fill(fd) })
		if s.noteRead(n, err); !isUnspliceable(err) {
			s.inPipe = max(n, 0)
			return
		}
		s.readErr, s.unspliceable = nil, true
		s.endSplice()
	}
	if s.buf == nil {
		s.buf = buffers.Get().(*buffer)
	}
	s.off, s.end = 0, 0
	// A second read tells whether to wait or to end, so that the end can go out
	// with the last bytes.
	for range 2 {
		n, err := retryEINTR(func() (int, error) { return syscall.Read(fd, s.buf[s.end:]) })
		if s.noteRead(n, err); n <= 0 {
			return
		}
		if s.end += n; s.end == len(s.buf) {
			return
		}
	}
}

// noteRead records the result of a read.
func (s *socketCopier) noteRead(n int, err error) {
	switch {
	case err == syscall.EAGAIN:
		s.drained = true
	case err != nil:
		s.readErr = err
	case n == 0:
		s.eof = true
	}
}

// write writes the bytes from read. It reports false while some of them are
// left.
func (s *socketCopier) write(fd int) bool {
	for s.pending() {
		var n int
		var err error
		switch {
		case s.inPipe > 0:
			n, err = s.pipe.drain(fd, s.inPipe)
		case s.eof:
			n, err = s.writeLast(fd)
		default:
			n, err = syscall.Write(fd, s.buf[s.off:s.end])
		}
		switch err {
		case nil:
			s.noteWritten(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			s.writeErr = err
			return true
		}
	}
	return true
}

func (s *socketCopier) noteWritten(n int) {
	if s.inPipe > 0 {
		s.inPipe -= n
		s.spliced += int64(n)
	} else {
		s.off += n
		s.copied += int64(n)
	}
	s.dir.progress(n)
}

// writeLast writes the last bytes of a stream. The kernel keeps them until the
// end of the stream follows (MSG_MORE), so that both share a segment: see
// sourceEnded.
//
//go:noinline
func (s *socketCopier) writeLast(fd int) (int, error) {
	s.corked = true
	return syscall.SendmsgN(fd, s.buf[s.off:s.end], nil, nil, syscall.MSG_MORE|syscall.MSG_NOSIGNAL)
}

// uncork makes the kernel send bytes that wait for the end of the stream.
func (d *direction) uncork() {
	if c, ok := d.dst.(*net.TCPConn); ok && d.copier.corked {
		c.SetNoDelay(true) // already set, but setting it again makes the kernel send what is queued
	}
}

func (s *socketCopier) beginSplice() {
	p, err := newPipe()
	if err != nil {
		s.copied = spliceAfter - spliceRetry
		return
	}
	s.releaseBuffer()
	s.pipe = p
	s.spliced = 0
	s.dir.src.SetReadDeadline(time.Now().Add(pipeCheckInterval))
}

// endSplice goes back to copying. The pipe is empty, or the stream has failed.
func (s *socketCopier) endSplice() {
	s.pipe.close()
	s.pipe = pipe{}
	s.inPipe = 0
	s.copied = 0
	s.dir.src.SetReadDeadline(time.Time{})
}

// checkPipe takes the pipe away from a stream that has become slow.
func (s *socketCopier) checkPipe() {
	if s.spliced < spliceAfter {
		s.endSplice()
		return
	}
	s.spliced = 0
	s.dir.src.SetReadDeadline(time.Now().Add(pipeCheckInterval))
}

func (s *socketCopier) releaseBuffer() {
	if s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
}

func (s *socketCopier) release() {
	s.releaseBuffer()
	if s.pipe.open() {
		s.endSplice()
	}
}

// opError wraps the error of a system call as package net does.
func opError(op string, c net.Conn, err error) error {
	local := c.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// isUnspliceable reports whether err means that the kernel cannot splice this
// socket or that a sandbox forbids it. No bytes have moved then.
func isUnspliceable(err error) bool {
	switch err {
	case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EPERM:
		return true
	}
	return false
}

// retryEINTR repeats a system call that a signal interrupts.
func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// waitBroken waits, after the stream of src has ended, until src is closed or
// breaks, and returns the error. src must be a stream socket.
func (d *direction) waitBroken() error {
	var broken error
	err := d.rawSrc.Read(func(fd uintptr) bool {
		if e, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ERROR); err == nil && e != 0 {
			broken = opError("read", d.src, syscall.Errno(e))
		}
		return broken != nil
	})
	if broken != nil {
		return broken
	}
	return err
}

// waitAndReadSocket is waitAndRead for a stream socket. It takes the buffer
// once there is something to read.
func (d *direction) waitAndReadSocket() (buf *buffer, n int, err error) {
	var failed error // from the system call
	err = d.rawSrc.Read(func(fd uintptr) bool {
		buf = buffers.Get().(*buffer)
		n, failed = retryEINTR(func() (int, error) { return syscall.Read(int(fd), buf[:]) })
		if failed == syscall.EAGAIN {
			buffers.Put(buf)
			buf = nil
		}
		return failed != syscall.EAGAIN
	})
	switch {
	case err != nil: // closed, or past a deadline
		return buf, 0, err
	case failed != nil:
		return buf, 0, opError("read", d.src, failed)
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}
