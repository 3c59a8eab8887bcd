//go:build e2e && linux

package harness

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Namespaces describes the network and mount namespaces that a suite runs in. The network
// namespace has the loopback device only, so that no traffic can leave the machine.
type Namespaces struct {
	// Suite is the name of the suite, for messages and for the directory of the run.
	Suite string

	// Build puts the programs under test into the directory of the run. It is called
	// outside the namespaces, because a build may need the network.
	Build func(dir string) error

	// Addrs are the addresses that the loopback device gets.
	Addrs []netip.Addr

	// Files are the contents of files that hide others, by the paths of these. The
	// names of hosts are configured so.
	Files map[string]string

	// Run runs the tests inside and returns the exit code of the process.
	Run func(dir string) int
}

// Main returns the exit code of a test binary. It runs the binary again inside the
// namespaces, where Main calls Run.
func (n Namespaces) Main() int {
	if dir := os.Getenv(n.variable()); dir != "" {
		return n.inside(dir)
	}
	return n.outside()
}

// variable returns the name of the environment variable that is set for the second run.
// Its value is the directory of the run.
func (n Namespaces) variable() string {
	return "NETWORKPROXY_" + strings.ToUpper(strings.ReplaceAll(n.Suite, "/", "_")) + "_DIR"
}

func (n Namespaces) outside() int {
	dir, err := os.MkdirTemp("", "networkproxy-"+strings.ReplaceAll(n.Suite, "/", "-")+"-")
	if err != nil {
		return n.fail("create a directory for the run", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the suites have ordinary users
		return n.fail("open the directory of the run", err)
	}
	if err := n.Build(dir); err != nil {
		return n.fail("build the program", err)
	}
	code, err := n.runAgain(dir)
	if err != nil {
		return n.fail("enter a network namespace (this suite needs root)", err)
	}
	return code
}

// runAgain runs this binary in the namespaces and returns its exit code.
func (n Namespaces) runAgain(dir string) (int, error) {
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
	cmd.Env = append(os.Environ(), n.variable()+"="+dir)
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

func (n Namespaces) inside(dir string) int {
	if err := n.prepareNetwork(); err != nil {
		return n.fail("prepare the network namespace", err)
	}
	if err := n.prepareFiles(dir); err != nil {
		return n.fail("prepare the mount namespace", err)
	}
	return n.Run(dir)
}

// prepareNetwork adds the addresses to the loopback device. It also checks that there is
// no other device through which traffic could leave.
func (n Namespaces) prepareNetwork() error {
	if err := ip("link", "set", "lo", "up"); err != nil {
		return err
	}
	for _, addr := range n.Addrs {
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

// prepareFiles hides files with bind mounts in this mount namespace.
func (n Namespaces) prepareFiles(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	for target, content := range n.Files {
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

func (n Namespaces) fail(doing string, err error) int {
	fmt.Fprintf(os.Stderr, "%s: %s: %v\n", n.Suite, doing, err)
	return 1
}

// BuildProgram builds cmd/networkproxy as the file at path. With race it has the race
// detector, if there is a C compiler.
func BuildProgram(path string, race bool) error {
	args := []string{"build", "-o", path}
	switch {
	case race && haveCompiler():
		args = append(args, "-race")
	case race:
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
