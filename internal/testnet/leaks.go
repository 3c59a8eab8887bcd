// Checks for leaked goroutines and descriptors.

package testnet

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakTimeout is the time for goroutines to end and descriptors to be closed.
const leakTimeout = 30 * time.Second

// CheckLeaks fails the test if at its end the process has goroutines or open descriptors that it does not have now. It
// waits up to 30 seconds for them to end. Call CheckLeaks first in a test, so that the test's cleanups run before the
// check. Do not use it in a parallel test, because the goroutines of other tests count, too. Descriptors are checked
// only where /proc/self/fd exists.
func CheckLeaks(tb testing.TB) {
	tb.Helper()
	goroutines, files := goroutineStacks(), openFiles()
	tb.Cleanup(func() { waitForCleanup(tb, goroutines, files) })
}

// CheckLeaksOf runs f and fails the test if goroutines or descriptors from f still exist 30 seconds after it returned. Do
// not use it in a parallel test.
func CheckLeaksOf(tb testing.TB, f func()) {
	tb.Helper()
	goroutines, files := goroutineStacks(), openFiles()
	f()
	waitForCleanup(tb, goroutines, files)
}

func waitForCleanup(tb testing.TB, goroutines, files map[string]string) {
	tb.Helper()
	deadline := time.Now().Add(leakTimeout)
	for wait := time.Millisecond; ; wait = min(2*wait, 200*time.Millisecond) {
		report := leaked(goroutines, files)
		if report == "" {
			return
		}
		if time.Now().After(deadline) {
			tb.Error(report)
			return
		}
		<-time.After(wait)
	}
}

// leaked describes the goroutines and descriptors that are new since the given snapshots, or returns "".
func leaked(goroutines, files map[string]string) string {
	var b strings.Builder
	now := goroutineStacks()
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if _, ok := goroutines[id]; !ok {
			fmt.Fprintf(&b, "leaked goroutine:\n%s\n", now[id])
		}
	}
	now = openFiles()
	for _, fd := range slices.Sorted(maps.Keys(now)) {
		if files[fd] != now[fd] {
			fmt.Fprintf(&b, "leaked descriptor %s: %s\n", fd, now[fd])
		}
	}
	if b.Len() > 0 {
		// Package net keeps pipes for splicing in a sync.Pool. Two garbage collections close unused ones.
		runtime.GC()
	}
	return b.String()
}

// goroutineStacks returns the stack of each goroutine by its id, except for goroutines that the runtime starts once and
// keeps.
func goroutineStacks() map[string]string {
	buf := make([]byte, 64<<10)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 2*len(buf))
		n = runtime.Stack(buf, true)
	}
	stacks := make(map[string]string)
	for stack := range strings.SplitSeq(string(buf[:n]), "\n\n") {
		id, _, ok := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
		if !ok || strings.Contains(stack, "os/signal.loop") {
			continue
		}
		stacks[id] = stack
	}
	return stacks
}

// openFiles returns the target of each open descriptor. It leaves out the two that the network poller opens on its first
// use and keeps, and the one for the listing itself. It returns nil where there is no /proc.
func openFiles() map[string]string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	files := make(map[string]string)
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || target == "anon_inode:[eventpoll]" || target == "anon_inode:[eventfd]" {
			continue // Readlink fails for descriptors closed since, such as the one that ReadDir used
		}
		files[e.Name()] = target
	}
	return files
}
