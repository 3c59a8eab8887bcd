//go:build e2e && linux

// This file tests channels to processes of the machine that are no sockets of the command's own, and
// attacks on the host. Each is tried without a room first, if it does not need one.

package fence

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/fence"
)

// A command reaches no message queue, no semaphore, and no resource limit of another process.
func TestChannelsOfTheKernel(t *testing.T) {
	t.Parallel()
	queue, semaphore, victim := makeQueue(t), makeSemaphore(t), startVictim(t)
	for _, test := range []struct{ intruder, arg, without, with string }{
		{"queue-file", queue, "function not implemented", "no such file or directory"},
		{"semaphore", semaphore, "function not implemented", "invalid argument"},
		{"limit", victim, "operation not permitted", "operation not permitted"},
	} {
		outside(t, test.intruder, test.arg)
		if got := intrudeInContainer(t, fence.Config{}, test.intruder, test.arg); got != test.without {
			t.Errorf("in a room without namespaces, the intruder %s says %q, want %q", test.intruder, got, test.without)
		}
		if got := inside(t, fence.Config{}, test.intruder, test.arg); got != test.with {
			t.Errorf("in a room, the intruder %s says %q, want %q", test.intruder, got, test.with)
		}
	}
}

// makeQueue makes a POSIX message queue and returns its file.
func makeQueue(t *testing.T) string {
	t.Helper()
	path := filepath.Join(queuesDir, fmt.Sprintf("networkproxy-%d", os.Geteuid()))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// makeSemaphore makes a System V semaphore and returns its number.
func makeSemaphore(t *testing.T) string {
	t.Helper()
	const private, remove = 0, 0 // IPC_PRIVATE, IPC_RMID
	id, _, errno := syscall.RawSyscall(sysSemget, private, 1, 0o600)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { syscall.RawSyscall(sysSemctl, id, 0, remove) })
	return strconv.Itoa(int(id))
}

// An allowed socket is the one that was there at the start, whatever the command puts in its place.
func TestReplacedSocket(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"symlink", "link", "rename"} {
		for name, run := range map[string]func(*testing.T, fence.Config, string, ...string) string{"namespaces": inside, "notification": intrudeInContainer} {
			t.Run(how+" with "+name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				listed, target := filepath.Join(dir, "listed"), filepath.Join(dir, "target")
				greet(t, "unix", listed)
				greet(t, "unix", target)
				if got := run(t, fence.Config{UnixSockets: []string{listed}}, "replace-socket", how, listed, target); got != "permission denied" {
					t.Errorf("the intruder says %q", got)
				}
			})
		}
	}
}

// A command cannot keep a room from being closed: not by descriptors whose last one takes long to
// close, and not by many calls that wait.
func TestStalledHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := listenFull(t, filepath.Join(dir, "full"))
	for _, test := range []struct {
		name string
		args []string
		want []string
	}{
		{"a socket that lingers", []string{"linger", address(4, 80)}, []string{"operation not permitted", "out"}}, // since Linux 6.16, and before
		{"many calls", []string{"wait-in-calls", "1000", full}, []string{"waiting\nend"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd := containerCommand(t, fence.Config{UnixSockets: []string{full}}, append([]string{"env", stageEnv + "=" + test.args[0], intruder(t, test.args[0]).Path}, test.args[1:]...)...)
			cmd.Env = append(cmd.Env, inContainerEnv+"=stalled-host")
			got := underFilter(t, cmd, false, containerRules()...)
			if said, ok := strings.CutSuffix(got, "\nclosed\nexit\n"); !ok || !slices.Contains(test.want, said) {
				t.Errorf("the host says %q, want one of %q and the end", got, test.want)
			}
		})
	}
}

// listenFull returns the path of a socket that has no room for connections.
func listenFull(t *testing.T, path string) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path) // the one that has room
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return path
}

// runStalledHost is the stage of a host that never reads from connections. It starts its arguments
// in a room, and says how the room was closed.
func runStalledHost(args []string) error {
	config, err := configOfHost()
	if err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stdout
	room, err := fence.Start(cmd, config)
	if err != nil {
		return err
	}
	h := newHost()
	go h.serveDNS(room.DNS)
	go func() {
		for err := error(nil); err == nil; {
			_, err = room.TCP[0].Accept()
		}
	}()
	err = cmd.Wait()
	start := time.Now()
	room.Close()
	if d := time.Since(start); d > 20*time.Second {
		return fmt.Errorf("Close has taken %v", d)
	}
	fmt.Println("closed")
	return errors.Join(err, errors.New("exit"))
}

// A connect that must not wait fails at once if the allowed socket has no room.
func TestFullSocketWithoutNamespaces(t *testing.T) {
	t.Parallel()
	full := listenFull(t, filepath.Join(t.TempDir(), "full"))
	got := said(t, inContainer(t, fence.Config{UnixSockets: []string{full}}, "python3", "-c", fmt.Sprintf(`
import socket
s = socket.socket(socket.AF_UNIX)
s.setblocking(False)
print(s.connect_ex(%q))`, full)))
	if want := strconv.Itoa(int(syscall.EAGAIN)); got != want {
		t.Errorf("connect returns %s, want %s", got, want)
	}
}
