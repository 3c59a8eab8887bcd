// The standard output of a program, for tests of the examples.

package testnet

import (
	"context"
	"io"
	"os"
	"testing"
)

// CaptureStdout calls run and returns the text that it prints. Do not use it in
// parallel tests, because it replaces os.Stdout.
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
