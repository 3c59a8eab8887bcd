//go:build e2e && linux

package fence

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/fence"
	"example.com/networkproxy/internal/testnet"
)

// Programs reach the host by name, over both families, at every port.
func TestClients(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args []string
		want string
	}{
		{"curl", []string{"curl", "-sS", "--noproxy", "*", "http://hello.test:8080/"}, "captured hello.test:8080\n"},
		{"curl over IPv4", []string{"curl", "-4", "-sS", "--noproxy", "*", "http://hello.test/"}, "captured hello.test:80\n"},
		{"curl over IPv6", []string{"curl", "-6", "-sS", "--noproxy", "*", "http://hello.test/"}, "captured hello.test:80\n"},
		{"curl to an address", []string{"curl", "-sS", "--noproxy", "*", "http://192.0.2.7:99/"}, "captured 192.0.2.7:99\n"},
		{"curl to an IPv6 address", []string{"curl", "-sS", "--noproxy", "*", "http://[2001:db8:7::7]:65535/"}, "captured 2001:db8:7::7:65535\n"},
		{"wget", []string{"wget", "-q", "--no-proxy", "-O", "-", "http://hello.test/"}, "captured hello.test:80\n"},
		{"python", []string{"/usr/bin/python3", "-c", "import urllib.request as u; print(u.build_opener(u.ProxyHandler({})).open('http://hello.test/').read().decode(), end='')"}, "captured hello.test:80\n"},
		{"node", []string{"node", "-e", "fetch('http://hello.test/').then(r => r.text()).then(s => process.stdout.write(s))"}, "captured hello.test:80\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := runInRoom(t, newHost(), fence.Config{}, test.args...); got != test.want {
				t.Errorf("%s prints %q, want %q", test.args[0], got, test.want)
			}
		})
	}
}

