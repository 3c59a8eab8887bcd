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
	// spliceAfter is how many bytes a stream copies before it is worth a pipe.
	spliceAfter = 64 << 10

	// spliceTick is how often a stream that splices is looked at: one that moved
	// less than spliceAfter since the last look gives its pipe back. Idle tunnels
	// must hold none: an ordinary user's pipes share 64 MiB (pipe(7),
	// pipe-user-pages-soft), and past that new ones are too small to be of use.
	pipeCheckInterval = 100 * time.Millisecond

	// spliceRetry is how many bytes a stream copies after it was refused a pipe.
	spliceRetry = 1 << 20
)

// sockets copies from one stream socket to another.
//
// It reads and writes inside the callbacks of syscall.RawConn, without blocking,
// and leaves the waiting to the runtime's poller. What has been read is in buf
// or in pipe between calls, so that a wait that is interrupted, by a deadline or
// otherwise, neither loses nor repeats a byte.
type socketCopier struct {
	dir *direction

	buf      *buffer // nil while there is nothing in it
	off, end int     // buf[off:end] is still to be written

	pipe         pipe  // open while the stream splices
	inPipe       int   // bytes in it, still to be written
	spliced      int64 // bytes since the last tick
	copied       int64 // bytes since the stream last gave its pipe back
	unspliceable bool  // these sockets cannot be spliced

	// What the callbacks found.
	drained  bool // there is no more to read for now
	eof      bool // there is no more to read ever
	corked   bool // what was written last waits for the end of the stream
	readErr  error
	writeErr error
}

// rawStream gives access to a stream socket of the net package. It returns nil
// for every other connection.
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
	push := func(fd uintptr) { s.write(int(fd)) }
	move := func(fd uintptr) bool { return s.move(int(fd), push) }
	for {
		if err := s.dir.rawSrc.Read(move); err != nil {
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

// move is the callback that moves what there is. It reports false, and holds no
// buffer, when that is done and there is no more for now.
//
// What cannot be written at once is left to the caller: to wait here, inside a
// read, would keep src from being closed. So is the error of a push to what is
// closed, and the end of a stream, with more room on the stack.
func (s *socketCopier) move(fd int, push func(fd uintptr)) bool {
	s.read(fd)
	if s.off < s.end {
		s.dir.observe(s.buf[s.off:s.end])
	}
	if s.pending() && !s.eof {
		s.dir.rawDst.Control(push)
	}
	if !s.drained || s.pending() || s.writeErr != nil || s.shouldSplice() {
		return true
	}
	s.releaseBuffer()
	return false
}

// holds reports whether something is still to be written.
func (s *socketCopier) pending() bool { return s.inPipe > 0 || s.off < s.end }

// large reports whether the stream is to be spliced from here on. Nobody sees
// bytes that are spliced.
func (s *socketCopier) shouldSplice() bool {
	return s.copied >= spliceAfter && !s.unspliceable && !s.pipe.open() && s.dir.observer == nil
}

// read reads what there is into the pipe or the buffer.
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
	// A second look tells whether to wait for more or to end, and that the end
	// can go out with the last bytes.
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

// found takes note of the result of a read.
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

// write writes what read has read. It reports false while some of it is left.
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

// writeLast writes the last bytes of a stream. They wait for its end (MSG_MORE),
// to share a segment with it: see ended.
//
//go:noinline
func (s *socketCopier) writeLast(fd int) (int, error) {
	s.corked = true
	return syscall.SendmsgN(fd, s.buf[s.off:s.end], nil, nil, syscall.MSG_MORE|syscall.MSG_NOSIGNAL)
}

// uncork has the kernel send what waits for the end of the stream.
func (d *direction) uncork() {
	if c, ok := d.dst.(*net.TCPConn); ok && d.copier.corked {
		c.SetNoDelay(true) // which it is; but the kernel sends all that there is when it is set
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

// tick keeps the pipe of a stream that is busy, and takes that of one that is not.
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

// opError dresses the error of a system call as the net package does.
func opError(op string, c net.Conn, err error) error {
	local := c.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: c.RemoteAddr(), Err: os.NewSyscallError(op, err)}
}

// unspliceable reports whether err says that the kernel cannot, or a sandbox
// does not let us, splice from this socket. No byte has moved then.
func isUnspliceable(err error) bool {
	switch err {
	case syscall.EINVAL, syscall.ENOSYS, syscall.EOPNOTSUPP, syscall.EPERM:
		return true
	}
	return false
}

// retry repeats a system call that a signal interrupts.
func retryEINTR(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != syscall.EINTR {
			return n, err
		}
	}
}

// waitBroken waits, after the stream of src has ended, until src is closed or
// breaks, and returns why. It is for stream sockets.
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

// readSocket is readWaiting for a stream socket. It takes the buffer when there
// is something to read.
func (d *direction) waitAndReadSocket() (buf *buffer, n int, err error) {
	var failed error // of the system call
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
	case err != nil: // closed, or a deadline
		return buf, 0, err
	case failed != nil:
		return buf, 0, opError("read", d.src, failed)
	case n == 0:
		return buf, 0, io.EOF
	}
	return buf, n, nil
}
