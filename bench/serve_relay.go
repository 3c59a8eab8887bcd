// The limit: a relay that reads no HTTP and copies bytes, which is the least
// that two more sockets and their system calls cost a Go program. Where all is
// to be refused, it answers every request with the same bytes.

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
)

// serveRelay is the first argument that makes this program the relay:
// serve-relay ADDRESS ORIGIN REFUSES.
const serveRelay = "serve-relay"

func runRelay(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("%s takes the address to listen on, the one to connect to, and whether to refuse instead", serveRelay)
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
			if args[2] == "true" {
				refuseAll(client)
				return
			}
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

// refuseAll answers whatever ends like a request, without a look at it.
func refuseAll(client net.Conn) {
	response := []byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot allowed\n")
	buf := make([]byte, 4<<10)
	n := 0
	for n < len(buf) {
		more, err := client.Read(buf[n:])
		if n += more; err != nil {
			return
		}
		if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
			n = 0
			if _, err := client.Write(response); err != nil {
				return
			}
		}
	}
}