// A name server that a command asks answers from its own address, over UDP and TCP.
func TestNameServers(t *testing.T) {
	t.Parallel()
	h := newHost()
	script := `
import socket, struct, sys
q = b'\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05hello\x04test\x00\x00\x01\x00\x01'
for server in sys.argv[1:]:
    family = socket.AF_INET6 if ':' in server else socket.AF_INET
    u = socket.socket(family, socket.SOCK_DGRAM)
    u.settimeout(10)
    u.sendto(q, (server, 53))  # not connected: the kernel does not check the source
    answer, source = u.recvfrom(4096)
    assert source[:2] == (server, 53), source
    assert answer[:2] == b'\x12\x34', answer
    s = socket.create_connection((server, 53), 10)
    s.sendall(struct.pack('>H', len(q)) + q)
    assert s.recv(4096)[2:4] == b'\x12\x34'
print('ok')
`
	servers := []string{"8.8.8.8", "1.1.1.1", "127.0.0.1", "127.0.0.53", "192.0.2.1", "10.0.0.1", "2001:db8::53", "fd00:1::53", "::1", "2606:4700:4700::1111"}
	args := append([]string{"/usr/bin/python3", "-c", script}, servers...)
	if got := runInRoom(t, h, fence.Config{}, args...); got != "ok\n" {
		t.Errorf("the program prints %q", got)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range servers {
		n := 0
		for _, asked := range h.asked {
			if asked == "TypeA hello.test. "+s {
				n++
			}
		}
		if n != 2 {
			t.Errorf("the host saw %d queries to %s, want 2", n, s)
		}
	}
}

// Datagrams reach the host and come back from the address that they were sent to.
func TestDatagrams(t *testing.T) {
	t.Parallel()
	script := `
import socket, sys
for server, port in (('192.0.2.1', 123), ('2001:db8::7', 443), ('198.18.5.5', 5000)):
    for connected in (True, False):
        family = socket.AF_INET6 if ':' in server else socket.AF_INET
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(10)
        for size in (0, 1, 9, 1400, 60000):
            if connected:
                s.connect((server, port))
                s.send(b'x' * size)
            else:
                s.sendto(b'x' * size, (server, port))
            answer, source = s.recvfrom(65536)
            assert source[:2] == (server, port), source
            assert answer == b'echo ' + b'x' * size, answer[:20]
print('ok')
`
	cmd := command(t, "/usr/bin/python3", "-c", script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	room, err := fence.Start(cmd, fence.Config{UDP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	var targets []netip.AddrPort
	var mu sync.Mutex
	go func() {
		b := make([]byte, 65536)
		for {
			n, client, target, err := room.UDP.Receive(b)
			if err != nil {
				return
			}
			mu.Lock()
			targets = append(targets, target)
			mu.Unlock()
			if err := room.UDP.Send(append([]byte("echo "), b[:n]...), target, client); err != nil {
				t.Errorf("Send: %v", err)
			}
		}
	}()
	if err := cmd.Wait(); err != nil || out.String() != "ok\n" {
		t.Errorf("the program prints %q, %v", out.String(), err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(targets) != 30 {
		t.Errorf("the host received %d datagrams, want 30", len(targets))
	}
}

// Without Config.UDP, a datagram is refused at once.
func TestDatagramsRefused(t *testing.T) {
	t.Parallel()
	script := `
import socket
for server in ('192.0.2.1', '2001:db8::7'):
    s = socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(10)
    s.connect((server, 123))
    s.send(b'x')
    try:
        s.recv(10)
    except ConnectionRefusedError:
        print('refused')
`
	if got := runInRoom(t, newHost(), fence.Config{}, "/usr/bin/python3", "-c", script); got != "refused\nrefused\n" {
		t.Errorf("the program prints %q", got)
	}
}

// Servers in a room work, and are its own.
func TestOwnServers(t *testing.T) {
	t.Parallel()
	script := `
import socket
for family, addr in ((socket.AF_INET, '127.0.0.1'), (socket.AF_INET6, '::1'), (socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    s = socket.create_server((addr, 0), family=family)
    port = s.getsockname()[1]
    to = {'0.0.0.0': ['127.0.0.1', '198.18.0.1'], '::': ['::1', 'fd00:6e70::1']}.get(addr, [addr])
    for a in to:
        c = socket.create_connection((a, port), 10)
        p, _ = s.accept()
        p.sendall(b'own')
        assert c.recv(10) == b'own'
print('ok')
`
	if got := runInRoom(t, newHost(), fence.Config{}, "/usr/bin/python3", "-c", script); got != "ok\n" {
		t.Errorf("the program prints %q", got)
	}
}

// Addresses of Config.Listen lead to the host.
func TestListeners(t *testing.T) {
	t.Parallel()
	addrs := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:3128"), netip.MustParseAddrPort("[::1]:5432"), netip.MustParseAddrPort("127.0.0.1:80")}
	cmd := command(t, "/usr/bin/python3", "-c", `
import socket
for a in (('127.0.0.1', 3128), ('::1', 5432), ('127.0.0.1', 80)):
    print(socket.create_connection(a, 10).recv(100).decode())
`)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	room, err := fence.Start(cmd, fence.Config{Listen: addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	for i, ln := range room.Listeners {
		go func() {
			c, err := ln.Accept()
			if err == nil {
				fmt.Fprintf(c, "listener %d", i)
				c.Close()
			}
		}()
	}
	if err := cmd.Wait(); err != nil || out.String() != "listener 0\nlistener 1\nlistener 2\n" {
		t.Errorf("the program prints %q, %v", out.String(), err)
	}
}

// The exit status, signals and the standard streams are those of a command without a room.
func TestCommandBehavior(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (string, *os.ProcessState, error) {
		cmd := command(t, args...)
		out, err := tryInRoom(t, newHost(), fence.Config{}, cmd)
		return out, cmd.ProcessState, err
	}
	if _, state, _ := run("sh", "-c", "exit 42"); state.ExitCode() != 42 {
		t.Errorf("exit code is %d, want 42", state.ExitCode())
	}
	if _, state, _ := run("sh", "-c", "kill -TERM $$"); state.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("state is %v, want terminated", state)
	}
	if out, _, err := run("sh", "-c", "id -u; id -g; pwd"); err != nil || out != fmt.Sprintf("%d\n%d\n%s\n", os.Getuid(), os.Getgid(), mustGetwd(t)) {
		t.Errorf("ids and directory are %q, %v", out, err)
	}
	// Files of the user stay the user's.
	file := filepath.Join(t.TempDir(), "file")
	if _, _, err := run("touch", file); err != nil {
		t.Error(err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(file, &st); err != nil || int(st.Uid) != os.Getuid() || int(st.Gid) != os.Getgid() {
		t.Errorf("a file from the room belongs to %d:%d, %v", st.Uid, st.Gid, err)
	}
	cmd := command(t, "sh", "-c", `trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0.05; done`)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer room.Close()
	b := make([]byte, 100)
	n, _ := stdout.Read(b)
	cmd.Process.Signal(os.Interrupt)
	m, _ := stdout.Read(b[n:])
	cmd.Wait()
	if got := string(b[:n+m]); got != "ready\ncaught\n" || cmd.ProcessState.ExitCode() != 3 {
		t.Errorf("a command with a signal handler prints %q and exits with %v", got, cmd.ProcessState)
	}
	if err := (&exec.Cmd{Path: "/no/such/program"}); true {
		if _, startErr := fence.Start(err, fence.Config{}); !errors.Is(startErr, os.ErrNotExist) {
			t.Errorf("Start of a missing program returns %v", startErr)
		}
	}
}

func mustGetwd(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The superuser keeps its power over files, and has no other.
func TestRootFiles(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, ordinary, ordinary); err != nil {
		t.Fatal(err)
	}
	got := runInRoom(t, newHost(), fence.Config{}, "sh", "-c", `cat "$0" && chown 1234:1234 "$0" && stat -c %u "$0" && grep CapEff /proc/self/status`, file)
	const caps = "secret1234\nCapEff:\t00000000800405fb\n"
	if got != caps {
		t.Errorf("the command prints %q, want %q", got, caps)
	}
}

// manyRooms is the number of rooms of TestManyRooms. For the full test, run
//
//	go test -tags=e2e -timeout=0 -v -run=TestManyRooms ./e2e/fence -rooms=10000
var manyRooms = flag.Int("rooms", 200, "`number` of rooms that TestManyRooms starts")

// Many rooms, some at once, while the host allocates: none fails, and nothing is left.
func TestManyRooms(t *testing.T) {
	const workers = 8
	rooms := *manyRooms
	if testing.Short() {
		rooms = min(rooms, 40)
	}
	began := time.Now()
	before := resources(t)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			pace := time.NewTicker(10 * time.Microsecond)
			defer pace.Stop()
			for {
				select {
				case <-stop:
					return
				case <-pace.C:
					_ = make([]byte, 1<<14)
				}
			}
		})
	}
	jobs := make(chan int)
	var workersDone sync.WaitGroup
	for range workers {
		workersDone.Go(func() {
			for range jobs {
				cmd := exec.Command("true")
				room, err := fence.Start(cmd, fence.Config{UDP: true})
				if err != nil {
					t.Errorf("Start: %v", err)
					continue
				}
				if err := cmd.Wait(); err != nil {
					t.Errorf("Wait: %v", err)
				}
				room.Close()
			}
		})
	}
	for i := range rooms {
		jobs <- i
	}
	close(jobs)
	workersDone.Wait()
	close(stop)
	load.Wait()
	took := time.Since(began)
	waitForResources(t, before)
	t.Logf("%d rooms, %d at a time, in %v: %v each; before: %v; after: %v", rooms, workers, took.Round(time.Millisecond), (took / time.Duration(rooms)).Round(time.Microsecond), before, resources(t))
}

// waitForResources waits until this process holds no more than before. The runtime needs a
// moment to end threads.
func waitForResources(t *testing.T, before map[string]int) {
	t.Helper()
	if err := nothingLeft(before); err != nil {
		t.Error(err)
	}
}

func nothingLeft(before map[string]int) error {
	var after map[string]int
	var err error
	gone := testnet.Poll(timeout, func() bool {
		after, err = countResources()
		return err != nil || !exceeds(after, before)
	})
	if err == nil && !gone {
		err = fmt.Errorf("before: %v; after: %v", before, after)
	}
	return err
}

func exceeds(after, before map[string]int) bool {
	for name, n := range after {
		if n > before[name] && name != "threads" || name == "threads" && n > before[name]+20 {
			return true
		}
	}
	return false
}

// resources counts what this process holds.
func resources(t *testing.T) map[string]int {
	t.Helper()
	n, err := countResources()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func countResources() (map[string]int, error) {
	list := func(dir string) (names []string) {
		entries, _ := os.ReadDir(dir) // a thread or a child may have ended meanwhile
		for _, e := range entries {
			names = append(names, filepath.Join(dir, e.Name()))
		}
		return names
	}
	var err error
	lines := func(file, part string) (n int) {
		b, e := os.ReadFile(file)
		if e != nil {
			err = e
		}
		for line := range bytes.Lines(b) {
			if bytes.Contains(line, []byte(part)) {
				n++
			}
		}
		return n
	}
	var children []string
	filters := func(status string) string {
		b, _ := os.ReadFile(status)
		_, n, _ := strings.Cut(string(b), "Seccomp_filters:")
		n, _, _ = strings.Cut(n, "\n")
		return strings.TrimSpace(n)
	}
	tasks, usual, restricted := list("/proc/self/task"), filters("/proc/self/status"), 0
	for _, task := range tasks {
		if n := filters(filepath.Join(task, "status")); n != "" && n != usual {
			restricted++
		}
		b, _ := os.ReadFile(filepath.Join(task, "children"))
		children = append(children, strings.Fields(string(b))...)
	}
	namespaces := make(map[string]bool)
	for _, child := range children {
		tasks = append(tasks, "/proc/"+child)
	}
	for _, task := range tasks {
		for _, link := range list(filepath.Join(task, "ns")) {
			if target, err := os.Readlink(link); err == nil {
				namespaces[target] = true
			}
		}
	}
	const getDumpable = 3 // PR_GET_DUMPABLE
	dumpable, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, getDumpable, 0, 0)
	if errno != 0 {
		return nil, errno
	}
	n := map[string]int{
		"descriptors":  len(list("/proc/self/fd")),
		"threads":      len(tasks) - len(children),
		"restricted":   restricted, // threads that have more filters than others
		"goroutines":   runtime.NumGoroutine(),
		"children":     len(children),
		"namespaces":   len(namespaces),
		"mounts":       lines("/proc/self/mountinfo", ""),
		"scripts":      lines("/proc/self/maps", "/dev/zero"), // shared memory without a file
		"not dumpable": 1 - int(dumpable),
	}
	return n, err
}

// What still runs when the room is closed has no way out.
func TestCloseWhileRunning(t *testing.T) {
	t.Parallel()
	cmd := command(t, "sh", "-c", `read line; exec curl -sS --noproxy '*' -m 5 http://hello.test/`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	room, err := fence.Start(cmd, fence.Config{})
	if err != nil {
		t.Fatal(err)
	}
	room.Close()
	stdin.Write([]byte("\n"))
	if err := cmd.Wait(); err == nil {
		t.Errorf("curl succeeded after Close: %q", out.String())
	}
	if _, err := room.TCP[0].Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept after Close returns %v", err)
	}
	room.Close()
}

// A room that the host does not accept never runs the command.
func TestAccept(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	refusal := errors.New("no")
	var seen fence.Report
	cmd := command(t, "touch", file)
	_, err := fence.Start(cmd, fence.Config{Accept: func(r fence.Report) error {
		seen = r
		return refusal
	}})
	if err != refusal {
		t.Errorf("Start returns %v", err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the command ran")
	}
	if cmd.ProcessState == nil {
		t.Error("the process was not released")
	}
	if !seen.Complete() || !seen.AllPorts || !seen.IPv6 {
		t.Errorf("report is %+v, want a complete room", seen)
	}
}

// The report of a probe equals that of a room, and nothing is left of the probe.
func TestProbe(t *testing.T) {
	before := resources(t)
	for _, config := range []fence.Config{{}, {UDP: true}} {
		probed, err := fence.Probe(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		var room fence.Report
		config.Accept = func(r fence.Report) error {
			room = r
			return nil
		}
		runInRoom(t, newHost(), config, "true")
		if !reflect.DeepEqual(probed, room) || !probed.Complete() {
			t.Errorf("the probe reports %+v, the room %+v", probed, room)
		}
	}
	waitForResources(t, before)
}
