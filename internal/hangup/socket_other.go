//go:build !unix

// Sockets that cannot be looked into.

package hangup

import "net"

func waitSocket(net.Conn) (err error, ok bool) { return nil, false }

func gone(net.Conn) bool { return false }
