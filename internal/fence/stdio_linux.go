//go:build linux && (amd64 || arm64)

// This file keeps sockets of the host from the command. A socket belongs to the network namespace
// in which it was made: a command that has one as its standard input could connect it anew.

package fence

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// streams copies between the standard streams of a command that are sockets and the pipes that
// replace them.
type streams struct {
	command []*os.File // ends of the pipes for the command
	pumps   []*pump
	tasks   sync.WaitGroup
}

// replaceSockets replaces the standard streams of cmd that are sockets. It refuses sockets that
// a pipe cannot stand for.
func replaceSockets(cmd *exec.Cmd) (*streams, error) {
	s := new(streams)
	ok := false
	defer func() {
		if !ok {
			s.close()
		}
	}()
	for _, f := range cmd.ExtraFiles {
		if err := checkExtraFile(f); err != nil {
			return nil, err
		}
	}
	stdin, err := socketOf(cmd.Stdin, "standard input")
	if err != nil {
		return nil, err
	}
	stdout, err := socketOf(cmd.Stdout, "standard output")
	if err != nil {
		return nil, err
	}
	stderr, err := socketOf(cmd.Stderr, "standard error")
	if err != nil {
		return nil, err
	}
	if stdin != nil {
		end, err := s.replace(stdin, true)
		if err != nil {
			return nil, err
		}
		cmd.Stdin = end
	}
	if stdout != nil {
		end, err := s.replace(stdout, false)
		if err != nil {
			return nil, err
		}
		cmd.Stdout = end
	}
	switch {
	case stderr == nil:
	case stdout != nil && os.SameFile(stat(stdout), stat(stderr)):
		cmd.Stderr = cmd.Stdout // keeps the order of the output
	default:
		end, err := s.replace(stderr, false)
		if err != nil {
			return nil, err
		}
		cmd.Stderr = end
	}
	ok = true
	return s, nil
}

func stat(f *os.File) os.FileInfo {
	info, err := f.Stat()
	if err != nil {
		return nil
	}
	return info
}

// socketOf returns the file of a standard stream if it is a stream socket, and nil if it is not
// a socket. Readers and writers that are not files get a pipe from package os/exec.
func socketOf(stream any, name string) (*os.File, error) {
	f, ok := stream.(*os.File)
	if !ok || f == nil {
		return nil, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("fence: %s: %w", name, err)
	}
	if info.Mode()&os.ModeSocket == 0 {
		return nil, nil
	}
	kind, err := socketOption(f, syscall.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("fence: %s: %w", name, err)
	}
	if kind != syscall.SOCK_STREAM {
		return nil, fmt.Errorf("fence: %s is a socket that is not a stream; use a file, a pipe, a terminal or a stream socket", name)
	}
	return f, nil
}

// checkExtraFile refuses sockets that are more than a connection to another process.
func checkExtraFile(f *os.File) error {
	if f == nil {
		return nil
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return err
	}
	family, err := socketOption(f, soDomain)
	if err != nil {
		return err
	}
	kind, err := socketOption(f, syscall.SO_TYPE)
	if err != nil {
		return err
	}
	if family == syscall.AF_UNIX && kind != syscall.SOCK_DGRAM && connected(f) {
		return nil
	}
	return fmt.Errorf("fence: cmd.ExtraFiles has the socket %s, which leads out of the room; only connected unix sockets are allowed", f.Name())
}

func socketOption(f *os.File, option int) (value int, err error) {
	controlErr := control(f, func(fd int) { value, err = syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, option) })
	if controlErr != nil {
		return 0, controlErr
	}
	return value, err
}

func connected(f *os.File) bool {
	err := syscall.ENOTCONN
	control(f, func(fd int) {
		if _, e := syscall.Getpeername(fd); e == nil {
			err = 0
		}
	})
	return err == 0
}

