// The TCP server under the kit's origin and echo servers.

package networkproxytest

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// server is a server that stops at the end of its test.
type server struct {
	l    net.Listener
	done sync.WaitGroup

	mu    sync.Mutex
	ended bool
	conns []net.Conn
}

// serve starts a TCP server on 127.0.0.1.
func serve(t testing.TB, handle func(net.Conn)) *server {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, l, handle)
}

func serveOn(t testing.TB, l net.Listener, handle func(net.Conn)) *server {
	t.Helper()
	s := &server{l: l}
	s.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.add(c)
			s.done.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(s.stop)
	return s
}

// echo starts a server that sends back all data.
func echo(t testing.TB) *server {
	t.Helper()
	return serve(t, func(c net.Conn) { io.Copy(c, c) })
}

// accepted returns the number of accepted connections.
func (s *server) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *server) addr() string { return s.l.Addr().String() }

func (s *server) add(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, c)
	if s.ended {
		c.SetDeadline(drainDeadline())
	}
}

// stop stops the server after it has read the data that has already arrived.
func (s *server) stop() {
	s.l.Close()
	s.mu.Lock()
	s.ended = true
	for _, c := range s.conns {
		c.SetDeadline(drainDeadline())
	}
	s.mu.Unlock()
	s.done.Wait()
}

// drainDeadline returns a deadline that leaves time to read data already in the
// socket.
func drainDeadline() time.Time { return time.Now().Add(5 * time.Millisecond) }
