//go:build e2e && linux

// This file runs the program where the system forbids user namespaces to an ordinary user.

package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// ordinaryUser returns the ordinary user of the residents.
func ordinaryUser(t *testing.T) resident {
	t.Helper()
	all, err := residents()
	if err != nil {
		t.Fatal(err)
	}
	return all[len(all)-1]
}

// TestFencedClientsWithoutNamespaces is TestFencedClients for fences whose mechanism is notification.
func TestFencedClientsWithoutNamespaces(t *testing.T) {
	t.Parallel()
	r := ordinaryUser(t) // the superuser could change the kernel
	r.forbidden = true
	t.Run("clients", func(t *testing.T) {
		for _, c := range fencedClients() {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				c.test(t, r, c.schemes[len(c.schemes)-1])
			})
		}
	})
}

// TestUnconnectedLookups runs programs that send lookups from sockets that are not connected, as musl
// and c-ares do. They work in a fence with namespaces. In one without, they fail at once, and no
// lookup leaves the machine.
func TestUnconnectedLookups(t *testing.T) {
	t.Parallel()
	const allowed, refused = "dual.example", "other.example"
	with := ordinaryUser(t)
	without := with
	without.forbidden = true
	musl := filepath.Join(with.home, "lookup")
	if out, err := exec.Command("musl-gcc", "-static", "-o", musl, "testdata/lookup.c").CombinedOutput(); err != nil {
		t.Fatalf("musl-gcc: %v\n%s", err, out)
	}
	ares := []string{"node", "-e", `require("dns").resolve4(process.argv[1], (err, list) => { console.log(err ? err.code : list[0]) })`}
	for _, test := range []struct {
		name   string
		r      resident
		argv   []string
		output string
		exit   int
	}{
		{"musl with namespaces", with, []string{musl, allowed}, "198.1", 0},
		{"c-ares with namespaces", with, append(ares[:3:3], allowed), "198.1", 0},
		{"musl", without, []string{musl, allowed}, "System error", 1},
		{"musl and a refused name", without, []string{musl, refused}, "System error", 1},
		{"c-ares", without, append(ares[:3:3], allowed), "ECONNREFUSED", 0},
		{"c-ares and a refused name", without, append(ares[:3:3], refused), "ECONNREFUSED", 0},
	} {
		got := test.r.fence(t, []string{"-allow", allowed}, nil, test.argv...)
		if got.Exit != test.exit || !strings.HasPrefix(got.Stdout, test.output) {
			t.Errorf("%s: exit %d, want %d and %q\nstdout: %s\nstderr: %s", test.name, got.Exit, test.exit, test.output, got.Stdout, got.Stderr)
		}
		got.wantRefusal(t, "")
	}
	if n := lab.dns.queryCount(refused); n != 0 {
		t.Errorf("the name server outside got %d queries for %s", n, refused)
	}
}
