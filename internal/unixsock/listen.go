// Package unixsock listens on Unix sockets that only their owner can use, and dials Unix sockets that were checked before.
//
// [Listen] creates a socket with mode 0600 and replaces one that nobody listens on. [Dialer] connects to exactly the file that a
// path named when it was checked. The package holds no policy: the caller decides which paths are allowed.
package unixsock

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

// MaxPath is the length of the longest path that a client can connect to on every supported system. BSD and macOS have the
// shortest sockaddr_un.
const MaxPath = 103

// Listener listens on a Unix socket. Close removes the socket, unless another file has taken its place.
type Listener struct {
	*net.UnixListener
	path string
	file fs.FileInfo // of the socket
}

// Listen listens on a Unix socket with mode 0600 at path, which must be absolute and in an existing directory. It replaces a
// socket that nobody listens on. It returns an error if a process listens on the socket, or if path is another kind of file.
//
// Listen creates the socket in a private directory and then moves it to path. Otherwise, others could connect between the creation
// of the socket and the change of its mode. A library must not change the umask of its process.
func Listen(ctx context.Context, path string) (*Listener, error) {
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("the unix socket %q needs an absolute path", path)
	}
	if len(path) > MaxPath {
		return nil, fmt.Errorf("the path of the unix socket %s is %d bytes long; clients can use at most %d", path, len(path), MaxPath)
	}
	if err := checkVacant(ctx, path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".np")
	if err != nil {
		return nil, fmt.Errorf("cannot create the unix socket %s: %w; its directory must exist and be writable", path, err)
	}
	defer os.RemoveAll(private)

	created := filepath.Join(private, "s")
	l, err := new(net.ListenConfig).Listen(ctx, "unix", created)
	if err != nil {
		return nil, fmt.Errorf("cannot create the unix socket %s: %w; a shorter path may help", path, withoutAddr(err))
	}
	u := &Listener{UnixListener: l.(*net.UnixListener), path: path}
	u.SetUnlinkOnClose(false)
	if err := u.moveFrom(created); err != nil {
		u.UnixListener.Close()
		return nil, fmt.Errorf("cannot create the unix socket %s: %w", path, err)
	}
	return u, nil
}

// checkVacant returns an error unless nothing is at path, or a socket that nobody listens on.
func checkVacant(ctx context.Context, path string) error {
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
		return nil // left behind by a process that has ended
	}
	return fmt.Errorf("the unix socket %s exists and may be in use: %w; remove it or choose another path", path, withoutAddr(err))
}

// moveFrom makes the socket at created private and moves it to u.path.
func (u *Listener) moveFrom(created string) (err error) {
	if err := os.Chmod(created, 0o600); err != nil {
		return err
	}
	if u.file, err = os.Lstat(created); err != nil {
		return err
	}
	return os.Rename(created, u.path)
}

// Addr returns the path that was passed to [Listen].
func (u *Listener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }

func (u *Listener) Close() error {
	if info, err := os.Lstat(u.path); err == nil && os.SameFile(info, u.file) {
		os.Remove(u.path)
	}
	return u.UnixListener.Close()
}

// withoutAddr removes the address from err, because the caller's message names the path.
func withoutAddr(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
