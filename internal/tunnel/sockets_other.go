// Where there is no splice, every connection is copied the plain way.

//go:build !linux

package tunnel

import "net"

type sockets struct{}

func newSockets(*half) *sockets { return nil }

func (*sockets) copy() (stop, error) { panic("unreachable: newSockets returns nil") }

// waitReadable returns at once: the read that follows waits, with a buffer.
func waitReadable(net.Conn) error { return nil }

// waitBroken returns at once: there is no portable way to wait for a connection
// to break after its stream has ended.
func waitBroken(net.Conn) error { return nil }
