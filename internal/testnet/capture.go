// What a program prints, for tests of the examples.

package testnet

import (
	"context"
	"io"
	"os"
	"testing"
)

// CaptureStdout runs a program's body and returns what it prints. Not for parallel
// tests: it takes the process's standard output.
func CaptureStdout(t testing.TB, run func(context.Context) error) string {
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
