// Tests of the ca command.

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"example.com/networkproxy/internal/ca"
)

// The written files are an authority, and the command says how to configure it.
func TestCAWritesAnAuthority(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "ca")
	status, stdout, stderr := runProgram(nil, "ca", "-out", dir)
	if status != 0 || stderr != "" {
		t.Fatalf("exit status %d, %q", status, stderr)
	}
	shown := make(map[string]string)
	for _, m := range regexp.MustCompile(`(?m)^  (mitm_ca_cert|mitm_ca_key) = "(.*)"$`).FindAllStringSubmatch(stdout, -1) {
		shown[m[1]] = strings.ReplaceAll(m[2], `\\`, `\`)
	}
	a, err := ca.Load(shown["mitm_ca_cert"], shown["mitm_ca_key"])
	if err != nil {
		t.Fatalf("%v; the output is\n%s", err, stdout)
	}
	if !strings.Contains(stdout, a.NotAfter().UTC().Format("2006-01-02")) || !strings.Contains(stdout, "mitm = true") {
		t.Errorf("the output is\n%s", stdout)
	}
	if strings.Contains(stdout, "PRIVATE") || strings.Contains(read(t, shown["mitm_ca_cert"]), "PRIVATE") {
		t.Error("the key is not only in its file")
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]fs.FileMode{shown["mitm_ca_key"]: 0o600, dir: fs.ModeDir | 0o700} {
			if info, err := os.Stat(path); err != nil || info.Mode() != want {
				t.Errorf("%s: %v, %v, want the mode %v", path, info, err, want)
			}
		}
	}
	before := read(t, shown["mitm_ca_key"])
	if status, _, stderr := runProgram(nil, "ca", "-out", dir); status != 1 || !strings.Contains(stderr, "exists, and nothing was changed") {
		t.Errorf("a second time: exit status %d, %q", status, stderr)
	}
	if read(t, shown["mitm_ca_key"]) != before {
		t.Error("the key was replaced")
	}
}

// A relative directory is shown as an absolute one, because the configuration may be
// read from another directory.
func TestCAShowsAbsolutePaths(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	status, stdout, stderr := runProgram(nil, "ca", "-out", "here")
	if want := "mitm_ca_key = "; status != 0 || !strings.Contains(stdout, want) || strings.Contains(stdout, want+`"here`) {
		t.Errorf("exit status %d, %q, %q", status, stdout, stderr)
	}
}

func TestCAUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	writeConfig(t, file, "mine")
	for _, test := range []struct {
		name   string
		args   []string
		status int
		stderr string
	}{
		{"no directory", nil, 2, "-out"},
		{"an operand", []string{"-out", file, "more"}, 2, "unexpected argument"},
		{"a file", []string{"-out", file}, 1, file},
	} {
		if status, _, stderr := runProgram(nil, append([]string{"ca"}, test.args...)...); status != test.status || !strings.Contains(stderr, test.stderr) {
			t.Errorf("%s: exit status %d, %q; want %d, %q", test.name, status, stderr, test.status, test.stderr)
		}
	}
}
