// Dialing sockets that were checked before.

package unixsock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"example.com/networkproxy/internal/pindial"
)

// ConnectFunc connects to the Unix socket at path.
type ConnectFunc = func(ctx context.Context, path string) (*net.UnixConn, error)

// Dialer connects to Unix sockets. It does not change after the first Dial; safe for concurrent use.
type Dialer struct {
	Timeout time.Duration            // of one connection
	Connect ConnectFunc              // the system's if nil
	Exclude func(f fs.FileInfo) bool // reports whether never to connect to the socket f; nil excludes none
}

// Error reports that a connection to a socket failed.
type Error struct {
	Path string // as the client named it
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("the unix socket %s: %v", e.Path, e.Err) }
func (e *Error) Unwrap() error { return e.Err }

// ErrChanged is returned if a path names another file than the one that was checked.
var ErrChanged = errors.New("the path was changed while connecting to it")

// Dial connects to the socket at real, a path without symbolic links, or empty if there was no such file when it was checked. It
// returns [ErrChanged] if real leads to another socket after connecting than before, because nothing keeps a directory of the path
// from being replaced by a link after the check. Every error is an [*Error] that names path, the socket as the client named it.
func (d Dialer) Dial(ctx context.Context, path, real string) (*net.UnixConn, error) {
	fail := func(err error) (*net.UnixConn, error) {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err // Error names the path
		}
		return nil, &Error{Path: path, Err: withoutAddr(err)}
	}
	if real == "" {
		return fail(fs.ErrNotExist)
	}
	before, err := socketAt(real)
	if err == nil && d.Exclude != nil && d.Exclude(before) {
		err = ErrChanged // the check would not have allowed this socket
	}
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	connect := d.Connect
	if connect == nil {
		connect = connectUnix
	}
	conn, err := pindial.RetryTooManyFiles(ctx, func(ctx context.Context) (*net.UnixConn, error) { return connect(ctx, real) })
	if err != nil {
		return fail(err)
	}
	after, err := socketAt(real)
	if err != nil || !os.SameFile(before, after) {
		conn.Close()
		return fail(ErrChanged)
	}
	return conn, nil
}

func connectUnix(ctx context.Context, path string) (*net.UnixConn, error) {
	return new(net.Dialer).DialUnix(ctx, "unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
}

// socketAt returns the socket at path. It returns [ErrChanged] if there is a symbolic link in path.
func socketAt(path string) (fs.FileInfo, error) {
	if real, err := filepath.EvalSymlinks(path); err != nil {
		return nil, err
	} else if real != path {
		return nil, ErrChanged
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("it is not a socket")
	}
	return info, nil
}
