//go:build e2e && linux

// This file runs the test binary in a laboratory: namespaces whose default route leads to
// a device that a catcher reads.

package fence

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Environment variables of the stages.
const (
	stageEnv  = "NETWORKPROXY_FENCE_STAGE" // laboratory, tests or the name of an intruder
	dirEnv    = "NETWORKPROXY_FENCE_DIR"   // directory of the run
	userEnv   = "NETWORKPROXY_FENCE_USER"
	setuidEnv = "NETWORKPROXY_FENCE_SETUID" // a copy of id(1) with the set-user-ID bit
	ordinary  = 64321                       // id of an ordinary user
	catcherFD = 3
	queuesDir = "/mnt" // in the laboratory
)

func TestMain(m *testing.M) {
	switch stage := os.Getenv(stageEnv); stage {
	case "":
		os.Exit(runStages())
	case "laboratory":
		os.Exit(runLaboratory())
	case "tests":
		os.Exit(m.Run())
	default:
		os.Exit(intrude(stage))
	}
}

// runStages runs the tests as root and as an ordinary user.
func runStages() int {
	dir, err := os.MkdirTemp("", "networkproxy-fence-")
	if err != nil {
		return fail("create a directory for the run", err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		return fail("open the directory of the run", err)
	}
	self, err := copySelf(dir)
	if err != nil {
		return fail("copy the test binary", err)
	}
	setuid := filepath.Join(dir, "id")
	if err := copyFile("/usr/bin/id", setuid); err != nil {
		return fail("copy id", err)
	}
	if err := os.Chmod(setuid, 0o755|os.ModeSetuid); err != nil {
		return fail("set the set-user-ID bit", err)
	}
	code := 0
	for _, id := range []int{0, ordinary} {
		fmt.Printf("fence: as user %d\n", id)
		home := filepath.Join(dir, strconv.Itoa(id))
		if err := errors.Join(os.Mkdir(home, 0o700), os.Chown(home, id, id)); err != nil {
			return fail("create a home directory", err)
		}
		// A pass must not be cached: the inputs of the tests are not known to the go command.
		args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool {
			return strings.HasPrefix(arg, "-test.testlogfile=")
		})
		cmd := exec.Command(self, args...)
		cmd.Env = append(os.Environ(), stageEnv+"=laboratory", dirEnv+"="+home, userEnv+"="+strconv.Itoa(id), setuidEnv+"="+setuid)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
		code = max(code, runStage(cmd))
	}
	return code
}

func runStage(cmd *exec.Cmd) int {
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	// Pdeathsig also fires if the thread that started the child ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		return fail("run a stage (the suite needs root)", err)
	}
	return 0
}

func copySelf(dir string) (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	self := filepath.Join(dir, "fence.test")
	return self, copyFile(path, self)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// runLaboratory prepares the namespaces and runs the tests in them.
func runLaboratory() int {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fail("make the mounts private", err)
	}
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "out0", "type", "veth", "peer", "name", "catch0"},
		// Without ARP, the first packet to an address is the packet itself.
		{"link", "set", "out0", "arp", "off", "addrgenmode", "none", "up"},
		{"link", "set", "catch0", "arp", "off", "addrgenmode", "none", "up"},
		{"addr", "add", outsideAddr4.String() + "/24", "dev", "out0"},
		{"addr", "add", outsideAddr6.String() + "/64", "dev", "out0", "nodad"},
		{"route", "add", "default", "dev", "out0"},
		{"-6", "route", "add", "default", "dev", "out0"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fail("ip "+strings.Join(args, " ")+": "+string(out), err)
		}
	}
	// Many systems and containers show POSIX message queues as files.
	if err := syscall.Mount("mqueue", queuesDir, "mqueue", 0, ""); err != nil {
		return fail("mount the message queues of the machine", err)
	}
	catcher, err := openCatcher("catch0")
	if err != nil {
		return fail("open the catcher", err)
	}
	id, err := strconv.Atoi(os.Getenv(userEnv))
	if err != nil {
		return fail("read the user", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail("find the test binary", err)
	}
	home := os.Getenv(dirEnv)
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Dir = home
	cmd.Env = append(os.Environ(), stageEnv+"=tests", "HOME="+home, "TMPDIR="+home)
	cmd.ExtraFiles = []*os.File{catcher}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(id), Gid: uint32(id)}}
	return runStage(cmd)
}

// The addresses of the laboratory.
var (
	outsideAddr4 = netip.MustParseAddr("203.0.113.1")
	outsideAddr6 = netip.MustParseAddr("2001:db8::1")
)

// openCatcher opens a socket that receives every packet of a device.
func openCatcher(device string) (*os.File, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	const allProtocols = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, allProtocols)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: allProtocols, Ifindex: dev.Index}); err != nil {
		return nil, err
	}
	// No packet may be lost, also if the catcher is late on a busy machine.
	const queue = 32 << 20
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, queue); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), "catcher"), nil
}

func fail(doing string, err error) int {
	fmt.Fprintf(os.Stderr, "fence: %s: %v\n", doing, err)
	return 1
}
