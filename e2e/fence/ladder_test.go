//go:build e2e && linux

// This file starts hosts under conditions in which a room lacks something.

package fence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/fence"
	"example.com/networkproxy/internal/seccomp"
)

// runHost is the stage of a host: it starts its arguments in a room, prints the report or the
// error, and serves the room.
func runHost(args []string) error {
	config, err := configOfHost()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		return printProbe(config)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	room, err := fence.Start(cmd, config)
	if err != nil {
		return err
	}
	r := room.Report()
	if r.Mechanism == fence.Notification {
		fmt.Print("notification, ")
	}
	fmt.Printf("all ports %v, IPv6 %v, unix %s, complete %v\n", r.AllPorts, r.IPv6, r.UnixSockets, r.Complete())
	newHost().serve(room)
	err = cmd.Wait()
	room.Close()
	return errors.Join(err, errors.New("exit"))
}

// configOfHost returns the configuration that the environment of a host has.
func configOfHost() (fence.Config, error) {
	var c hostConfig
	if err := json.Unmarshal([]byte(os.Getenv(configEnv)), &c); err != nil {
		return fence.Config{}, err
	}
	config := fence.Config{UDP: c.UDP, Listen: c.Listen, Ports: c.Ports, UnixSockets: c.UnixSockets, NoNested: c.NoNested}
	if c.AcceptAny {
		config.Accept = func(fence.Report) error { return nil }
	}
	return config, nil
}

// printProbe prints the report of a probe.
func printProbe(config fence.Config) error {
	r, err := fence.Probe(context.Background(), config)
	if err != nil {
		return err
	}
	fmt.Printf("mechanism %s, complete %v, enforced %v", r.Mechanism, r.Complete(), r.Enforced)
	for _, p := range r.Problems {
		fmt.Printf(", problem %s", p.Part)
	}
	return errors.New("")
}

// configEnv is the environment variable with the hostConfig of a host.
const configEnv = "NETWORKPROXY_FENCE_CONFIG"

// hostConfig is the part of a configuration that a host can be told.
type hostConfig struct {
	UDP, NoNested, AcceptAny bool
	Ports                    []uint16
	UnixSockets              []string
	Listen                   []netip.AddrPort
}

// hostCommand returns a command that is a host, which starts args in a room. If complete is not
// set, it accepts every room.
func hostCommand(t *testing.T, config fence.Config, complete bool, args ...string) *exec.Cmd {
	t.Helper()
	cmd := intruder(t, "host", args...)
	b, err := json.Marshal(hostConfig{UDP: config.UDP, NoNested: config.NoNested, AcceptAny: !complete, Ports: config.Ports, UnixSockets: config.UnixSockets, Listen: config.Listen})
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, configEnv+"="+string(b))
	return cmd
}

// underFilter runs a command whose thread has a seccomp filter.
func underFilter(t *testing.T, cmd *exec.Cmd, listener bool, rules ...seccomp.Rule) string {
	t.Helper()
	program, err := seccomp.Assemble(seccomp.Native(), uint16(syscall.ENOSYS), rules...)
	if err != nil {
		t.Fatal(err)
	}
	return underProgram(t, cmd, listener, program)
}

func underProgram(t *testing.T, cmd *exec.Cmd, listener bool, program []seccomp.Instruction) string {
	t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	errs := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		err := seccomp.NoNewPrivs()
		if err == nil && listener {
			var fd int
			fd, err = seccomp.InstallWithListener(program)
			defer syscall.Close(fd)
		} else if err == nil {
			err = seccomp.Install(program)
		}
		if err == nil {
			err = cmd.Run()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		t.Errorf("%s: %v", strings.Join(cmd.Args, " "), err)
	}
	return out.String()
}

