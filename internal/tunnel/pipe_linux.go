// The pipe that splice(2) needs between two sockets.

package tunnel

import "syscall"

const (
	// pipeSize is the largest that an ordinary user may ask for, and halves the
	// calls that a fast stream takes. All of a user's pipes share an allowance,
	// of which 64 such pipes use up the default; then smallPipe is asked for.
	pipeSize      = 1 << 20
	smallPipeSize = 256 << 10

	// spliceMost is the most one call moves, and no more than pipeSize: a pipe
	// counts fragments, not bytes, and may take more. On loopback, where a segment
	// holds 65,463 bytes (a few more over IPv4), it fills 16 of them, and none is
	// left that holds little.
	maxSplice = 16 * 65463

	spliceNonblock = 2 // SPLICE_F_NONBLOCK
)

// pipe is a pipe in non-blocking mode. The zero value is none: a pipe made here
// never has the same descriptor twice.
type pipe struct{ r, w int }

// newPipe makes a pipe of pipeSize, or of smallPipe, or fails: a smaller one
// costs more than copying.
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

// fill moves what socket has into p, which is empty. 0 means the stream's end.
func (p pipe) fill(socket int) (int, error) { return splice(socket, p.w, maxSplice) }

// drain moves up to n bytes from p, which holds them, to socket.
func (p pipe) drain(socket, n int) (int, error) { return splice(p.r, socket, n) }

// splice is splice(2) as what it is: a call that works, some tens of microseconds
// for a megabyte, and never blocks. If it were announced as one that may block,
// as syscall.Splice does, the scheduler would have another thread take its place.
func splice(from, to, most int) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), spliceNonblock)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
