package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// kindsIn returns the kinds of the events in an audit log.
func kindsIn(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(string(text)) {
		var e struct{ Kind string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("the line %q: %v", line, err)
		}
		kinds = append(kinds, e.Kind)
	}
	return strings.Join(kinds, " ")
}

// TestAuditRotation renames the audit log and sends SIGHUP.
func TestAuditRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"kind":"earlier"}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-config", configText(t, ""), "-audit", path)
	proxy := p.stderr.await(t, `HTTP proxy on http://(\S+)`)
	get(t, proxy, "http://one.example/", "")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	p.hangup <- syscall.SIGHUP
	p.stderr.await(t, "reloaded")
	get(t, proxy, "http://two.example/", "")
	p.stop()
	if status := p.status(t); status != 0 {
		t.Errorf("exit %d\n%s", status, &p.stderr)
	}
	if all := kindsIn(t, path+".1") + " " + kindsIn(t, path); all != "earlier refused reload refused" {
		t.Errorf("got the events %s", all)
	}
	if kinds := kindsIn(t, path); !strings.HasSuffix(kinds, "refused") {
		t.Errorf("the new file has the events %s", kinds)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got the mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestAuditFlag(t *testing.T) {
	t.Parallel()
	p := start(t, "-config", configText(t, ""), "-audit", filepath.Join(t.TempDir(), "none", "audit.jsonl"))
	if status := p.status(t); status != 1 || !strings.Contains(p.stderr.String(), "-audit: open ") {
		t.Errorf("exit %d\n%s", status, &p.stderr)
	}
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	p = start(t, "-config", configText(t, ""), "-check", "-audit", path)
	if status := p.status(t); status != 0 {
		t.Errorf("-check: exit %d\n%s", status, &p.stderr)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("-check creates the file")
	}
	p = start(t, "run", "-config", configText(t, ""), "-audit", path, "--", "true")
	if status := p.status(t); status != 0 {
		t.Errorf("run: exit %d\n%s", status, &p.stderr)
	}
	if kinds := kindsIn(t, path); kinds != "session_opened session_closed" {
		t.Errorf("run: got the events %s", kinds)
	}
}
