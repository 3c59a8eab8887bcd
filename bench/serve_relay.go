// The limit: a relay that reads no HTTP and copies bytes, which is the least
// that two more sockets and their system calls cost a Go program.

package main

import (
	"fmt"
	"io"
	"net"
)

// serveRelay is the first argument that makes this program the relay:
// serve-relay ADDRESS ORIGIN.
const serveRelay = "serve-relay"

func runRelay(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("%s takes the address to listen on and the one to connect to", serveRelay)
	}
	l, err := net.Listen("tcp", args[0])
	if err != nil {
		return err
	}
	for {
		client, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			target, err := net.Dial("tcp", args[1])
			if err != nil {
				return
			}
			defer target.Close()
			copyBothWays(client.(*net.TCPConn), target.(*net.TCPConn), relayCopy)
		}()
	}
}

// relayCopy copies small messages through a buffer, and hands a stream that
// fills the buffer to io.Copy, which splices. Each is the cheaper for its kind.
func relayCopy(to, from *net.TCPConn) {
	buf := make([]byte, 4<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
		if n == len(buf) {
			io.Copy(to, from)
			return
		}
	}
}
