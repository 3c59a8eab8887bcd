//go:build e2e && linux

// This file describes the namespaces that the suite runs in.

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// lab holds the servers in the namespace. TestMain sets it before any test runs, and
// the tests only read it.
var lab *laboratory

func TestMain(m *testing.M) {
	os.Exit(harness.Namespaces{
		Suite: "e2e",
		Build: func(dir string) error { return harness.BuildProgram(filepath.Join(dir, "networkproxy"), true) },
		Addrs: deviceAddrs,
		Files: map[string]string{
			"/etc/resolv.conf":   "nameserver 127.0.0.1\noptions timeout:2 attempts:2\n",
			"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
			"/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
		},
		Run: func(dir string) int { return runInside(m, dir) },
	}.Main())
}

// runInside starts the laboratory and runs the tests.
func runInside(m *testing.M, dir string) int {
	var err error
	if lab, err = openLaboratory(dir); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: start the origins: %v\n", err)
		return 1
	}
	defer lab.close()
	stopGitDaemon, err := startGitDaemon()
	if err != nil {
		fmt.Fprintf(os.Stderr, "e2e: start git daemon: %v\n", err)
		return 1
	}
	defer stopGitDaemon()

	code := m.Run()
	if hits := lab.traps.hits(); hits != 0 {
		fmt.Fprintf(os.Stderr, "e2e: %d connections reached a trap: the program allowed a local address\n", hits)
		code = max(code, 1)
	}
	return code
}
