//go:build e2e && linux

// This file runs commands in fences, as root and as an ordinary user, without any proxy
// variable.

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/e2e/harness"
)

// resident is a user of the machine that runs the program, with a directory of its own.
type resident struct {
	name string
	id   int
	home string

	// forbidden runs the fences of this user where the system forbids user namespaces.
	forbidden bool
}

// residents returns root and an ordinary user. Their directories hold the scripts of
// testdata and a Go program without cgo.
var residents = sync.OnceValues(func() ([]resident, error) {
	ordinary, err := user.Lookup("www-data") // every Debian machine has it
	if err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(ordinary.Uid)
	if err != nil {
		return nil, err
	}
	all := []resident{{name: "root"}, {name: ordinary.Username, id: id}}
	build := exec.Command("go", "build", "-o", filepath.Join(lab.dir, "fetch"), "testdata/fetch.go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod", "GOTOOLCHAIN=local")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build testdata/fetch.go: %w: %s", err, out)
	}
	for i := range all {
		all[i].home = filepath.Join(lab.dir, "home-"+all[i].name)
		if err := os.CopyFS(all[i].home, os.DirFS("testdata")); err != nil {
			return nil, err
		}
		if err := os.Chown(all[i].home, all[i].id, all[i].id); err != nil {
			return nil, err
		}
	}
	return all, nil
})

// forEachResident runs a test for each user.
func forEachResident(t *testing.T, test func(t *testing.T, r resident)) {
	t.Helper()
	all, err := residents()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			test(t, r)
		})
	}
}

// dir makes a directory of r for one test.
func (r resident) dir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(r.home, lab.unique("dir"))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, r.id, r.id); err != nil {
		t.Fatal(err)
	}
	return dir
}

// command returns a command that r runs.
func (r resident) command(t *testing.T, name string, args ...string) *exec.Cmd {
	cmd := directCommand(t, name, args...)
	cmd.Dir = r.home
	cmd.Env = append(clientEnv(r.home), "GORACE=atexit_sleep_ms=10")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.id), Gid: uint32(r.id)}}
	return cmd
}

// fenced is the result of a command that ran in a fence.
type fenced struct {
	harness.Result
	summary fencedSummary
}

// fencedSummary is the part of the summary of run that the tests read.
type fencedSummary struct {
	Allowed, Refused, Failed int
	Refusals                 []fencedRefusal
	Fence                    *networkproxy.FenceReport
}

type fencedRefusal struct {
	Host     string
	Port     int
	Protocol networkproxy.Protocol
	Reason   networkproxy.Reason
	Count    int
}

// String returns the refusal in one line: "host:port protocol reason count".
func (r fencedRefusal) String() string {
	return fmt.Sprintf("%s:%d %s %s %d", r.Host, r.Port, r.Protocol, r.Reason, r.Count)
}

// fencedCommand returns the command of run -fence for a command whose environment has
// no variables but those of clientEnv and env.
func (r resident) fencedCommand(t *testing.T, summary string, flags, env []string, argv ...string) *exec.Cmd {
	t.Helper()
	args := append([]string{"run", "-fence", "-json-file", summary}, flags...)
	args = append(args, "--", "env", "-i")
	args = append(args, clientEnv(r.home)...)
	args = append(args, "NODE_EXTRA_CA_CERTS="+lab.ca.file)
	args = append(args, env...)
	cmd := r.command(t, lab.program(), append(args, argv...)...)
	if r.forbidden {
		harness.ForbidNamespaces(t, cmd)
	}
	return cmd
}

// fence runs a command in a fence to its end. It fails the test if there was no fence.
func (r resident) fence(t *testing.T, flags, env []string, argv ...string) fenced {
	t.Helper()
	file := filepath.Join(r.dir(t), "summary.json")
	got := fenced{Result: harness.Run(t, r.fencedCommand(t, file, flags, env, argv...))}
	got.summary = readFencedSummary(t, file, got.Stderr)
	if m := got.summary.Fence.Mechanism; (m == "notification") != r.forbidden {
		t.Fatalf("the mechanism of the fence is %s", m)
	}
	return got
}

func readFencedSummary(t *testing.T, file, stderr string) (s fencedSummary) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatalf("the summary %q: %v\n%s", text, err, stderr)
	}
	if s.Fence == nil || s.Fence.Level != networkproxy.FenceCapture || !s.Fence.AllPorts {
		t.Fatalf("the report of the fence is %+v, want the level capture and all ports\n%s", s.Fence, stderr)
	}
	return s
}

// refusals returns the lines of all refusals.
func (f fenced) refusals() string {
	var lines []string
	for _, r := range f.summary.Refusals {
		lines = append(lines, r.String())
	}
	return strings.Join(lines, "\n")
}

// wantRefusal fails the test unless there was exactly one refusal.
func (f fenced) wantRefusal(t *testing.T, want string) {
	t.Helper()
	if got := f.refusals(); got != want {
		t.Errorf("%s\nrecorded the refusals\n%s\nwant\n%s\nexit %d\nstdout: %s\nstderr: %s", f.Name, got, want, f.Exit, f.Stdout, f.Stderr)
	}
}
