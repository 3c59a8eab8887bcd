//go:build e2e && linux

// This file starts rooms in hosts that have a hard time: signals, limits of resources, and
// system calls that fail.

package fence

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"example.com/networkproxy/internal/fence"
	"example.com/networkproxy/internal/seccomp"
)

// startMissing is the stage of a host that tries to start a script without an interpreter, several
// times.
func startMissing(args []string) error {
	script := filepath.Join(os.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/no/such/interpreter\n"), 0o700); err != nil {
		return err
	}
	for range number(args[0]) {
		if _, err := fence.Start(exec.Command(script), fence.Config{}); !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("Start returns %w", err)
		}
	}
	return nil
}

// startMany is the stage of a host that starts its arguments in rooms, several times.
func startMany(args []string) error {
	if err := pprof.StartCPUProfile(io.Discard); err != nil { // sends SIGPROF
		return err
	}
	defer pprof.StopCPUProfile()
	n := number(args[0])
	errs := make(chan error)
	const workers = 2
	for range workers {
		go func() {
			for range n / workers {
				cmd := exec.Command(args[1], args[2:]...)
				cmd.Stdout = os.Stdout
				room, err := fence.Start(cmd, fence.Config{})
				if err != nil {
					errs <- err
					return
				}
				err = cmd.Wait()
				room.Close()
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	return errors.Join(<-errs, <-errs)
}

// Signals that arrive while a command is started neither stop it nor get lost, and the command
// has the signal mask of its host. The process group of a host gets such signals, for example,
// when the size of the terminal changes.
func TestSignalsDuringStart(t *testing.T) {
	const n = 60
	many := []string{"start-many", strconv.Itoa(n), "grep", "SigBlk", "/proc/self/status"}
	masks := strings.Repeat("SigBlk:\t0000000000000000\n", n)
	for _, test := range []struct {
		name, env string
		host      []string
		want      string
	}{
		{"two processors", "GOMAXPROCS=2", many, masks},
		{"one processor", "GOMAXPROCS=1", many, masks},
		{"no preemption by signals", "GODEBUG=asyncpreemptoff=1", many, masks},
		{"programs that cannot be executed", "GOMAXPROCS=2", []string{"start-missing", strconv.Itoa(5 * n)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := intruder(t, test.host[0], test.host[1:]...)
			cmd.Env = append(cmd.Env, test.env)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
			cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
			cmd.WaitDelay = time.Second
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			stop := make(chan struct{})
			var storm sync.WaitGroup
			storm.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					for _, s := range []syscall.Signal{syscall.SIGWINCH, syscall.SIGURG, syscall.SIGCHLD, syscall.SIGCONT} {
						syscall.Kill(-cmd.Process.Pid, s)
					}
				}
			})
			err := cmd.Wait()
			close(stop)
			storm.Wait()
			if want := test.want + "out\n"; err != nil || out.String() != want {
				t.Errorf("the host ends with %v and says %q", err, out.String())
			}
		})
	}
}

// startTouch starts a command that makes a file, and returns the error of Start. After an error, the
// command must not have run, and nothing may be left.
func startTouch(config fence.Config, before map[string]int) (startErr, err error) {
	file := filepath.Join(os.TempDir(), fmt.Sprintf("touched-%d", os.Getpid()))
	cmd := exec.Command("touch", file)
	room, startErr := fence.Start(cmd, config)
	if startErr == nil {
		err = cmd.Wait()
		room.Close()
		return nil, errors.Join(err, os.Remove(file))
	}
	if _, e := os.Stat(file); e == nil {
		err = fmt.Errorf("the command ran, but Start returned %w", startErr)
	}
	if e := nothingLeft(before); e != nil {
		err = errors.Join(err, fmt.Errorf("after the error %w: %w", startErr, e))
	}
	return startErr, err
}

func acceptAny(fence.Report) error { return nil }

// startLimited is the stage of a host that may open few descriptors, then more and more.
func startLimited([]string) error {
	config := fence.Config{UDP: true, NoNested: true, Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:8080")}}
	before, err := countResources()
	if err != nil {
		return err
	}
	if startErr, err := startTouch(config, before); startErr != nil || err != nil {
		return errors.Join(startErr, err)
	}
	if before, err = countResources(); err != nil {
		return err
	}
	var full syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &full); err != nil {
		return err
	}
	for _, config.Accept = range []func(fence.Report) error{nil, acceptAny} {
		failed := 0
		for limit := uint64(before["descriptors"]); ; limit++ {
			few := full
			few.Cur = limit
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
				return err
			}
			cmd := exec.Command("true")
			room, startErr := fence.Start(cmd, config)
			if startErr == nil {
				cmd.Wait()
				room.Close()
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &full); err != nil {
				return err
			}
			if err := nothingLeft(before); err != nil {
				return fmt.Errorf("with %d descriptors, Start returns %v; %w", limit, startErr, err)
			}
			if startErr == nil {
				break
			}
			failed++
		}
		if failed < 5 {
			return fmt.Errorf("only %d starts failed", failed)
		}
	}
	return nil
}

// Each descriptor that a start needs is missing in turn: the start fails, and nothing is left.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	if out, err := intruder(t, "start-limited").CombinedOutput(); err != nil || string(out) != "out\n" {
		t.Errorf("the host says %s, %v", out, err)
	}
}