// control calls f with a descriptor, without changing its mode as File.Fd does.
func control(file *os.File, f func(fd int)) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// replace makes a pipe for a stream and plans the copying. It returns the end for the command.
func (s *streams) replace(socket *os.File, input bool) (*os.File, error) {
	var ends, stop [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return nil, err
	}
	if err := syscall.Pipe2(stop[:], syscall.O_CLOEXEC); err != nil {
		syscall.Close(ends[0])
		syscall.Close(ends[1])
		return nil, err
	}
	p := &pump{input: input, pipe: ends[0], stop: stop}
	command := ends[1]
	if input {
		p.pipe, command = ends[1], ends[0]
	}
	end := os.NewFile(uintptr(command), "pipe for "+socket.Name())
	s.pumps = append(s.pumps, p)
	s.command = append(s.command, end)
	p.socket = -1
	if err := syscall.SetNonblock(p.pipe, true); err != nil {
		return nil, err
	}
	var errno syscall.Errno
	// The copy stays valid if the caller closes its file.
	err := control(socket, func(fd int) { p.socket, errno = fcntl(fd, syscall.F_DUPFD_CLOEXEC, 3) })
	if err == nil && errno != 0 {
		p.socket, err = -1, errno
	}
	return end, err
}

// start starts to copy, when the command has its ends of the pipes.
func (s *streams) start() {
	s.closeCommand()
	for _, p := range s.pumps {
		s.tasks.Go(p.run)
	}
}

func (s *streams) closeCommand() {
	for _, f := range s.command {
		f.Close()
	}
	s.command = nil
}

// close ends the copying, after the output that is in the pipes.
func (s *streams) close() {
	s.closeCommand()
	for _, p := range s.pumps {
		syscall.Close(p.stop[1])
	}
	s.tasks.Wait()
	for _, p := range s.pumps {
		p.closePipe()
		syscall.Close(p.stop[0])
		if p.socket >= 0 {
			syscall.Close(p.socket)
		}
	}
}

// pump copies between a socket and a pipe. The socket belongs to others, too, so that its mode
// stays as it is: every call says that it must not block.
type pump struct {
	input        bool // from the socket to the pipe; else from the pipe to the socket
	socket, pipe int
	stop         [2]int // a pipe: the pump ends when its write end is closed
}

// drainTime is how long the last output waits for room in a socket, in milliseconds.
const drainTime = 2000

func (p *pump) closePipe() {
	if p.pipe >= 0 {
		syscall.Close(p.pipe)
		p.pipe = -1
	}
}

func (p *pump) run() {
	defer p.closePipe() // the command sees the end of its input, or that nobody reads its output
	if p.input {
		p.copyInput()
	} else {
		p.copyOutput()
	}
}

// copyInput copies until the end of the input, of the command, or of the room.
func (p *pump) copyInput() {
	b := make([]byte, 16<<10)
	for {
		ready := p.wait(p.socket, pollIn, p.pipe)
		if !ready {
			return
		}
		n, _, err := syscall.Recvfrom(p.socket, b, syscall.MSG_DONTWAIT)
		if err == syscall.EAGAIN || err == syscall.EINTR {
			continue // another process has read it
		}
		if err != nil || n == 0 {
			return
		}
		for rest := b[:n]; len(rest) > 0; {
			if !p.wait(p.pipe, pollOut, -1) {
				return
			}
			n, err := syscall.Write(p.pipe, rest)
			if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
				return
			}
			rest = rest[max(n, 0):]
		}
	}
}

// copyOutput copies until the end of the output, or, when the room is closed, of what has been
// written.
func (p *pump) copyOutput() {
	b := make([]byte, 16<<10)
	for {
		open := p.wait(p.pipe, pollIn, -1)
		n, err := syscall.Read(p.pipe, b)
		switch {
		case err == syscall.EINTR, err == syscall.EAGAIN && open:
			continue
		case err != nil || n == 0:
			return
		}
		for rest := b[:n]; len(rest) > 0; {
			limit := drainTime
			if p.wait(p.socket, pollOut, -1) {
				limit = -1
			}
			if events, err := poll(p.socket, pollOut, limit); err != nil || events == 0 {
				return
			}
			n, err := syscall.SendmsgN(p.socket, rest, nil, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
			if err != nil && err != syscall.EAGAIN && err != syscall.EINTR {
				return
			}
			rest = rest[max(n, 0):]
		}
	}
}

// wait waits for an event of a descriptor. It returns false if the pump must end, or if there is
// an error at the other descriptor, which may be -1.
func (p *pump) wait(fd int, events int16, other int) bool {
	for {
		set := []pollFD{{fd: int32(fd), events: events}, {fd: int32(p.stop[0])}, {fd: int32(other)}}
		if err := pollAll(set, -1); err != nil {
			return false
		}
		switch {
		case set[1].revents != 0 || set[2].revents != 0:
			return false
		case set[0].revents != 0:
			return true
		}
	}
}
