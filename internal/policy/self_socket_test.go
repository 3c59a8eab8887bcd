// A test of the exclusion of the proxy's own sockets when one is dialed.

package policy

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"example.com/networkproxy/internal/unixsock"
)

// The proxy's own socket was renamed to the path after the check.
func TestUnixSocketDialerExcludesOwnSockets(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	l, err := net.Listen("unix", filepath.Join(dir, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var own SelfListeners
	own.Add(l.Addr())
	judged := filepath.Join(dir, "judged")
	if err := os.Rename(filepath.Join(dir, "admin"), judged); err != nil {
		t.Fatal(err)
	}
	dialer := unixsock.Dialer{Timeout: time.Minute, Exclude: own.ContainsFile}
	if conn, err := dialer.Dial(t.Context(), judged, judged); !errors.Is(err, unixsock.ErrChanged) {
		t.Errorf("dialing the proxy's own socket: %v, %v; want ErrChanged", conn, err)
	}
	own.Remove(l.Addr())
	conn, err := dialer.Dial(t.Context(), judged, judged)
	if err != nil {
		t.Fatalf("after the socket was removed from the proxy's own: %v", err)
	}
	conn.Close()
}

// socketDir returns a new directory for sockets. Its path is short and has no
// symbolic links.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "np")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}
