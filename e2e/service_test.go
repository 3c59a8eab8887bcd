//go:build e2e && linux

// This file checks the systemd unit with systemd's own tools.

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/networkproxy/e2e/harness"
)

// maxExposure bounds the exposure of the unit that systemd-analyze calculates, in
// tenths: 0 is best and 100 is worst. docs/operate.md states it.
const maxExposure = "13"

func TestUnit(t *testing.T) {
	text, err := os.ReadFile("../deploy/networkproxy.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program must exist for verify.
	unit := filepath.Join(t.TempDir(), "networkproxy.service")
	installed := strings.ReplaceAll(string(text), "/usr/local/bin/networkproxy", lab.program())
	if err := os.WriteFile(unit, []byte(installed), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"verify", "--man=no", unit},
		{"security", "--offline=yes", "--threshold=" + maxExposure, unit},
	} {
		r := harness.Run(t, exec.Command("systemd-analyze", args...))
		if r.Exit != 0 || args[0] == "verify" && r.Stderr != "" {
			t.Errorf("systemd-analyze %s: status %d\n%s%s", args[0], r.Exit, r.Stdout, r.Stderr)
		}
	}
}
