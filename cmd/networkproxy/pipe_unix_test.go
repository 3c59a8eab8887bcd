//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
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

// TestAuditFIFO names a FIFO that nobody reads, and then one with a reader.
func TestAuditFIFO(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, "-config", configText(t, ""), "-audit", path)
	if status := p.status(t); status != exitError {
		t.Errorf("exit status %d", status)
	}
	p.stderr.await(t, "no process reads this FIFO; start its reader first")

	fifo, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer fifo.Close()
	p = start(t, "-config", configText(t, ""), "-audit", path)
	proxy := p.stderr.await(t, `HTTP proxy on http://(\S+)`)
	get(t, proxy, "http://one.example/", "")
	line, err := bufio.NewReader(fifo).ReadString('\n')
	for err == io.EOF && line == "" { // the program has not opened it yet
		line, err = bufio.NewReader(fifo).ReadString('\n')
	}
	if err != nil || !strings.Contains(line, `"kind":"refused"`) {
		t.Errorf("the reader gets %q, %v", line, err)
	}
	p.stop()
	p.status(t)
}
