package capture

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"example.com/networkproxy/internal/sniff"
)

// sniffer looks at the first bytes of a connection without consuming them.
type sniffer struct {
	buf    [sniff.MaxBytes]byte
	kind   sniff.Kind
	failed error
}

// peek looks at the bytes that have arrived. It reports whether their kind is decided
// or the connection has failed.
func (s *sniffer) peek(fd uintptr) (done bool) {
	for {
		n, _, err := syscall.Recvfrom(int(fd), s.buf[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			s.failed = os.NewSyscallError("recv", err)
			return true
		case n == 0: // the client has ended its stream without a byte
			s.kind = sniff.Opaque
			return true
		}
		s.kind = sniff.Classify(s.buf[:n])
		return s.kind != sniff.Undecided // the next byte wakes the poller again
	}
}

// peekKind returns the kind of a client's connection. It waits until that is decided or
// the read deadline of c passes; the kind is then silent or undecided. The error is
// that of a broken or closed connection.
func peekKind(c *net.TCPConn) (sniff.Kind, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return sniff.Silent, err
	}
	var s sniffer
	if err = raw.Read(s.peek); errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return s.kind, errors.Join(err, s.failed)
}

// sniffFirst is peekKind that does not wait for more than the first byte.
func sniffFirst(c *net.TCPConn) (sniff.Kind, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return sniff.Silent, err
	}
	var s sniffer
	if err = raw.Read(func(fd uintptr) bool { return s.peek(fd) || s.kind != sniff.Silent }); errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return s.kind, errors.Join(err, s.failed)
}

// sniffFor is peekKind with a limit on the wait.
func sniffFor(c *net.TCPConn, limit time.Duration) (sniff.Kind, error) {
	c.SetReadDeadline(time.Now().Add(limit))
	defer c.SetReadDeadline(time.Time{})
	return peekKind(c)
}

// sniffNow is peekKind without a wait.
func sniffNow(c *net.TCPConn) (sniff.Kind, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return sniff.Silent, err
	}
	var s sniffer
	err = raw.Control(func(fd uintptr) { s.peek(fd) })
	return s.kind, errors.Join(err, s.failed)
}
