//go:build darwin || (linux && (amd64 || arm64))

package fence

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/seatbelt"
)

// standIn returns the path of a program that prints its arguments in place of sandbox-exec,
// each followed by a NUL.
func standIn(t *testing.T) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "sandbox-exec")
	if err := os.WriteFile(p, []byte("#!/bin/sh\nprintf '%s\\0' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func proxiesAt(ports ...uint16) (list []netip.AddrPort) {
	for _, port := range ports {
		list = append(list, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port))
	}
	return list
}

func TestStartWithProfile(t *testing.T) {
	t.Parallel()
	config := Config{Proxies: proxiesAt(3128, 1080), UnixSockets: []string{"/var/run/a b.sock"}}
	text, err := seatbelt.Profile{Ports: []uint16{3128, 1080}, UnixSockets: config.UnixSockets}.Text()
	if err != nil {
		t.Fatal(err)
	}
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command("sh", "-c", "exit $1", "sh", "3")
	cmd.Stdout = &out
	room, err := startWithProfile(cmd, config, standIn(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	want := strings.Join([]string{"-p", text, "--", sh, "-c", "exit $1", "sh", "3", ""}, "\x00")
	if out.String() != want {
		t.Errorf("sandbox-exec gets the arguments %q, want %q", out.String(), want)
	}
	r := room.Report()
	if !r.Profile || !r.Sealed() || r.Complete() || r.AllPorts || r.UDP || !r.Enforced.TCP || !r.Enforced.UDP || !r.Enforced.UnixPath || r.Enforced.Ptrace || r.Enforced.Signals {
		t.Errorf("the report is %+v, want that of a profile", r)
	}
	if len(r.Problems) != 1 || r.Problems[0].Error != "generated; not verified on a Mac" {
		t.Errorf("the problems are %+v, want that nobody has tried the profile", r.Problems)
	}
	if err := room.Close(); err != nil {
		t.Error(err)
	}
}

func TestProfileTellsWhatIsMissing(t *testing.T) {
	t.Parallel()
	config := Config{UDP: true, Proxies: proxiesAt(3128), Listen: proxiesAt(3128, 5432)}
	p, r, err := config.profile()
	if err != nil || !slices.Equal(p.Ports, []uint16{3128}) {
		t.Errorf("the ports are %v, %v; want that of the proxy only", p.Ports, err)
	}
	var parts []string
	for _, problem := range r.Problems {
		parts = append(parts, problem.Part)
	}
	if want := []string{"sandbox profile", "UDP", "local targets"}; !slices.Equal(parts, want) {
		t.Errorf("the problems are about %q, want %q", parts, want)
	}
}

// A command that cannot have a profile does not start, and stays as it was.
func TestProfileRefusals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "text"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	program := standIn(t)
	for _, test := range []struct {
		name    string
		cmd     *exec.Cmd
		config  Config
		program string
		want    string
	}{
		{"proxy elsewhere", exec.Command("true"), Config{Proxies: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:80")}}, program, "fence: proxies: the proxy listens at 192.0.2.1:80"},
		{"another loopback address", exec.Command("true"), Config{Proxies: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.2:80")}}, program, "fence: proxies: the proxy listens at 127.0.0.2:80"},
		{"socket", exec.Command("true"), Config{UnixSockets: []string{"/a\nb"}}, program, `seatbelt: the path of the Unix socket "/a\nb" has a control`},
		{"no such command", exec.Command("/no/such/command"), Config{}, program, "stat /no/such/command"},
		{"no such command in PATH", exec.Command("no-such-command-at-all"), Config{}, program, `exec: "no-such-command-at-all"`},
		{"directory", exec.Command(dir), Config{}, program, "exec " + dir},
		{"not executable", exec.Command(filepath.Join(dir, "text")), Config{}, program, "exec " + filepath.Join(dir, "text")},
		{"no sandbox-exec", exec.Command("true"), Config{}, filepath.Join(dir, "absent"), "fence: sandbox-exec: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			path, args := test.cmd.Path, slices.Clone(test.cmd.Args)
			room, err := startWithProfile(test.cmd, test.config, test.program)
			if room != nil || err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("startWithProfile returns %v, %v; want an error that begins with %q", room, err, test.want)
			}
			if test.cmd.Process != nil || test.cmd.Path != path || !slices.Equal(test.cmd.Args, args) {
				t.Errorf("the command is %q %q, process %v; want it as before", test.cmd.Path, test.cmd.Args, test.cmd.Process)
			}
		})
	}
}

func TestExecutable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "tool"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"tool", "./tool"} {
		if got, err := executable(&exec.Cmd{Path: path, Dir: dir}); err != nil || got != "./tool" {
			t.Errorf("%s is executed as %q, %v; want ./tool", path, got, err)
		}
	}
	if _, err := executable(&exec.Cmd{Path: "tool"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not in the directory: %v", err)
	}
}

// A profile does not hold an inherited socket that is open already.
func TestProfileRefusesSockets(t *testing.T) {
	t.Parallel()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { udp.Close() })
	socket, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	pair := func(kind int) *os.File {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, kind, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Close(fds[1]) })
		return os.NewFile(uintptr(fds[0]), "socket")
	}
	stream, datagrams := pair(syscall.SOCK_STREAM), pair(syscall.SOCK_DGRAM)
	t.Cleanup(func() { socket.Close(); stream.Close(); datagrams.Close() })
	for name, test := range map[string]struct {
		cmd     exec.Cmd
		refused bool
	}{
		"UDP as standard input":     {exec.Cmd{Stdin: socket}, true},
		"UDP as standard output":    {exec.Cmd{Stdout: socket}, true},
		"UDP as standard error":     {exec.Cmd{Stderr: socket}, true},
		"UDP as extra file":         {exec.Cmd{ExtraFiles: []*os.File{nil, stream, socket}}, true},
		"Unix datagrams":            {exec.Cmd{Stdin: datagrams}, true},
		"connected Unix stream":     {exec.Cmd{Stdin: stream}, false},
		"none":                      {exec.Cmd{ExtraFiles: []*os.File{nil}}, false},
		"a reader that is no file":  {exec.Cmd{Stdin: strings.NewReader("")}, false},
		"the file of a null device": {exec.Cmd{Stdin: openNull(t)}, false},
	} {
		if err := checkProfiled(&test.cmd); (err != nil) != test.refused {
			t.Errorf("%s: %v, want an error: %t", name, err, test.refused)
		}
	}
}

func openNull(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}
