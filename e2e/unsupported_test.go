//go:build e2e && !linux

// This file makes the suite fail, rather than pass without having run, where
// there are no network namespaces.

package e2e

import (
	"fmt"
	"os"
	"testing"
)

func TestMain(*testing.M) {
	fmt.Fprintln(os.Stderr, "e2e: this suite needs Linux: it runs in a network namespace of its own")
	os.Exit(1)
}
