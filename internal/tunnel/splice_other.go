// Systems without splice copy every connection through a buffer.

//go:build !linux

package tunnel

import (
	"net"
	"syscall"
)

type socketCopier struct{ dir *direction }

func rawStream(net.Conn) syscall.RawConn { return nil }

func (*socketCopier) copy() (stopReason, error) { panic("unreachable: rawStream returns nil") }

// waitBroken is never called. There is no portable way to wait for a connection
// to break after its stream has ended.
func (*direction) waitBroken() error { panic("unreachable: rawStream returns nil") }

func (*direction) uncork() {}

func (*direction) waitAndReadSocket() (*buffer, int, error) {
	panic("unreachable: rawStream returns nil")
}
