//go:build e2e && linux

package harness

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// Timeout is the limit of every wait. Tests that pass do not reach it.
const Timeout = 30 * time.Second

// Eventually waits until cond returns true.
func Eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !testnet.Poll(Timeout, cond) {
		t.Fatalf("not within %v: %s", Timeout, what)
	}
}

// Result is the result of a command.
type Result struct {
	Name           string
	Exit           int
	Stdout, Stderr string
}

// Run runs cmd to its end. The result has its output, except for streams that the caller
// has set.
func Run(t *testing.T, cmd *exec.Cmd) Result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if cmd.Stdout == nil {
		cmd.Stdout = &stdout
	}
	if cmd.Stderr == nil {
		cmd.Stderr = &stderr
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("run %s: %v", cmd, err)
	}
	return Result{
		Name: strings.Join(cmd.Args, " "), Exit: cmd.ProcessState.ExitCode(),
		Stdout: stdout.String(), Stderr: stderr.String(),
	}
}

// MustSucceed fails the test unless the command exited with 0.
func (r Result) MustSucceed(t *testing.T) Result {
	t.Helper()
	if r.Exit != 0 {
		t.Fatalf("%s: exit %d\nstdout: %s\nstderr: %s", r.Name, r.Exit, r.Stdout, r.Stderr)
	}
	return r
}

// Process is the program under test, while it runs.
type Process struct {
	Cmd  *exec.Cmd
	Log  *testnet.Buffer // standard output and standard error
	done chan struct{}   // closed when the process has exited
}

// Start starts the program at path without waiting. Its environment is PATH, an empty HOME
// and env. It is killed at the end of the test at the latest.
func Start(t *testing.T, path string, env []string, args ...string) *Process {
	t.Helper()
	p := &Process{Log: new(testnet.Buffer), done: make(chan struct{})}
	p.Cmd = exec.Command(path, args...)
	p.Cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(),
		// Without this, a program with the race detector sleeps for a second
		// before it exits.
		"GORACE=atexit_sleep_ms=10"}, env...)
	p.Cmd.Stdout, p.Cmd.Stderr = p.Log, p.Log
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("start the program: %v", err)
	}
	go func() {
		defer close(p.done)
		p.Cmd.Wait()
	}()
	t.Cleanup(func() {
		if !p.Ended() {
			p.Cmd.Process.Kill()
			<-p.done
		}
		if t.Failed() {
			t.Logf("output of the program:\n%s", p.Log)
		}
	})
	return p
}

// Done returns a channel that is closed when the program has exited.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the program has exited.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Signal sends sig. It fails the test if the program has exited.
func (p *Process) Signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.Cmd.Process.Signal(sig); err != nil {
		t.Fatalf("send %v to the program: %v", sig, err)
	}
}

// ExitCode waits for the program to exit and returns its code.
func (p *Process) ExitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(Timeout):
		t.Fatalf("the program still runs after %v", Timeout)
		return -1
	}
}

// Finish stops the program with SIGTERM, like a service manager, and checks that it exits
// without an error, a data race or a panic.
func (p *Process) Finish(t *testing.T) {
	if !p.Ended() {
		p.Signal(t, syscall.SIGTERM)
	}
	if code := p.ExitCode(t); code != 0 {
		t.Errorf("the program exited with code %d, want 0", code)
	}
	for _, sign := range []string{"DATA RACE", "panic:", "goroutine "} {
		if strings.Contains(p.Log.String(), sign) {
			t.Errorf("the program's output contains %q", sign)
		}
	}
}

// ForbidNamespaces changes a command so that it runs in a user namespace that permits no
// other. Its user stays the same.
func ForbidNamespaces(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	const script = `echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"`
	cmd.Args = append([]string{"unshare", "--user", "--map-current-user", "--keep-caps", "sh", "-c", script, "sh"}, cmd.Args...)
	cmd.Path = unshare
}
