//go:build linux && (amd64 || arm64)

// This file runs system calls in a process of its own that shares the memory and the
// descriptors of this one. Only such a process can join a user namespace, because the
// kernel wants a single thread for that.
//
// The process executes no Go code. It is the loop in steps_linux_ARCH.s, which makes the
// system calls of a list and exits. It uses neither a stack nor Go memory: the list,
// the arguments and the results are in memory from mmap(2). So the usual dangers of a
// fork in a program with threads do not exist: no locks, allocations, stack growth,
// garbage collection or instrumentation. Signals are blocked in it.
//
// A process of the same namespaces and user could read the memory of this program through it. So
// scripts join the namespaces of a room only while the command has not run.

package fence

import (
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"unsafe"
)

// step is one system call. The assembly code depends on the layout.
type step struct {
	call     uintptr
	args     [6]uintptr
	from     uintptr // if not zero, args[0] is the value at this address: an earlier result
	result   uintptr // return value of the call
	optional uintptr // if not zero, the list goes on after an error
}

// notRun is the result of a step that has not run. It is no return value of a call.
const notRun = 1 << 62

// script is a list of steps, with memory for their arguments. Add the steps, call run, then
// read the results. It must be closed.
type script struct {
	memory []byte // from mmap(2)
	used   int
	steps  []step // at the start of memory
	names  []string
}

// scriptSteps is the largest number of steps of a script, and scriptMemory the size of its
// memory in bytes.
const (
	scriptSteps  = 1024
	scriptMemory = 512 << 10
)

func newScript() (*script, error) {
	memory, err := syscall.Mmap(-1, 0, scriptMemory, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED|syscall.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map memory for a script: %w", err)
	}
	return &script{
		memory: memory,
		used:   scriptSteps * int(unsafe.Sizeof(step{})),
		steps:  unsafe.Slice((*step)(unsafe.Pointer(&memory[0])), scriptSteps)[:0],
	}, nil
}

// close frees the memory.
func (s *script) close() { syscall.Munmap(s.memory) }

// alloc returns zeroed memory of the script for n bytes, aligned to 16.
func (s *script) alloc(n int) []byte {
	at := (s.used + 15) &^ 15
	s.used = at + n
	return s.memory[at:s.used:s.used] // panics if scriptMemory is too small
}

// bytes returns the address of a copy of b.
func (s *script) bytes(b []byte) uintptr {
	m := s.alloc(max(len(b), 1))
	copy(m, b)
	return address(m)
}

// text returns the address of a copy of a string with a final zero.
func (s *script) text(t string) uintptr { return s.bytes(append([]byte(t), 0)) }

func address(m []byte) uintptr { return uintptr(unsafe.Pointer(&m[0])) }

// ref is a step of a script: its result can be an argument of later steps.
type ref int

// add adds a call. The name says in errors what the call was for.
func (s *script) add(name string, call uintptr, args ...uintptr) ref {
	if len(s.steps) == scriptSteps-1 {
		panic("fence: scriptSteps is too small")
	}
	st := step{call: call, result: notRun}
	copy(st.args[:], args)
	s.steps = append(s.steps, st)
	s.names = append(s.names, name)
	return ref(len(s.steps) - 1)
}

// on adds a call whose first argument is the result of an earlier one.
func (s *script) on(r ref, name string, call uintptr, args ...uintptr) ref {
	n := s.add(name, call, append([]uintptr{0}, args...)...)
	s.steps[n].from = uintptr(unsafe.Pointer(&s.steps[r].result))
	return n
}

