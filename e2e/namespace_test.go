//go:build e2e && linux

// This file builds the program and runs the test binary again inside namespaces that
// have the addresses and names of the suite.

package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// insideEnv is the environment variable that is set for the second run. Its value is
// the directory of the run, which holds the program.
const insideEnv = "NETWORKPROXY_E2E_DIR"

// lab holds the servers in the namespace. TestMain sets it before any test runs, and
// the tests only read it.
var lab *laboratory

func TestMain(m *testing.M) {
	dir := os.Getenv(insideEnv)
	if dir == "" {
		os.Exit(runOutside())
	}
	os.Exit(runInside(m, dir))
}

// runOutside builds the program and runs the suite in the namespaces. It builds
// outside because the build may need the module cache and the network.
func runOutside() int {
	dir, err := os.MkdirTemp("", "networkproxy-e2e-")
	if err != nil {
		return fail("create a directory for the run", err)
	}
	defer os.RemoveAll(dir)
	if err := buildProgram(dir); err != nil {
		return fail("build the program", err)
	}
	code, err := runInNamespaces(dir)
	if err != nil {
		return fail("enter a network namespace (this suite needs root)", err)
	}
	return code
}

// buildProgram builds cmd/networkproxy, with the race detector if there is a C
// compiler.
func buildProgram(dir string) error {
	args := []string{"build", "-o", filepath.Join(dir, "networkproxy")}
	if haveCompiler() {
		args = append(args, "-race")
	} else {
		fmt.Println("e2e: no C compiler: the program is built without the race detector")
	}
	cmd := exec.Command("go", append(args, "example.com/networkproxy/cmd/networkproxy")...)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

func haveCompiler() bool {
	out, err := exec.Command("go", "env", "CC").Output()
	if err != nil {
		return false
	}
	_, err = exec.LookPath(strings.TrimSpace(string(out)))
	return err == nil
}

// runInNamespaces runs this binary again and returns its exit code.
func runInNamespaces(dir string) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	// The go command caches a pass by the inputs that the test binary logs. These
	// do not include the program, so that a cached pass could be one of an older
	// program. Without the log, nothing is cached.
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
		return strings.HasPrefix(arg, "-test.testlogfile=")
	})
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), insideEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	// Pdeathsig also fires if the thread that started the child ends.
	runtime.LockOSThread()
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// runInside prepares the namespaces, starts the laboratory and runs the tests.
func runInside(m *testing.M, dir string) int {
	if err := prepareNetwork(); err != nil {
		return fail("prepare the network namespace", err)
	}
	if err := prepareFiles(dir); err != nil {
		return fail("prepare the mount namespace", err)
	}
	var err error
	if lab, err = openLaboratory(dir); err != nil {
		return fail("start the origins", err)
	}
	defer lab.close()

	code := m.Run()
	if hits := lab.traps.hits(); hits != 0 {
		fmt.Fprintf(os.Stderr, "e2e: %d connections reached a trap: the program allowed a local address\n", hits)
		code = max(code, 1)
	}
	return code
}

// prepareNetwork adds the suite's addresses to the loopback device. It also checks that
// there is no other device through which traffic could leave.
func prepareNetwork() error {
	if err := ip("link", "set", "lo", "up"); err != nil {
		return err
	}
	for _, addr := range deviceAddrs {
		args := []string{"addr", "add", fmt.Sprintf("%s/%d", addr, addr.BitLen()), "dev", "lo"}
		if addr.Is6() {
			// Duplicate address detection would delay the first bind.
			args = append(args, "nodad")
		}
		if err := ip(args...); err != nil {
			return err
		}
	}
	devices, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, device := range devices {
		if device.Flags&net.FlagLoopback == 0 && device.Flags&net.FlagUp != 0 {
			return fmt.Errorf("device %s is up: the namespace must have loopback only", device.Name)
		}
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// prepareFiles replaces the files that configure name resolution with bind mounts in
// this mount namespace.
func prepareFiles(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	files := map[string]string{
		"/etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
		"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
	}
	for target, content := range files {
		cover := filepath.Join(dir, filepath.Base(target))
		if err := os.WriteFile(cover, []byte(content), 0o644); err != nil {
			return err
		}
		if err := syscall.Mount(cover, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind-mount over %s: %w", target, err)
		}
	}
	return nil
}

func fail(doing string, err error) int {
	fmt.Fprintf(os.Stderr, "e2e: %s: %v\n", doing, err)
	return 1
}
