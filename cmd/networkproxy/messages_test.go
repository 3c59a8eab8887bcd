package main

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestEscapeControls(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                        "",
		"a line\n\tand ünother":   "a line\n\tand ünother",
		"clear\x1b[2J\r\x00":      `clear\x1b[2J\r\x00`,
		"turn\u202e\u2066 \u0085": `turn\u202e\u2066 \u0085`,
		"open 'it': \xff":         "open 'it': \ufffd",
	} {
		if got := escapeControls(text); got != want {
			t.Errorf("escapeControls(%q) is %q, want %q", text, got, want)
		}
	}
}

// The name of a file reaches the terminal without control characters.
func TestFileNamesArePrintable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, flag := range []string{"-config", "-audit"} {
		args := []string{flag, filepath.Join(dir, "missing", "x\x1b[2Jy")}
		if flag == "-audit" {
			args = append(args, "-config", configText(t, ""))
		}
		p := start(t, args...)
		if status := p.status(t); status != exitError {
			t.Errorf("%s: exit status %d", flag, status)
		}
		if got := p.stderr.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, `\x1b[2Jy`) {
			t.Errorf("%s: the program says %q", flag, got)
		}
	}
}
