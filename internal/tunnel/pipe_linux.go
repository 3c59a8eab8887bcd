// The pipe between two sockets that splice(2) needs.

package tunnel

import "syscall"

const (
	// pipeSize is the largest size for an unprivileged user. It halves the
	// number of calls for a fast stream. All pipes of a user share an
	// allowance; 64 pipes of this size use up the default. After that, pipes
	// have smallPipeSize.
	pipeSize      = 1 << 20
	smallPipeSize = 256 << 10

	spliceNonblock = 2 // SPLICE_F_NONBLOCK
)

// pipe is a non-blocking pipe. The zero value means no pipe: a pipe made by
// newPipe never has the same descriptor twice.
type pipe struct{ r, w int }

// newPipe makes a pipe of pipeSize or smallPipeSize. Otherwise it fails,
// because a smaller pipe is slower than copying.
func newPipe() (pipe, error) {
	var fds [2]int
	if err := syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		return pipe{}, err
	}
	p := pipe{fds[0], fds[1]}
	err := p.resize(pipeSize)
	if err != nil {
		err = p.resize(smallPipeSize)
	}
	if err != nil {
		p.close()
		return pipe{}, err
	}
	return p, nil
}

func (p pipe) resize(size uintptr) error {
	if _, _, e := syscall.Syscall(syscall.SYS_FCNTL, uintptr(p.w), syscall.F_SETPIPE_SZ, size); e != 0 {
		return e
	}
	return nil
}

func (p pipe) open() bool { return p != pipe{} }

func (p pipe) close() {
	syscall.Close(p.r)
	syscall.Close(p.w)
}

// fill moves bytes from socket into p, which is empty. 0 means the end of the
// stream.
func (p pipe) fill(socket int) (int, error) { return splice(socket, p.w, pipeSize) }

// drain moves up to n bytes from p, which holds them, to socket.
func (p pipe) drain(socket, n int) (int, error) { return splice(p.r, socket, n) }

// splice calls splice(2) as a raw system call. It never blocks, and takes some
// tens of microseconds for a megabyte. syscall.Splice announces a call that may
// block, so the scheduler would hand the processor to another thread.
func splice(from, to, most int) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), spliceNonblock)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
