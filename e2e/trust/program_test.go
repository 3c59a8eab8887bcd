//go:build e2e && linux

// This file runs the program.

package trust_test

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// build builds the program in buildDir once and returns its path.
var build = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "networkproxy")
	out, err := exec.Command("go", "build", "-o", path, "../../cmd/networkproxy").CombinedOutput()
	if err != nil {
		err = errors.New(string(out))
	}
	return path, err
})

// command returns a command line of the program whose temporary files are in temp.
func command(t *testing.T, temp string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = parent(t, "TMPDIR="+temp)
	return cmd
}

// left returns the paths in a directory.
func left(t *testing.T, dir string) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if path != dir {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// TestRun: the command has the files, no file on the disk has a key, and nothing is left.
func TestRun(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	cmd := command(t, temp, "run", "-mitm", "-allow", "a.example", "--", "sh", "-c",
		`cat "$SSL_CERT_FILE" "$NODE_EXTRA_CA_CERTS" >/dev/null && grep -r "PRIVATE" "$TMPDIR"; find "$TMPDIR" -type f; ls -ld "$TMPDIR"/*`)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if err != nil || strings.Contains(text, "PRIVATE") || !strings.Contains(text, "/bundle.pem\n") || !strings.Contains(text, "\ndrwx------ ") {
		t.Errorf("%v:\n%s", err, text)
	}
	if paths := left(t, temp); len(paths) > 0 {
		t.Errorf("left: %q", paths)
	}
	cmd = command(t, temp, "run", "-allow", "a.example", "--", "sh", "-c", `echo "[$SSL_CERT_FILE$GIT_SSL_CAINFO$WGETRC]"; ls -A "$TMPDIR"`)
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "[]\n" {
		t.Errorf("without inspection: %v:\n%s", err, out)
	}
}

// TestKilled: the next start removes what a killed program has left, and nothing of one that runs.
func TestKilled(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	start := func() (*exec.Cmd, string) {
		cmd := command(t, temp, "run", "-mitm", "-allow", "a.example", "--", "sh", "-c", `echo "$SSL_CERT_FILE"; exec cat`)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		in, err := cmd.StdinPipe() // the command ends when Wait closes it
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return cmd, strings.TrimSpace(line)
	}
	stop := func(cmd *exec.Cmd, signal os.Signal) {
		if err := cmd.Process.Signal(signal); err != nil {
			t.Error(err)
		}
		cmd.Wait() // fails: a signal ended it
	}
	alive, kept := start()
	killed, stale := start()
	stop(killed, os.Kill)
	if _, err := os.Stat(stale); err != nil {
		t.Fatalf("before the next start: %v", err)
	}
	next, _ := start()
	if _, err := os.Stat(stale); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after the next start: %v", err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the files of a program that runs: %v", err)
	}
	stop(next, os.Interrupt)
	stop(alive, os.Interrupt)
	if paths := left(t, temp); len(paths) > 0 {
		t.Errorf("left: %q", paths)
	}
}

// TestFullDisk: the command is not started with fewer certificates.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	cmd := command(t, disk, "run", "-mitm", "-allow", "a.example", "--", "echo", "started")
	const script = `mount -t tmpfs -o size=64k none "$TMPDIR" || exit 77; "$@"; status=$?; find "$TMPDIR" -mindepth 1; exit $status`
	cmd.Args = append([]string{"unshare", "-rm", "sh", "-c", script, "sh"}, cmd.Args...)
	path, err := exec.LookPath("unshare")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path = path
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if cmd.ProcessState.ExitCode() == 77 {
		t.Fatal("this machine permits no mounts in a user namespace")
	}
	if cmd.ProcessState.ExitCode() != 1 || stdout.Len() > 0 || !strings.Contains(stderr.String(), "no space left on device") {
		t.Errorf("%v; %s; %s", err, &stdout, &stderr)
	}
}

// TestNoRootsOfTheSystem: without certificates of the system, the command is not started, unless its parent names some.
func TestNoRootsOfTheSystem(t *testing.T) {
	t.Parallel()
	own := newSite(t, newAuthority(t))
	for _, env := range []string{"A=b", "SSL_CERT_FILE=" + own.file} {
		cmd := command(t, t.TempDir(), "run", "-mitm", "-allow", "a.example", "--", "sh", "-c", `grep -c BEGIN "$SSL_CERT_FILE"`)
		const script = `for d in /etc/ssl /etc/pki; do [ ! -d $d ] || mount -t tmpfs none $d || exit 77; done; exec "$@"`
		cmd.Args = append([]string{"unshare", "-rm", "sh", "-c", script, "sh"}, cmd.Args...)
		path, err := exec.LookPath("unshare")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Path, cmd.Env = path, append(cmd.Env, env)
		out, err := cmd.CombinedOutput()
		switch named := env != "A=b"; {
		case cmd.ProcessState.ExitCode() == 77:
			t.Fatal("this machine permits no mounts in a user namespace")
		case named && (err != nil || string(out) != "2\n"):
			t.Errorf("with certificates of the parent: %v:\n%s", err, out)
		case !named && (cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "ca-certificates")):
			t.Errorf("without certificates: %v:\n%s", err, out)
		}
	}
}
