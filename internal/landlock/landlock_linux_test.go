package landlock

import (
	"encoding/hex"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// struct landlock_path_beneath_attr has no padding.
func TestEncodePathRule(t *testing.T) {
	t.Parallel()
	rule := encodePathRule(accessUnixSockets|accessRefer, 258)
	if got, want := hex.EncodeToString(rule[:]), "0020010000000000"+"02010000"; got != want {
		t.Errorf("encodePathRule returns %s, want %s", got, want)
	}
}

// onRestrictedThread calls f in a thread that is restricted and ends with it.
func onRestrictedThread(t *testing.T, s Support, allowed []string, f func()) error {
	t.Helper()
	err := make(chan error)
	go func() {
		runtime.LockOSThread()   // and never unlocked
		const setNoNewPrivs = 38 // PR_SET_NO_NEW_PRIVS
		if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
			err <- errno
			return
		}
		e := Restrict(s, allowed)
		if e == nil {
			f()
		}
		err <- e
	}()
	return <-err
}

// targets are a process and sockets that existed before the restriction.
type targets struct {
	process        int
	abstract, path *net.UnixAddr
}

func newTargets(t *testing.T) targets {
	t.Helper()
	cat := exec.Command("cat")
	stdin, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cat.Wait()
	})
	path := filepath.Join(t.TempDir(), "socket")
	return targets{cat.Process.Pid, listen(t, "@"+path).Addr().(*net.UnixAddr), listen(t, path).Addr().(*net.UnixAddr)}
}

func listen(t *testing.T, name string) net.Listener {
	t.Helper()
	ln, err := net.Listen("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// connect connects in the calling thread.
func connect(a *net.UnixAddr) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Connect(fd, &syscall.SockaddrUnix{Name: a.Name})
}

// A restricted thread reaches no process and no socket outside, as far as the kernel can do that.
// Other threads of the same process stay as they are, and can be signalled.
func TestRestrict(t *testing.T) {
	t.Parallel()
	s := Supported()
	scoped := func(err error) error {
		if s.Scopes {
			return err
		}
		return nil
	}
	pathError := error(nil)
	if s.UnixSockets {
		pathError = syscall.EACCES
	}
	outside := newTargets(t)
	err := onRestrictedThread(t, s, nil, func() {
		for _, test := range []struct {
			attempt   string
			err, want error
		}{
			{"a signal to another process", syscall.Kill(outside.process, 0), scoped(syscall.EPERM)},
			{"a connection to an abstract socket", connect(outside.abstract), scoped(syscall.EPERM)},
			{"a connection to a pathname socket", connect(outside.path), pathError},
			{"a signal to a thread of this process", syscall.Tgkill(os.Getpid(), os.Getpid(), 0), nil},
			{"a signal to this process", syscall.Kill(os.Getpid(), 0), nil},
		} {
			if test.err != test.want {
				t.Errorf("%s: %v, want %v", test.attempt, test.err, test.want)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{syscall.Kill(outside.process, 0), connect(outside.abstract), connect(outside.path)} {
		if err != nil {
			t.Errorf("after the restriction of another thread: %v", err)
		}
	}
}

// Sockets that are allowed can be reached. A path without a socket is no error.
func TestRestrictAllowed(t *testing.T) {
	t.Parallel()
	outside := newTargets(t)
	err := onRestrictedThread(t, Supported(), []string{outside.path.Name, "/no/such/socket"}, func() {
		if err := connect(outside.path); err != nil {
			t.Errorf("connect to an allowed socket: %v", err)
		}
		dir := filepath.Dir(outside.path.Name)
		if err := os.Mkdir(filepath.Join(dir, "other"), 0o700); err != nil {
			t.Error(err)
		}
		if err := os.Rename(outside.path.Name, filepath.Join(dir, "other", "socket")); err != nil {
			t.Errorf("move a file between directories: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A thread is not restricted if nothing can be had, and a restriction that the kernel does not know
// is an error.
func TestRestrictSupport(t *testing.T) {
	t.Parallel()
	outside := newTargets(t)
	err := onRestrictedThread(t, Support{}, nil, func() {
		if err := errors.Join(syscall.Kill(outside.process, 0), connect(outside.abstract), connect(outside.path)); err != nil {
			t.Errorf("without a restriction: %v", err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	s := Supported()
	for _, more := range []Support{{Scopes: true}, {UnixSockets: true}} {
		known := (s.ABI >= abiScopes || !more.Scopes) && (s.UnixSockets || !more.UnixSockets)
		err := onRestrictedThread(t, more, nil, func() {})
		if known != (err == nil) {
			t.Errorf("with ABI %d, Restrict(%+v) returns %v", s.ABI, more, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "landlock: create a ruleset: ") {
			t.Errorf("the error is %q", err)
		}
	}
}
