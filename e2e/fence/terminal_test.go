//go:build e2e && linux

package fence

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"example.com/networkproxy/internal/fence"
)

// A command in a room has the terminal, with job control.
func TestTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	cmd := command(t, "bash", "--norc", "--noediting", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.Env = append(os.Environ(), "PS1=prompt> ", "TERM=dumb")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	terminal.Close()
	out := bufio.NewReader(master)
	expect := func(text string) {
		t.Helper()
		master.SetReadDeadline(time.Now().Add(timeout))
		var seen strings.Builder
		for !strings.Contains(seen.String(), text) {
			b, err := out.ReadByte()
			if err != nil {
				t.Fatalf("waiting for %q: %v; the terminal shows %q", text, err, seen.String())
			}
			seen.WriteByte(b)
		}
	}
	send := func(text string) {
		t.Helper()
		if _, err := master.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	// The shell may lose what is typed before its prompt.
	expect("prompt> ")
	send("echo $((40+2)) $(tty)\n")
	expect("42 /dev/pts/")
	expect("prompt> ")
	// The program says when it runs, because the shell ignores the keys before.
	send("sh -c 'echo r$((1))n; exec sleep 1000'\n")
	expect("r1n")
	send("\x03") // Ctrl-C
	expect("prompt> ")
	send("echo a$((1+1))c $?\n")
	expect("a2c 130")
	expect("prompt> ")
	send("sh -c 'echo r$((2))n; exec sleep 1000'\n")
	expect("r2n")
	send("\x1a") // Ctrl-Z
	expect("Stopped")
	expect("prompt> ")
	send("kill -KILL %1; wait %1; echo b$((1+2))d\n")
	expect("b3d")
	expect("prompt> ")
	send("exit 9\nexit 9\n") // the first may only say that there was a stopped job
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 9 {
		t.Errorf("the shell ends with %v, want status 9", cmd.ProcessState)
	}
}

// openTerminal returns both ends of a new terminal.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	var number, unlocked int32
	if err := ioctl(master, syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		t.Fatal(err)
	}
	if err := ioctl(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked)); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return master, terminal
}

func ioctl(f *os.File, number uintptr, p unsafe.Pointer) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) { _, _, errno = syscall.Syscall(syscall.SYS_IOCTL, fd, number, uintptr(p)) })
	if err == nil && errno != 0 {
		err = errno
	}
	return err
}
