//go:build unix

package main

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestSignalWhileReadingPipe ends the program while its configuration is a pipe
// without a writer.
func TestSignalWhileReadingPipe(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"serve":    nil,
		"check":    {"check", "http://a.test/"},
		"selftest": {"selftest"},
		"run":      {"run", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "config.toml")
			if err := syscall.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
			config := []string{"-config", path}
			if len(args) > 0 {
				config = append(args[:1:1], append(config, args[1:]...)...)
			}
			p := start(t, config...)
			p.stop()
			if status := p.status(t); status != exitError {
				t.Errorf("exit status %d:\n%s", status, &p.stderr)
			}
			p.stderr.await(t, "stopped while reading the configuration")
			// Release the reader that is left behind.
			w, err := syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
			for err == syscall.ENXIO || err == syscall.EINTR { // no reader yet
				w, err = syscall.Open(path, syscall.O_WRONLY|syscall.O_NONBLOCK, 0)
			}
			if err != nil {
				t.Fatal(err)
			}
			syscall.Close(w)
		})
	}
}