// Without nf_tables, there is no complete room. A room for some ports is possible.
func TestWithoutNFTables(t *testing.T) {
	t.Parallel()
	const netfilter = 12
	noTables := seccomp.RefuseValues("socket", 2, uint16(syscall.EPROTONOSUPPORT), netfilter)
	got := underFilter(t, hostCommand(t, fence.Config{}, false, "true"), false, noTables)
	if want := "fence: nf_tables: open a netlink socket: protocol not supported; use a kernel with nf_tables"; !strings.HasPrefix(got, want) {
		t.Errorf("without ports, the host says %q", got)
	}
	ports := fence.Config{Ports: []uint16{80, 8080}}
	got = underFilter(t, hostCommand(t, ports, true, "true"), false, noTables)
	if want := "fence: the room is not complete: nf_tables: open a netlink socket"; !strings.HasPrefix(got, want) {
		t.Errorf("with ports, the host says %q", got)
	}
	cmd := hostCommand(t, ports, false, "sh", "-c", `
		curl -sS --noproxy '*' http://hello.test:8080/
		curl -6 -sS --noproxy '*' http://hello.test/
		curl -sS --noproxy '*' http://hello.test:81/ >&2 || echo "status $?"`)
	got = underFilter(t, cmd, false, noTables)
	if want := "all ports false, IPv6 true, unix broker, complete false\ncaptured hello.test:8080\ncaptured hello.test:80\ncurl: (7)"; !strings.HasPrefix(got, want) || !strings.Contains(got, "status 7") {
		t.Errorf("with ports, the room says %q, want %q", got, want)
	}
}

// Without IPv6, a room works over IPv4.
func TestWithoutIPv6(t *testing.T) {
	t.Parallel()
	cmd := hostCommand(t, fence.Config{UDP: true}, true, "curl", "-4", "-sS", "--noproxy", "*", "http://hello.test/")
	got := underFilter(t, cmd, false, seccomp.RefuseValues("socket", 0, uint16(syscall.EAFNOSUPPORT), syscall.AF_INET6))
	if want := "all ports true, IPv6 false, unix broker, complete true\ncaptured hello.test:80\nexit\n"; got != want {
		t.Errorf("the host says %q, want %q", got, want)
	}
}

// With another supervisor of system calls, unix sockets can be hidden only.
func TestWithAnotherSupervisor(t *testing.T) {
	t.Parallel()
	idle := seccomp.Notify("request_key") // nobody calls it
	got := underFilter(t, hostCommand(t, fence.Config{}, true, "true"), true, idle)
	if want := "fence: the room is not complete: seccomp notification: device or resource busy; another program supervises"; !strings.HasPrefix(got, want) {
		t.Errorf("the host says %q, want %q", got, want)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "socket with a space")
	greet(t, "unix", path)
	allowed := filepath.Join(dir, "allowed")
	greet(t, "unix", allowed)
	for name, want := range map[string]string{path: "connection refused\n", allowed: "out\n"} {
		cmd := hostCommand(t, fence.Config{UnixSockets: []string{allowed}}, false, "env", stageEnv+"=unix", intruder(t, "unix").Path, name)
		got = underFilter(t, cmd, true, idle)
		if want := "all ports true, IPv6 true, unix hidden, complete false\n" + want + "exit\n"; got != want {
			t.Errorf("the host says %q, want %q", got, want)
		}
	}
}

// A fence in a fence is not complete, and says so.
func TestNestedFence(t *testing.T) {
	t.Parallel()
	got := insideWith(t, newHost(), fence.Config{}, hostCommand(t, fence.Config{}, true, "true"))
	if want := "fence: the room is not complete: seccomp notification: device or resource busy; another program supervises"; !strings.HasPrefix(got, want) {
		t.Errorf("the inner host says %q, want %q", got, want)
	}
	got = insideWith(t, newHost(), fence.Config{}, hostCommand(t, fence.Config{}, false, "curl", "-sS", "--noproxy", "*", "http://hello.test/"))
	if want := "all ports true, IPv6 true, unix hidden, complete false\ncaptured hello.test:80\nexit"; got != want {
		t.Errorf("the inner host says %q, want %q", got, want)
	}
}

