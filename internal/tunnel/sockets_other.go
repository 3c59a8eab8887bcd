// Where there is no splice, every connection is copied the plain way.

//go:build !linux

package tunnel

import (
	"net"
	"syscall"
)

type sockets struct{ half *half }

func rawStream(net.Conn) syscall.RawConn { return nil }

func (*sockets) copy() (stop, error) { panic("unreachable: rawStream returns nil") }

// waitBroken is never called: there is no portable way to wait for a connection to
// break after its stream has ended.
func (*half) waitBroken() error { panic("unreachable: rawStream returns nil") }

func (*half) uncork() {}

func (*half) readSocket() (*buffer, int, error) { panic("unreachable: rawStream returns nil") }
