package main

import (
	"context"
	"io"
	"os"
	"regexp"
	"testing"
)

// TestRun runs the example: the decider is asked about two of four, and each
// is told why it was refused.
func TestRun(t *testing.T) {
	const want = `^http://upload\.example/
  asked about upload\.example:80 \(http GET\)
  403 Forbidden
  \{.*"reason":"uploads need a person's consent","source":"decider","decision":"ask".*\}
http://games\.example/
  asked about games\.example:80 \(http GET\)
  403 Forbidden
  \{.*"reason":"this task needs no games\.example","source":"decider","decision":"deny".*\}
http://docs\.evil\.example/
  403 Forbidden
  \{.*"reason":"denied","source":"baseline_policy","decision":"deny","rule":"docs\.evil\.example".*\}
http://192\.168\.0\.1/
  403 Forbidden
  \{.*"reason":"not_allowed_local".*\}
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
