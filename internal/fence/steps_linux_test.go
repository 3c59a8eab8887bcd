//go:build linux && (amd64 || arm64)

package fence

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
)

func newTestScript(t *testing.T) *script {
	t.Helper()
	s, err := newScript()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// A script makes its calls in order, uses earlier results, and shares its descriptors.
func TestScript(t *testing.T) {
	t.Parallel()
	s := newTestScript(t)
	ends := s.alloc(8)
	s.add("pipe2", syscall.SYS_PIPE2, address(ends), syscall.O_CLOEXEC)
	pid := s.add("getpid", syscall.SYS_GETPID)
	socket := s.add("socket", syscall.SYS_SOCKET, syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	dup := s.on(socket, "dup", syscall.SYS_DUP)
	s.on(socket, "close", syscall.SYS_CLOSE)
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	read, write := int(ends[0])|int(ends[1])<<8, int(ends[4])|int(ends[5])<<8
	if _, err := syscall.Write(write, []byte("x")); err != nil {
		t.Errorf("write to the pipe of the script: %v", err)
	}
	var b [1]byte
	if n, err := syscall.Read(read, b[:]); n != 1 || b[0] != 'x' {
		t.Errorf("read from the pipe of the script: %d bytes, %v", n, err)
	}
	if got, _ := s.result(pid); got == uintptr(os.Getpid()) || got == 0 {
		t.Errorf("getpid in the script returned %d, want the id of another process", got)
	}
	fd, _ := s.result(dup)
	for _, fd := range []int{read, write, int(fd)} {
		if err := syscall.Close(fd); err != nil {
			t.Errorf("close descriptor %d of the script: %v", fd, err)
		}
	}
}

func TestScriptErrors(t *testing.T) {
	t.Parallel()
	s := newTestScript(t)
	failed := s.optional(s.add("an optional call", syscall.SYS_CLOSE, ^uintptr(0)))
	ran := s.add("getpid", syscall.SYS_GETPID)
	s.add("chdir", syscall.SYS_CHDIR, s.text("/no/such/directory"))
	after := s.add("after the error", syscall.SYS_GETPID)
	err := s.run()
	if !errors.Is(err, syscall.ENOENT) || err.Error() != "chdir: no such file or directory" {
		t.Errorf("run returns %v, want the error of chdir", err)
	}
	if _, errno := s.result(failed); errno != syscall.EBADF {
		t.Errorf("result of the optional call is %v, want EBADF", errno)
	}
	if pid, errno := s.result(ran); errno != 0 || pid == 0 {
		t.Errorf("the step after the optional one did not run: %v", errno)
	}
	if _, errno := s.result(after); errno != syscall.ECANCELED {
		t.Errorf("result of a step after the error is %v, want ECANCELED", errno)
	}
}

// Scripts run while the garbage collector runs and other goroutines start scripts.
func TestScriptsAtOnce(t *testing.T) {
	t.Parallel()
	errs := make(chan error)
	const workers, rounds = 8, 100
	for range workers {
		go func() {
			var err error
			for range rounds {
				var s *script
				if s, err = newScript(); err != nil {
					break
				}
				s.add("getpid", syscall.SYS_GETPID)
				err = s.run()
				s.close()
				if err != nil {
					break
				}
				_ = make([]byte, 1<<16)
			}
			errs <- err
		}()
	}
	for range workers {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// A file that cannot be written is closed.
func TestScriptWriteError(t *testing.T) {
	t.Parallel()
	s := newTestScript(t)
	steps := s.write("/dev/full", "x")
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if err := s.failed(steps); !errors.Is(err, syscall.ENOSPC) || err.Error() != "write /dev/full: no space left on device" {
		t.Errorf("the steps return %v, want the error of the write", err)
	}
	if err := s.failed(steps, syscall.ENOSPC); err != nil {
		t.Errorf("with ENOSPC ignored, the steps return %v", err)
	}
	fd, errno := s.result(steps[0])
	if errno != 0 {
		t.Fatal(errno)
	}
	// Another test may have got the number meanwhile, but not for this file.
	if path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && path == "/dev/full" {
		t.Errorf("descriptor %d of the script is open", fd)
	}
	missing := newTestScript(t)
	steps = missing.write("/no/such/file", "x")
	if err := missing.run(); err != nil {
		t.Fatal(err)
	}
	if err := missing.failed(steps); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("the steps for a missing file return %v, want ENOENT", err)
	}
}

// The steps also run in a process with a copy of the memory of this one, because the memory of a
// script is shared. Emulators such as qemu-aarch64 know no other processes, so that this test
// runs the code of each architecture in them.
func TestScriptInCopiedMemory(t *testing.T) {
	t.Parallel()
	s := newTestScript(t)
	failed := s.optional(s.add("an optional call", syscall.SYS_CLOSE, ^uintptr(0)))
	ends := s.alloc(8)
	s.add("pipe2", syscall.SYS_PIPE2, address(ends), 0)
	dup := s.add("dup", syscall.SYS_DUP, 0)
	again := s.on(dup, "dup again", syscall.SYS_DUP)
	// mmap has six arguments, so that a wrong order shows.
	page := s.add("mmap", syscall.SYS_MMAP, 0, 4096, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON, ^uintptr(0), 0)
	s.add("chdir", syscall.SYS_CHDIR, s.text("/no/such/directory"))
	after := s.add("after the error", syscall.SYS_GETPID)
	pid, err := s.start(uintptr(syscall.SIGCHLD))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.wait(pid); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("wait returns %v, want the error of chdir", err)
	}
	if _, errno := s.result(failed); errno != syscall.EBADF {
		t.Errorf("result of the optional call is %v, want EBADF", errno)
	}
	first, errno := s.result(dup)
	second, errno2 := s.result(again)
	if errno != 0 || errno2 != 0 || second <= first {
		t.Errorf("dup returns %d, %v, then %d, %v", first, errno, second, errno2)
	}
	if at, errno := s.result(page); errno != 0 || at == 0 || at%4096 != 0 {
		t.Errorf("mmap returns %#x, %v", at, errno)
	}
	if _, errno := s.result(after); errno != syscall.ECANCELED {
		t.Errorf("result of a step after the error is %v, want ECANCELED", errno)
	}
}
