//go:build linux && (amd64 || arm64)

// This file starts a command in a room. The order of the steps:
//
//  1. A thread restricts itself (restrict) and starts the command in new namespaces. The command
//     inherits the restrictions. It stops before its first instruction, because this process traces
//     it. The thread then ends, so that the rest of the host is not restricted.
//  2. This process maps the ids of the user namespace, and a script that joins the namespaces
//     makes the network and the sockets.
//  3. The host accepts the room, and the command goes on.
//
// Where the system forbids user namespaces, the command starts in the namespaces of the host. The
// filter of the command then hands the calls that make and connect sockets to the host. In place of
// the second step, the host starts to answer these calls (notifier_linux.go).

package fence

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// namespaces are those of a room.
const namespaces = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC

func start(cmd *exec.Cmd, config Config) (*Room, error) {
	if err := checkCommand(cmd); err != nil {
		return nil, err
	}
	m, missing := mechanism()
	room := newRoom(m)
	err := room.start(cmd, config)
	if err != nil {
		room.Close()
		return nil, bothProblems(missing, err)
	}
	room.noteMissing(missing)
	return room, nil
}

func newRoom(m Mechanism) *Room {
	return &Room{report: Report{Mechanism: m, Root: os.Geteuid() == 0}}
}

// mechanism returns the mechanism for a room of this process. It tries to make a user namespace with
// a process that does nothing, because a command that could not be started cannot be started again.
// If the mechanism is Notification, missing is the reason why there are no namespaces.
func mechanism() (m Mechanism, missing *Error) {
	s, err := newScript()
	if err != nil {
		return Namespaces, nil // the start will fail with a better error
	}
	defer s.close()
	pid, err := s.start(syscall.CLONE_VM | syscall.CLONE_NEWUSER)
	if err == nil {
		err = s.wait(pid)
	}
	if errors.As(startError(err), &missing) {
		return Notification, missing
	}
	return Namespaces, nil
}

// bothProblems adds the problem with namespaces to that with notifications.
func bothProblems(missing *Error, err error) error {
	var other *Error
	if missing == nil || !errors.As(err, &other) {
		return err
	}
	both := *missing
	both.Problem.Fix += fmt.Sprintf("; without namespaces: %s: %s", other.Problem.Part, other.Problem.Error)
	if other.Problem.Fix != "" {
		both.Problem.Fix += "; " + other.Problem.Fix
	}
	both.Err = errors.Join(missing.Err, err)
	return &both
}

// noteMissing adds what a room without namespaces lacks to its report.
func (r *Room) noteMissing(missing *Error) {
	if missing != nil {
		r.report.Problems = append(r.report.Problems, missing.Problem)
	}
}

// checkCommand refuses what a room cannot have.
func checkCommand(cmd *exec.Cmd) error {
	a := cmd.SysProcAttr
	if a == nil {
		return nil
	}
	if a.Credential != nil || a.Cloneflags != 0 || a.Unshareflags != 0 || a.UidMappings != nil || a.GidMappings != nil ||
		a.Ptrace || a.UseCgroupFD || a.AmbientCaps != nil {
		return errors.New("fence: cmd.SysProcAttr must not have Credential, Cloneflags, Unshareflags, UidMappings, GidMappings, Ptrace, UseCgroupFD or AmbientCaps")
	}
	return nil
}

func (r *Room) start(cmd *exec.Cmd, config Config) error {
	if err := closeOnExec(); err != nil {
		return err
	}
	streams, err := replaceSockets(cmd)
	if err != nil {
		return err
	}
	r.onClose(streams.close)
	t := &launch{cmd: cmd, limits: newLimits(config, r.report.Mechanism), resume: make(chan bool), closed: make(chan struct{})}
	r.onClose(func() { close(t.closed) })
	t.prepare()
	stopped := make(chan error)
	onFreshThread(func() { t.run(stopped) })
	if err := <-stopped; err != nil {
		return err
	}
	err = r.furnish(&t.limits, cmd.Process.Pid, len(cmd.ExtraFiles))
	if err == nil {
		err = config.accept(r.report)
	}
	t.resume <- err == nil
	if detached := <-stopped; err == nil {
		err = detached
	}
	if err != nil {
		t.kill()
		return err
	}
	streams.start()
	return nil
}

// onFreshThread calls f in a goroutine with a thread that ends with it. It is never the main
// thread, whose state other programs take for that of the process.
func onFreshThread(f func()) {
	go func() {
		runtime.LockOSThread()
		if syscall.Gettid() != syscall.Getpid() {
			f()
			return // the thread ends, because it is still locked
		}
		// While this goroutine holds the main thread, another one runs elsewhere.
		done := make(chan struct{})
		onFreshThread(func() {
			defer close(done)
			f()
		})
		<-done
		runtime.UnlockOSThread()
	}()
}

