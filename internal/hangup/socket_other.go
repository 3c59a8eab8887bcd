//go:build !unix

// Systems on which sockets cannot be checked.

package hangup

import "net"

func waitSocket(net.Conn) (err error, ok bool) { return nil, false }

func gone(net.Conn) bool { return false }
