// Listening on a unix socket that only its owner may use, from its first
// moment on.

package networkproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is what the shortest sockaddr_un of the supported systems
// (BSD, macOS) can hold.
const maxSocketPath = 103

// listenUnix listens on a unix socket of mode 0600 at path, whose directory
// must exist. A socket at path that nobody listens on is replaced; one that
// somebody listens on, and anything else there, is an error.
//
// The socket is made in a directory of its own that nobody else can enter and
// is then moved to path, since between making a socket and changing its mode
// others could connect to it, and the process's umask is not a library's to
// change.
func listenUnix(ctx context.Context, path string) (*unixListener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the unix socket %q needs an absolute path", path)
	}
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("the path of the unix socket %s is %d bytes long; clients can use at most %d", path, len(path), maxSocketPath)
	}
	if err := vacant(ctx, path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".np")
	if err != nil {
		return nil, fmt.Errorf("cannot make the unix socket %s: %w; its directory must exist and be writable", path, err)
	}
	defer os.RemoveAll(private)

	made := filepath.Join(private, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", made)
	if err != nil {
		return nil, fmt.Errorf("cannot make the unix socket %s: %w; a shorter path may help", path, unwrapOp(err))
	}
	u := &unixListener{UnixListener: l.(*net.UnixListener), path: path}
	u.SetUnlinkOnClose(false)
	if err := u.place(made); err != nil {
		u.UnixListener.Close()
		return nil, fmt.Errorf("cannot make the unix socket %s: %w", path, err)
	}
	return u, nil
}

// vacant reports, with an error, what stands in the way at path.
func vacant(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the unix socket %s: %w", path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket; choose another path or remove it", path)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another process listens on the unix socket %s; choose another path", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil // nobody listens: left behind
	}
	return fmt.Errorf("the unix socket %s is there and may be in use: %w; remove it or choose another path", path, unwrapOp(err))
}

// unixListener removes its socket when it is closed, unless another has taken
// its place.
type unixListener struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// place moves the socket to where it is wanted.
func (u *unixListener) place(made string) (err error) {
	if err := os.Chmod(made, 0o600); err != nil {
		return err
	}
	if u.made, err = os.Lstat(made); err != nil {
		return err
	}
	return os.Rename(made, u.path)
}

// Addr is the path that the socket was asked for at.
func (u *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }

func (u *unixListener) Close() error {
	if there, err := os.Lstat(u.path); err == nil && os.SameFile(there, u.made) {
		os.Remove(u.path)
	}
	return u.UnixListener.Close()
}