// launch starts the command in namespaces.
type launch struct {
	limits
	cmd    *exec.Cmd
	resume chan bool     // whether the command may run; else it is killed
	closed chan struct{} // closed with the room
}

// prepare sets the attributes of the process.
func (t *launch) prepare() {
	a := new(syscall.SysProcAttr)
	if t.cmd.SysProcAttr != nil {
		*a = *t.cmd.SysProcAttr
	}
	// Package os/exec copies the memory map of this process for CLONE_NEWUSER, because it would
	// have to write the mappings of ids while the child waits. These are written later here, so
	// that CLONE_VFORK is safe. It is faster by far for hosts with large heaps.
	if t.mechanism == Namespaces {
		a.Cloneflags = namespaces | syscall.CLONE_VM | syscall.CLONE_VFORK
		if os.Geteuid() == 0 {
			a.AmbientCaps = rootCapabilities()
		}
	}
	a.Ptrace = true
	t.cmd.SysProcAttr = a
}

// run starts the command and sends nil when it has stopped. When the host has decided, it lets
// the command go on or leaves it, and sends the error. If it sends an error, there is no command.
func (t *launch) run(stopped chan<- error) {
	if err := t.restrict(); err != nil {
		stopped <- err
		return
	}
	// A signal to the traced process would stop it before it executes the command. This thread
	// cannot let it go on then, because it waits for the execution. So signals wait, except those of
	// the processor and the one that stops the command at its first instruction. Only SIGSTOP
	// cannot be made to wait.
	mask := setSignalMask(^signals(syscall.SIGTRAP, syscall.SIGILL, syscall.SIGBUS, syscall.SIGFPE, syscall.SIGSEGV, syscall.SIGSYS))
	err := t.cmd.Start()
	setSignalMask(mask)
	if err != nil {
		t.closeListener()
		stopped <- startError(err)
		return
	}
	if err := t.stop(mask); err != nil {
		t.kill()
		stopped <- err
		return
	}
	stopped <- nil
	if <-t.resume {
		err = syscall.PtraceDetach(t.cmd.Process.Pid)
	}
	stopped <- err
	if t.cmd.SysProcAttr.Pdeathsig != 0 {
		<-t.closed // the end of this thread would send the signal
	}
}

// stop waits until the command has stopped before its first instruction, and sets the signals
// that it blocks.
func (t *launch) stop(mask signalSet) error {
	pid := t.cmd.Process.Pid
	if err := awaitStop(pid); err != nil {
		return err
	}
	const setMask = 0x420b // PTRACE_SETSIGMASK
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, setMask, uintptr(pid), unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("fence: set the signal mask of the command: %w", errno)
	}
	return nil
}

func awaitStop(pid int) error {
	var status syscall.WaitStatus
	if err := waitFor(pid, &status); err != nil {
		return fmt.Errorf("fence: wait for the stop of the command: %w", err)
	}
	if !status.Stopped() {
		return fmt.Errorf("fence: the command ended before its first instruction: status %#x", uint32(status))
	}
	// If this process is killed meanwhile, the command is, too.
	const exitKill = 0x100000 // PTRACE_O_EXITKILL
	return syscall.PtraceSetOptions(pid, exitKill)
}

// kill ends a command that has not run, and releases it.
func (t *launch) kill() {
	t.closeListener()
	t.cmd.Process.Kill()
	// A standard stream that blocks must not keep Wait from returning.
	t.cmd.WaitDelay = time.Millisecond
	t.cmd.Wait()
}

// startError explains the error of cmd.Start if it comes from the namespaces.
func startError(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EUSERS):
		return problem("namespaces", err, "raise /proc/sys/user/max_user_namespaces and max_net_namespaces, or end programs that hold namespaces")
	case errors.Is(err, syscall.EPERM):
		return problem("namespaces", err, "the system forbids user namespaces or ptrace: in a container, allow them in its seccomp profile; on the machine, set kernel.unprivileged_userns_clone=1 and kernel.yama.ptrace_scope below 3; and run this program without a debugger or strace that follows its children")
	case errors.Is(err, syscall.EINVAL):
		return problem("namespaces", err, "use a kernel with user, network and IPC namespaces")
	}
	return err
}

// problem returns an Error that leaves no room.
func problem(part string, err error, fix string) error {
	return &Error{Problem: Problem{Part: part, Error: err.Error(), Fix: fix}, Err: err}
}

// closeOnExec marks all descriptors of this process except the standard streams, so that the
// command does not inherit those that the launcher of this process left open.
func closeOnExec() error {
	const flagCloseOnExec = 1 << 2
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	_, _, errno := syscall.RawSyscall(sysCloseRange, 3, 1<<32-1, flagCloseOnExec)
	if errno == 0 {
		return nil
	}
	entries, err := os.ReadDir("/proc/self/fd") // before Linux 5.11
	if err != nil {
		return problem("descriptors", err, "mount /proc")
	}
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	return nil
}
