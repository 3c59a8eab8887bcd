package filelock

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// lockedPath is the variable with the file that TestMain locks in a process of its own.
const lockedPath = "FILELOCK_TEST_PATH"

// TestMain locks a file until its standard input ends, if the environment names one.
func TestMain(m *testing.M) {
	path := os.Getenv(lockedPath)
	if path == "" {
		os.Exit(m.Run())
	}
	if _, err := TryFile(path); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("locked\n")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0) // without closing the file
}

// The tests are not parallel, because a process that is started has a copy of every
// lock until its program begins.

func TestLocksExclude(t *testing.T) {
	for name, try := range map[string]func(string) (*os.File, error){"file": TryFile, "directory": TryDir} {
		t.Run(name, func(t *testing.T) {
			path := t.TempDir()
			if name == "file" {
				path = filepath.Join(path, "lock")
			}
			lock, err := try(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := try(path); !errors.Is(err, ErrInUse) {
				t.Errorf("a second lock: got %v, want %v", err, ErrInUse)
			}
			if err := lock.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := try(path)
			if err != nil {
				t.Fatalf("after the end of the lock: %v", err)
			}
			again.Close()
		})
	}
}

// TestLockEndsWithItsProcess locks a file in another process and ends it.
func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), lockedPath+"="+path)
	stdin, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "locked\n" {
		t.Fatalf("the other process: %q (%v)", line, err)
	}
	if _, err := TryFile(path); !errors.Is(err, ErrInUse) {
		t.Errorf("while the other process runs: got %v, want %v", err, ErrInUse)
	}
	stdin.Close()
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	lock, err := TryFile(path)
	if err != nil {
		t.Fatalf("after the end of the other process: %v", err)
	}
	lock.Close()
}

// TestLocksFollowNoLink keeps a lock from creating or opening a file elsewhere.
func TestLocksFollowNoLink(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("ordinary users cannot make symbolic links on Windows")
	}
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if _, err := TryFile(link); err == nil {
		t.Error("TryFile follows a link to no file")
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("TryFile has created the target of the link")
	}
	if err := os.Mkdir(target, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := TryDir(link); err == nil {
		t.Error("TryDir follows a link")
	}
	if _, err := TryDir(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("TryDir of a missing directory: got %v", err)
	}
}