// write adds the steps that write a text to a file. They are optional, so that the file is closed
// after an error. The caller must look for errors of the steps with failed.
func (s *script) write(path, text string) (steps []ref) {
	cwd := -100 // AT_FDCWD
	fd := s.add("open "+path, syscall.SYS_OPENAT, uintptr(cwd), s.text(path), syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
	write := s.on(fd, "write "+path, syscall.SYS_WRITE, s.bytes([]byte(text)), uintptr(len(text)))
	s.optional(s.on(fd, "close "+path, syscall.SYS_CLOSE))
	return []ref{s.optional(fd), s.optional(write)}
}

// optional lets the list go on if this step fails.
func (s *script) optional(r ref) ref {
	s.steps[r].optional = 1
	return r
}

// result returns what the call of a step returned. A step that has not run has ECANCELED.
func (s *script) result(r ref) (uintptr, syscall.Errno) {
	switch v := s.steps[r].result; {
	case v == notRun:
		return 0, syscall.ECANCELED
	case v > ^uintptr(4095):
		return 0, syscall.Errno(-v)
	default:
		return v, 0
	}
}

// failed returns the error of the first of these steps that failed, for another reason than ignored
// ones.
func (s *script) failed(steps []ref, ignored ...syscall.Errno) error {
	for _, r := range steps {
		if _, errno := s.result(r); errno != 0 && !slices.Contains(ignored, errno) {
			return &stepError{s.names[r], errno}
		}
	}
	return nil
}

// stepError is the error of a call of a script.
type stepError struct {
	name string
	err  syscall.Errno
}

func (e *stepError) Error() string { return e.name + ": " + e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// Flags of clone(2): share memory and descriptors. There is no signal at the exit, so that a
// host that waits for all its children never sees this one.
const shareAll = syscall.CLONE_VM | syscall.CLONE_FILES

// run runs the steps and waits for their end. The error is a *stepError of the first step that
// failed and is not optional.
func (s *script) run() error {
	pid, err := s.start(shareAll)
	if err != nil {
		return err
	}
	return s.wait(pid)
}

// start begins to run the steps in a new process.
func (s *script) start(flags uintptr) (pid int, err error) {
	s.add("exit", syscall.SYS_EXIT_GROUP, 0)
	runtime.LockOSThread() // the signal mask is that of the thread
	defer runtime.UnlockOSThread()
	stack := s.alloc(64) // never used, but must not be that of this thread
	old := setSignalMask(^signalSet(0))
	r := clone(flags, address(stack)+48, &s.steps[0])
	setSignalMask(old)
	if r > ^uintptr(4095) {
		return 0, fmt.Errorf("clone: %w", syscall.Errno(-r))
	}
	return int(r), nil
}

// wait waits for the process.
func (s *script) wait(pid int) error {
	var status syscall.WaitStatus
	err := waitFor(pid, &status)
	if err == nil && !status.Exited() {
		err = fmt.Errorf("the process of a script ended by signal %v", status.Signal())
	}
	for i := range s.steps[:len(s.steps)-1] {
		if _, errno := s.result(ref(i)); errno != 0 && s.steps[i].optional == 0 {
			if errno == syscall.ECANCELED && err != nil {
				return err
			}
			return &stepError{s.names[i], errno}
		}
	}
	return err
}

// waitFor waits until a child has stopped or ended.
func waitFor(pid int, status *syscall.WaitStatus) error {
	const all = 0x40000000 // __WALL: children without an exit signal, too
	for {
		_, err := syscall.Wait4(pid, status, all, nil)
		if err != syscall.EINTR {
			return err
		}
	}
}

// clone starts the steps in a new process and returns its id, or a negative error number.
//
//go:noescape
func clone(flags, stack uintptr, first *step) uintptr

// signalSet is a set of signals (sigset_t).
type signalSet uint64

// signals returns the set of these signals.
func signals(list ...syscall.Signal) (set signalSet) {
	for _, s := range list {
		set |= 1 << (s - 1)
	}
	return set
}

// setSignalMask sets the signals that this thread blocks, and returns those before.
func setSignalMask(set signalSet) (old signalSet) {
	const setMask = 2
	syscall.RawSyscall6(syscall.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&set)), uintptr(unsafe.Pointer(&old)), unsafe.Sizeof(set), 0, 0)
	return old
}