// startFailing is the stage of a host whose system calls fail.
func startFailing([]string) error {
	before, err := countResources()
	if err != nil {
		return err
	}
	startErr, err := startTouch(fence.Config{UDP: true, NoNested: true}, before)
	if err == nil {
		err = startErr
	}
	return err
}

// A system call that fails is the reason in the error, or is not needed.
func TestFailingCalls(t *testing.T) {
	t.Parallel()
	const none = "out"
	forRoot := func(want string) string {
		if os.Geteuid() == 0 {
			return want
		}
		return none
	}
	for _, test := range []struct {
		name   string
		number uint32
		want   string // begin of the output
	}{
		{"setns", sysSetns, "fence: network namespace: join the namespaces: value too large"},
		{"pidfd_open", 434, "fence: namespaces: pidfd_open: value too large"},
		{"ptrace", syscall.SYS_PTRACE, "fork/exec /usr/bin/touch: value too large"},
		{"socket", syscall.SYS_SOCKET, "fence: network namespace: listener on 0.0.0.0:1: value too large"},
		{"setsockopt", syscall.SYS_SETSOCKOPT, "fence: network namespace: listener on [::]:1: value too large"},
		{"bind", syscall.SYS_BIND, "fence: network namespace: listener on [::]:1: bind: value too large"},
		{"listen", syscall.SYS_LISTEN, "fence: network namespace: listener on [::]:1: listen: value too large"},
		{"getsockopt", syscall.SYS_GETSOCKOPT, "fence: a socket of the room: "},
		{"getsockname", syscall.SYS_GETSOCKNAME, "fence: a socket of the room: "},
		{"sendto", syscall.SYS_SENDTO, "fence: routes: send to netlink: value too large"},
		{"recvmmsg", sysRecvmmsg, "fence: routes: read from netlink: value too large"},
		{"seccomp", sysSeccomp, "fence: seccomp: value too large"},
		{"landlock_create_ruleset", 444, none},
		{"mount", syscall.SYS_MOUNT, forRoot("fence: kernel settings: mount /proc/sys: value too large")},
		{"mount_setattr", 442, forRoot("fence: kernel settings: make /proc/sys read-only: value too large")},
		{"close_range", 436, none},
		{"pidfd_send_signal", 424, none},
		{"capget", syscall.SYS_CAPGET, none},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			const load, equal, ret = 0x20, 0x15, 0x06
			refuse := 0x00050000 | uint32(syscall.EOVERFLOW)
			out := underProgram(t, intruder(t, "start-failing"), false, []seccomp.Instruction{
				{Code: load}, {Code: equal, JF: 1, K: test.number}, {Code: ret, K: refuse}, {Code: ret, K: 0x7fff0000},
			})
			if !strings.HasPrefix(out, test.want) {
				t.Errorf("the host says %q, want %q first", out, test.want)
			}
		})
	}
}

// inMounts is the stage of a host with other mounts: without /proc, or with all file systems
// read-only. It probes a room, then starts its other arguments in one.
func inMounts(args []string) error {
	if err := changeMounts(args[0]); err != nil {
		return err
	}
	report, err := fence.Probe(context.Background(), fence.Config{})
	fmt.Printf("probe: complete %v, %v\n", report.Complete(), err)
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Stdout = os.Stdout
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		return err
	}
	defer room.Close()
	return cmd.Wait()
}

func changeMounts(change string) error {
	if change == "without /proc" {
		return syscall.Mount("tmpfs", "/proc", "tmpfs", 0, "")
	}
	const sysMountSetattr, readOnly = 442, 1 // MOUNT_ATTR_RDONLY
	cwd := -100                              // AT_FDCWD
	attr := [4]uint64{readOnly}
	root := [2]byte{'/'}
	_, _, errno := syscall.Syscall6(sysMountSetattr, uintptr(cwd), uintptr(unsafe.Pointer(&root)), 0, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr), 0)
	if errno != 0 {
		return errno
	}
	if err := os.WriteFile(filepath.Join(os.TempDir(), "file"), nil, 0o600); !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("write a file: %w, want EROFS", err)
	}
	return nil
}

// A room needs /proc, and no place to write.
func TestOtherMounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ mounts, want string }{
		{"without /proc", "probe: complete false, fence: user namespace: open /proc/PID/setgroups: no such file or directory; mount /proc, not read-only\n" +
			"fence: user namespace: open /proc/PID/setgroups: no such file or directory; mount /proc, not read-only\n"},
		{"read-only", "probe: complete true, <nil>\nin a room\nout\n"},
	} {
		cmd := intruder(t, "in-mounts", test.mounts, "echo", "in a room")
		const sysAdmin = 21 // CAP_SYS_ADMIN
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
			AmbientCaps: []uintptr{sysAdmin},
		}
		out, err := cmd.CombinedOutput()
		if got := regexp.MustCompile(`/proc/\d+/`).ReplaceAllString(string(out), "/proc/PID/"); err != nil || got != test.want {
			t.Errorf("%s, the host says %q, %v, want %q", test.mounts, got, err, test.want)
		}
	}
}