// Without user namespaces, and with another supervisor, there is no room. The error says why.
func TestWithoutUserNamespaces(t *testing.T) {
	t.Parallel()
	got := insideWith(t, newHost(), fence.Config{NoNested: true}, hostCommand(t, fence.Config{}, false, "true"))
	if want := "fence: namespaces: clone: no space left on device; raise /proc/sys/user/max_user_namespaces"; !strings.HasPrefix(got, want) || !strings.Contains(got, "; without namespaces: seccomp notification: device or resource busy; another program supervises") {
		t.Errorf("the host says %q, want %q", got, want)
	}
	out, _ := tryInRoom(t, newHost(), fence.Config{NoNested: true}, command(t, "unshare", "-Ur", "true"))
	if want := "No space left on device"; !strings.Contains(out, want) {
		t.Errorf("unshare says %q, want %q", out, want)
	}
	if out, err := tryInRoom(t, newHost(), fence.Config{}, command(t, "unshare", "-Urn", "true")); err != nil {
		t.Errorf("with nested namespaces, unshare says %q, %v", out, err)
	}
}

// If the host is killed, what runs in the room has no way out.
func TestHostKilled(t *testing.T) {
	t.Parallel()
	addr := address(4, 80)
	unix := filepath.Join(t.TempDir(), "socket")
	greet(t, "unix", unix)
	cmd := hostCommand(t, fence.Config{}, true, "sh", "-c", fmt.Sprintf(`
		read line
		curl -sS -m 5 --noproxy '*' http://hello.test/ 2>&1
		echo "curl $?"
		curl -sS -m 5 --noproxy '*' http://%s/ 2>&1
		echo "curl $?"
		curl -sS -m 5 --noproxy '*' --unix-socket %s http://x/ 2>&1
		echo "curl $?"`, addr, unix))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	b := make([]byte, 200)
	if n, err := r.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "all ports") {
		t.Fatalf("the host says %q, %v", b[:n], err)
	}
	cmd.Process.Kill()
	cmd.Process.Wait()
	stdin.Write([]byte("\n"))
	stdin.Close()
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(out), "curl 0") || strings.Count(string(out), "\ncurl ") != 3 {
		t.Errorf("after the host was killed, the command says %q", out)
	}
	nothingCaught(t, "tcp "+addr)
}

// Sockets in cmd.ExtraFiles are refused, except connections between processes.
func TestExtraFiles(t *testing.T) {
	t.Parallel()
	_, tcp := tcpPair(t)
	cmd := exec.Command("true")
	cmd.ExtraFiles = []*os.File{tcp}
	if _, err := fence.Start(cmd, fence.Config{}); err == nil || !strings.Contains(err.Error(), "ExtraFiles") {
		t.Errorf("Start with a TCP socket returns %v", err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	defer ours.Close()
	cmd = command(t, "sh", "-c", "echo hello >&4; ls /proc/self/fd | tr '\n' ' '")
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	cmd.ExtraFiles = []*os.File{null, theirs}
	out, err := tryInRoom(t, newHost(), fence.Config{}, cmd)
	theirs.Close()
	if err != nil || out != "0 1 2 3 4 5 " { // 5 is the directory that ls reads
		t.Errorf("the command has the descriptors %q, %v", out, err)
	}
	if b, err := io.ReadAll(ours); err != nil || string(b) != "hello\n" {
		t.Errorf("the command sends %q, %v", b, err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	udp, err := conn.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	cmd = exec.Command("true")
	cmd.Stdin = udp
	if _, err := fence.Start(cmd, fence.Config{}); err == nil || !strings.Contains(err.Error(), "standard input is a socket that is not a stream") {
		t.Errorf("Start with a UDP socket as standard input returns %v", err)
	}
}

// A death signal is sent when the host has ended, and not before.
func TestDeathSignal(t *testing.T) {
	t.Parallel()
	cmd := command(t, "sh", "-c", "read line; echo alive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd.Stdout = &out
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	// Threads that are not needed end meanwhile.
	for range 50 {
		done := make(chan bool)
		go func() {
			runtime.LockOSThread()
			close(done)
		}()
		<-done
	}
	stdin.Write([]byte("\n"))
	if err := cmd.Wait(); err != nil || out.String() != "alive\n" {
		t.Errorf("the command says %q, %v", out.String(), err)
	}
	room.Close()
}
