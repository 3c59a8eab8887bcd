package main

import (
	"context"
	"io"
	"os"
	"regexp"
	"testing"
)

// TestRun runs the example and compares what it prints, but for the ports.
func TestRun(t *testing.T) {
	const want = `^proxy on 127\.0\.0\.1:\d+
http://127\.0\.0\.1:\d+ +200 OK 
http://ads\.example\.com/ +403 Forbidden blocked-by-denylist
http://elsewhere\.example/ +403 Forbidden blocked-by-allowlist
http://10\.0\.0\.1/ +403 Forbidden blocked-by-allowlist
refused:
  ads\.example\.com:80 \(denied\)
  elsewhere\.example:80 \(not_allowed\)
  10\.0\.0\.1:80 \(not_allowed_local\)
$`
	if got := printed(t, run); !regexp.MustCompile(want).MatchString(got) {
		t.Errorf("it prints\n%s", got)
	}
}

// printed runs a program's body and returns what it prints. Not for parallel
// tests: it takes the process's standard output.
func printed(t *testing.T, run func(context.Context) error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text := make(chan string)
	go func() {
		b, _ := io.ReadAll(r)
		text <- string(b)
	}()
	stdout := os.Stdout
	os.Stdout = w
	err = run(t.Context())
	os.Stdout = stdout
	w.Close()
	if err != nil {
		t.Error(err)
	}
	return <-text
}
