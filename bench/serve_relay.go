// The limit: a relay that copies bytes without reading HTTP. Its cost is about the
// minimum for a Go program between client and origin. For the workload of refused
// requests, it sends the same response to each request.

package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
)

// serveRelay is the first argument with which this program runs as the relay. The
// full arguments are serve-relay ADDRESS ORIGIN REFUSES, with true or false as the
// last.
const serveRelay = "serve-relay"

func runRelay(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("usage: bench %s ADDRESS ORIGIN true|false", serveRelay)
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

// relayCopy copies small messages through a buffer. Once a read fills the buffer, it
// continues with io.Copy, which splices. Each is the cheaper way for its kind of
// traffic.
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

// refuseAll responds with 403 to everything that ends in an empty line.
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
