// The client of the request workloads: an event loop that keeps connections busy
// with one request at a time each.

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

// script is the work of a client on each of its connections.
type script struct {
	to        netip.AddrPort
	tunnel    []byte // a CONNECT request to send first; empty for none
	request   []byte
	status    int  // expected status of the response to request
	reconnect bool // use a new connection for each request; the request tells the origin to close
}

// client runs a script. While run runs, other goroutines may use only done, record
// and stop.
type client struct {
	script
	done   atomic.Int64 // complete responses
	record atomic.Bool  // record latencies
	stop   atomic.Bool

	latencies []time.Duration
	conns     []clientConn
	poll      *poller
	buf       [64 << 10]byte
}

// clientConn is one connection of a client.
type clientConn struct {
	fd            int
	began         time.Time // start of the request, or of the connection for the first request
	served        int       // complete responses
	tunneled      bool      // CONNECT succeeded, or is not needed
	header        []byte    // received part of a response header
	inBody        bool
	awaitingClose bool // the response is complete; the other side must close
	response      header
	remaining     int64 // bytes of the body
}

// run runs the script on n connections until stop is set.
func (c *client) run(n int) (err error) {
	if c.poll, err = newPoller(); err != nil {
		return err
	}
	defer c.poll.close()
	c.conns = make([]clientConn, n)
	for i := range c.conns {
		c.conns[i].fd = -1
	}
	defer func() {
		for i := range c.conns {
			c.close(&c.conns[i])
		}
	}()
	for i := range c.conns {
		if err := c.open(i); err != nil {
			return err
		}
	}
	last, quiet := int64(0), time.Now()
	for !c.stop.Load() {
		events, err := c.poll.wait(pollInterval)
		if err != nil {
			return err
		}
		for _, event := range events {
			if err := c.read(int(event.Fd)); err != nil {
				return err
			}
		}
		if done := c.done.Load(); done != last || len(events) > 0 {
			last, quiet = done, time.Now()
		} else if time.Since(quiet) > stallTimeout {
			return fmt.Errorf("no response in %v", stallTimeout)
		}
	}
	return nil
}

func (c *client) close(conn *clientConn) {
	if conn.fd >= 0 {
		c.poll.closeSocket(conn.fd)
		conn.fd = -1
	}
}

// open opens or reopens connection i and starts its script.
func (c *client) open(i int) error {
	conn := &c.conns[i]
	c.close(conn)
	*conn = clientConn{fd: -1, began: time.Now(), header: conn.header[:0]}
	fd, err := dialStream(c.to)
	if err != nil {
		return err
	}
	conn.fd = fd
	if err := c.poll.add(fd, i); err != nil {
		return err
	}
	if len(c.tunnel) > 0 {
		return send(fd, c.tunnel)
	}
	conn.tunneled = true
	return send(fd, c.request)
}

// next starts the next request. If the connection ends, next leaves the closing to
// the other side, for the reason in responder_linux.go.
func (c *client) next(i int) error {
	conn := &c.conns[i]
	if conn.response.length == untilClose {
		return c.open(i)
	}
	if c.reconnect || conn.response.close {
		conn.awaitingClose = true
		return nil
	}
	conn.began = time.Now()
	if err := send(conn.fd, c.request); err != nil {
		return c.open(i) // closed between two requests
	}
	return nil
}

// send writes b in one call. The socket's buffer has room for it.
func send(fd int, b []byte) error {
	n, err := syscall.Write(fd, b)
	if err == nil && n < len(b) {
		err = errors.New("short write")
	}
	return err
}

// read reads from connection i.
func (c *client) read(i int) error {
	conn := &c.conns[i]
	n, err := syscall.Read(conn.fd, c.buf[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case n > 0 && conn.awaitingClose:
		return errors.New("the proxy sent data after the response")
	case n > 0:
		return c.consume(i, c.buf[:n])
	case conn.awaitingClose:
		return c.open(i)
	case conn.inBody && conn.response.length == untilClose:
		return c.finish(i)
	case conn.served > 0 && len(conn.header) == 0 && !conn.inBody:
		return c.open(i) // closed between two requests
	case err != nil:
		return fmt.Errorf("read from the proxy: %w", err)
	}
	return errors.New("the proxy closed a connection before the end of the response")
}

// consume handles bytes of a response.
func (c *client) consume(i int, b []byte) error {
	conn := &c.conns[i]
	if !conn.inBody {
		whole := b
		if len(conn.header) > 0 {
			conn.header = append(conn.header, b...)
			whole = conn.header
		}
		response, size, err := parseHeader(whole, !conn.tunneled)
		if err != nil {
			return err
		}
		if size == 0 {
			if len(conn.header) == 0 {
				conn.header = append(conn.header, b...)
			}
			return nil
		}
		if err := c.expect(conn, response); err != nil {
			return err
		}
		conn.response, conn.remaining, conn.inBody = response, response.length, true
		b = whole[size:]
	}
	if conn.response.length == untilClose {
		return nil
	}
	if conn.remaining -= int64(len(b)); conn.remaining < 0 {
		return errors.New("the body is longer than its Content-Length")
	}
	if conn.remaining == 0 {
		return c.finish(i)
	}
	return nil
}

// expect checks the status of a response.
func (c *client) expect(conn *clientConn, response header) error {
	want := c.status
	if !conn.tunneled {
		want = 200
	}
	if response.status != want {
		return fmt.Errorf("the proxy responded with status %d, want %d", response.status, want)
	}
	return nil
}

// finish records a complete response and starts the next request.
func (c *client) finish(i int) error {
	conn := &c.conns[i]
	conn.header, conn.inBody = conn.header[:0], false
	if !conn.tunneled {
		conn.tunneled = true
		return send(conn.fd, c.request)
	}
	conn.served++
	c.done.Add(1)
	if c.record.Load() {
		c.latencies = append(c.latencies, time.Since(conn.began))
	}
	return c.next(i)
}

// percentile returns the smallest recorded latency that a share p of the requests
// does not exceed. Call it after run.
func (c *client) percentile(p float64) time.Duration {
	slices.Sort(c.latencies)
	return percentile(c.latencies, p)
}
