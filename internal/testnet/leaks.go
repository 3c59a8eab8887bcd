// What a test must not leave behind: goroutines and descriptors.

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

// leakTimeout is how long things that are ending may take to be gone.
const leakTimeout = 5 * time.Second

// CheckLeaks fails the test if, at its end, the process has a goroutine or an open descriptor that it did not have now. What
// is on its way out gets up to 5 seconds. Call it first, so that the test's own clean-ups run before the check, and only
// in a test that does not run in parallel: other tests' goroutines would count. Descriptors are counted where
// /proc/self/fd exists.
func CheckLeaks(tb testing.TB) {
	tb.Helper()
	goroutines, files := goroutineStacks(), openFiles()
	tb.Cleanup(func() { waitForCleanup(tb, goroutines, files) })
}

// CheckLeaksOf runs f and fails the test if what f began, goroutines and descriptors, is not gone within 5 seconds. Like CheckLeaks
// it is for a test that does not run in parallel.
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

// leaked describes what is there now and was not before, or returns "".
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
		// The pipes that net keeps for splicing belong to a sync.Pool, and are closed once two collections found
		// them unused.
		runtime.GC()
	}
	return b.String()
}

// goroutineStacks returns the stack of each goroutine by its id, except those that the runtime starts once and keeps.
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

// openFiles returns what each open descriptor refers to, except the two that the network poller opens on its first use
// and keeps, and the one that lists the others. It returns nothing where there is no /proc.
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
			continue // closed since the listing, as that of the listing itself is
		}
		files[e.Name()] = target
	}
	return files
}
