// Helpers that need no proxy: waiting, scaling, connections and configuration
// files.

package networkproxy_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// testTimeout limits every wait of a test. Tests that pass do not reach it, even on a
// busy machine. It is below a minute, because some tests set limits of the proxy to a
// minute so that these end nothing.
const testTimeout = 45 * time.Second

// testDeadline returns the time after which a wait has failed.
func testDeadline() time.Time { return time.Now().Add(testTimeout) }

// scaled is testnet.Scaled.
func scaled(n int) int { return testnet.Scaled(n) }

// allocations returns the number of allocations of a call of f. Other goroutines of the
// test binary may allocate meanwhile, so the least of several results counts.
func allocations(f func()) float64 {
	n := testing.AllocsPerRun(100, f)
	for range 20 {
		n = min(n, testing.AllocsPerRun(100, f))
	}
	return n
}

// eventually waits until ok returns true. what describes the condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	if !testnet.Poll(testTimeout, ok) {
		t.Fatalf("not within %v: %s", testTimeout, what)
	}
}

// wait returns the next value from c, or the zero value if c is closed. what
// describes the value.
func wait[T any](t testing.TB, c <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(testTimeout):
		t.Fatalf("not within %v: %s", testTimeout, what)
	}
	return v
}

// within fails the test if f does not return in time.
func within(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(testTimeout):
		t.Fatalf("%s has not returned within %v", what, testTimeout)
	}
}

// waitReturned waits until done is closed. If that takes far longer than a busy
// machine needs, it fails the test with the stacks of all goroutines.
func waitReturned(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		stacks := make([]byte, 4<<20)
		t.Fatalf("%s has not returned:\n%s", what, stacks[:runtime.Stack(stacks, true)])
	}
}

// addrs is testnet.Addrs under a shorter name.
func addrs(list ...string) testnet.Answer { return testnet.Addrs(list...) }

// echoes checks that conn echoes.
func echoes(conn net.Conn) error {
	if _, err := io.WriteString(conn, "ping"); err != nil {
		return err
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "ping" {
		return fmt.Errorf("got the echo %q, %v; want ping", got, err)
	}
	return nil
}

// isReset reports whether the other side reset the connection.
func isReset(err error) bool { return errors.Is(err, syscall.ECONNRESET) }

// checkClosed checks that the other side closes or resets conn without sending
// anything. conn has a deadline.
func checkClosed(conn net.Conn) error {
	b, err := io.ReadAll(conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		return fmt.Errorf("the connection is still open")
	}
	if len(b) > 0 {
		return fmt.Errorf("got % x, want the end of the connection", b)
	}
	return nil
}

// waitClosed waits until the other side closes or resets conn.
func waitClosed(t testing.TB, what string, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(testDeadline())
	if n, err := io.Copy(io.Discard, conn); err != nil && !isReset(err) || n != 0 {
		t.Errorf("%s: got %d bytes, %v; want the end of the connection", what, n, err)
	}
}

// configFile is a configuration file of a test.
type configFile struct {
	t    testing.TB
	path string
}

func newConfigFile(t testing.TB, policy string) *configFile {
	f := &configFile{t, filepath.Join(t.TempDir(), "config.toml")}
	f.replace(policy)
	return f
}

// tomlFile returns a complete configuration file that ends with policy.
func tomlFile(policy string) []byte {
	return []byte("[network_proxy]\nenabled = true\n" + policy)
}

// replace replaces the file atomically, as editors do.
func (f *configFile) replace(policy string) {
	f.t.Helper()
	temp := f.path + ".new"
	if err := os.WriteFile(temp, tomlFile(policy), 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(temp, f.path); err != nil {
		f.t.Fatal(err)
	}
}
