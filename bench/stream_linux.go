// The origin and the client of the bulk and idle workloads: transfers in one
// direction, responses with large bodies, and idle connections.

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The first byte from a client of streamer selects the work.
const (
	askDownload = 'd' // send endlessly
	askUpload   = 'u' // receive until the end
	askEcho     = 'e' // send back the byte, then stay idle
	askGET      = 'G' // respond to HTTP requests with a body
)

// streamer is the origin of these workloads.
type streamer struct {
	listener net.Listener
	bodySize int          // size of the body of a response
	discards bool         // receivers discard the data, see receive
	received atomic.Int64 // bytes of uploads
	mu       sync.Mutex
	conns    map[net.Conn]bool
	serving  sync.WaitGroup
}

func startStreamer() (origin, error) { return new(streamer).start() }

// startBodies starts an origin that responds to GET with n bytes.
func startBodies(n int) (origin, error) { return (&streamer{bodySize: n}).start() }

// startSink starts an origin for transfers whose receivers discard the data.
func startSink() (origin, error) { return (&streamer{discards: true}).start() }

func (s *streamer) start() (origin, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.listener, s.conns = l, make(map[net.Conn]bool)
	s.serving.Go(s.serve)
	return s, nil
}

func (s *streamer) addr() netip.AddrPort { return s.listener.Addr().(*net.TCPAddr).AddrPort() }

func (s *streamer) close() error {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		reset(c)
	}
	s.conns = nil
	s.mu.Unlock()
	s.serving.Wait()
	return nil
}

// reset closes a connection with a reset, so that neither side keeps it in
// TIME-WAIT. Closing 1,200 connections at a time would soon use up the ephemeral
// ports.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (s *streamer) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns != nil {
			s.conns[c] = true
			s.serving.Go(func() { s.serveConn(c.(*net.TCPConn)) })
		} else {
			c.Close()
		}
		s.mu.Unlock()
	}
}

func (s *streamer) serveConn(c *net.TCPConn) {
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	var ask [1]byte
	if _, err := io.ReadFull(c, ask[:]); err != nil {
		return
	}
	switch ask[0] {
	case askDownload:
		s.flood(c)
	case askUpload:
		s.receive(c, &s.received)
	case askEcho:
		c.Write(ask[:])
		c.Read(ask[:]) // blocks until the connection ends
	case askGET:
		s.respond(c)
	}
}

// respond sends a response with the body for each request.
func (s *streamer) respond(c net.Conn) {
	header := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", s.bodySize)
	body := make([]byte, s.bodySize)
	buf := make([]byte, 4<<10)
	for matched := 0; ; {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		var requests int
		matched, requests = countHeaders(matched, buf[:n])
		for range requests {
			whole := net.Buffers{header, body} // one writev, as servers do
			if _, err := whole.WriteTo(c); err != nil {
				return
			}
		}
	}
}

// chunkSize is the size of reads and writes. curl, git, Python and Go's io.Copy use 16
// to 64 KiB.
const chunkSize = 64 << 10

// flood writes until the connection breaks. It writes larger chunks if the receiver
// discards the data.
func (s *streamer) flood(c net.Conn) {
	chunk := make([]byte, chunkSize)
	if s.discards {
		chunk = make([]byte, 256<<10)
	}
	for {
		if _, err := c.Write(chunk); err != nil {
			return
		}
	}
}

// receive counts the received bytes until the connection ends. If the origin
// discards, it uses MSG_TRUNC: the kernel then discards the bytes instead of copying
// them (tcp(7)), which leaves more CPU time to the proxy.
func (s *streamer) receive(c *net.TCPConn, n *atomic.Int64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	room, flags := make([]byte, chunkSize), 0
	if s.discards {
		room, flags = make([]byte, 1<<20), syscall.MSG_TRUNC
	}
	raw.Read(func(fd uintptr) bool {
		for {
			got, _, err := syscall.Recvfrom(int(fd), room, flags)
			if err == syscall.EINTR {
				continue
			}
			if err == syscall.EAGAIN {
				return false
			}
			if err != nil || got <= 0 {
				return true
			}
			n.Add(int64(got))
		}
	})
}

// openTunnel opens a connection to the origin through the proxy. It uses CONNECT
// unless the candidate relays raw TCP.
func (t *trial) openTunnel(ask byte) (*net.TCPConn, error) {
	var d net.Dialer
	conn, err := d.DialContext(t.ctx, "tcp", t.proxy.http.String())
	if err != nil {
		return nil, err
	}
	c := conn.(*net.TCPConn)
	c.SetDeadline(time.Now().Add(stallTimeout))
	if err := t.connect(c); err != nil {
		c.Close()
		return nil, err
	}
	if _, err := c.Write([]byte{ask}); err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return c, nil
}

// connect sends the CONNECT request, unless the candidate relays raw TCP.
func (t *trial) connect(c net.Conn) error {
	if t.candidate.rawTCP {
		return nil
	}
	return sendConnect(c, t.connectRequest())
}

// sendConnect sends a CONNECT request and reads the response, which is all that the
// reader can buffer, because the origin never sends first.
func sendConnect(c net.Conn, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(response.Body, 400)) // ignore the error: a part of the text helps, too
		return fmt.Errorf("the proxy responded to CONNECT with %s: %s", response.Status, why)
	}
	return nil
}

// streams are tunnels that transfer data at full speed.
type streams struct {
	conns    []*net.TCPConn
	received atomic.Int64 // bytes of downloads
	running  sync.WaitGroup
	origin   *streamer
	uploaded int64 // by earlier streams
}

// openStreams opens n streams, alternately downloads and uploads.
func (t *trial) openStreams(n int) (*streams, error) {
	s := &streams{origin: t.origin.(*streamer)}
	s.uploaded = s.origin.received.Load()
	for i := range n {
		if err := s.add(t, i%2 == 1); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

// add opens one more stream.
func (s *streams) add(t *trial, upload bool) error {
	ask := byte(askDownload)
	if upload {
		ask = askUpload
	}
	c, err := t.openTunnel(ask)
	if err != nil {
		return err
	}
	s.conns = append(s.conns, c)
	s.running.Go(func() {
		if upload {
			s.origin.flood(c)
		} else {
			s.origin.receive(c, &s.received)
		}
	})
	return nil
}

// moved returns the number of received bytes in both directions.
func (s *streams) moved() int64 {
	return s.received.Load() + s.origin.received.Load() - s.uploaded
}

func (s *streams) close() {
	for _, c := range s.conns {
		reset(c)
	}
	s.running.Wait()
}

// openIdle opens n tunnels, sends a byte each way through each, and leaves them idle.
// closeAll closes all tunnels of the origin, on its side first.
func (t *trial) openIdle(n int) (closeAll func(), err error) {
	var conns []net.Conn
	closeAll = func() {
		t.origin.close()
		for _, c := range conns {
			reset(c)
		}
	}
	for i := range n {
		c, err := t.openTunnel(askEcho)
		if err == nil {
			conns = append(conns, c)
			c.SetReadDeadline(time.Now().Add(stallTimeout))
			_, err = c.Read(make([]byte, 1))
		}
		if err != nil {
			closeAll()
			return nil, fmt.Errorf("idle tunnel %d of %d: %w", i+1, n, err)
		}
	}
	return closeAll, nil
}

// sleep waits for d, or less if ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
