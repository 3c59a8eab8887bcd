package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// onTerminal runs the program with a terminal as its standard error, and returns
// what the terminal shows, with "\n" as line ends.
func onTerminal(t *testing.T, env map[string]string, args ...string) string {
	t.Helper()
	control, terminal := testnet.Terminal(t)
	screen := make(chan string, 1)
	go func() {
		text, err := io.ReadAll(control)
		if err != nil && !errors.Is(err, syscall.EIO) { // every terminal end is closed
			t.Error(err)
		}
		screen <- strings.ReplaceAll(string(text), "\r\n", "\n")
	}()
	p := program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: terminal, getenv: func(name string) string { return env[name] }}
	p.main(t.Context(), args)
	terminal.Close()
	return <-screen
}

// TestColors checks that refusals are red and warnings yellow on a terminal, and
// that nothing is colored otherwise.
func TestColors(t *testing.T) {
	setChildEnv(t)
	config := configText(t, "enable_socks5_udp = true\n")
	// The command makes a request that is refused. The configuration has a warning.
	args := []string{"run", "-log-level", "info", "-config", config, "--", os.Args[0], "get http://refused.example/"}
	color := map[string]string{"TERM": "xterm"}
	const escape = "\x1b["
	text := onTerminal(t, color, args...)
	colored := map[string]string{} // by the beginning of the line
	for line := range strings.Lines(text) {
		start, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch {
		case strings.HasPrefix(rest, "level="):
			start, _, _ = strings.Cut(rest, " host=")
		case strings.Contains(line, "refused.example port 80"):
			start = "entry"
		case strings.HasPrefix(rest, "warning"):
			start = "warning"
		}
		switch {
		case strings.HasPrefix(line, red) && strings.HasSuffix(line, reset+"\n"):
			colored[start] = "red"
		case strings.HasPrefix(line, yellow) && strings.HasSuffix(line, reset+"\n"):
			colored[start] = "yellow"
		case strings.Contains(line, escape):
			t.Errorf("partly colored: %q", line)
		}
	}
	if len(colored) != 3 || colored["entry"] != "red" || colored["warning"] != "yellow" || colored["level=INFO msg=refused"] != "red" {
		t.Errorf("colored %q in\n%q", colored, text)
	}

	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	inFile := program{stdin: strings.NewReader(""), stdout: io.Discard, stderr: file, getenv: func(name string) string { return color[name] }}
	inFile.main(t.Context(), args)
	written, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	json := append([]string{"run", "-log-format", "json"}, args[1:]...)
	for name, text := range map[string]string{
		"a file":       string(written),
		"NO_COLOR":     onTerminal(t, map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, args...),
		"TERM=dumb":    onTerminal(t, map[string]string{"TERM": "dumb"}, args...),
		"without TERM": onTerminal(t, nil, args...),
		"JSON":         onTerminal(t, color, json...),
	} {
		if !strings.Contains(text, "refused.example") || strings.Contains(text, escape) {
			t.Errorf("%s: %q", name, text)
		}
	}
	if text := onTerminal(t, map[string]string{"TERM": "xterm", "NO_COLOR": ""}, args...); !strings.Contains(text, escape) {
		t.Errorf("an empty NO_COLOR removes the colors: %q", text)
	}
}

// TestShowsColorsOnTerminalsOnly checks devices and streams that are no terminal.
func TestShowsColorsOnTerminalsOnly(t *testing.T) {
	t.Parallel()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	closed, _ := os.Open(os.DevNull)
	closed.Close()
	for name, stream := range map[string]io.Writer{"null": null, "pipe": w, "closed": closed, "no file": io.Discard} {
		if showsColors(stream, func(name string) string { return map[string]string{"TERM": "xterm"}[name] }) {
			t.Errorf("%s shows colors", name)
		}
	}
}
