//go:build e2e && !linux

// This file makes the suite fail on systems without network namespaces. It would
// otherwise pass without running a test.

package tls

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(*testing.M) {
	fmt.Fprintln(os.Stderr, "e2e/tls: this suite needs Linux, because it runs in a network namespace")
	os.Exit(1)
}
