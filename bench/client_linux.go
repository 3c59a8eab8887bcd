// The client of the request workloads: a loop that keeps a number of
// connections busy, each with one request at a time.

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

// script is what a client does on each of its connections.
type script struct {
	to        netip.AddrPort
	tunnel    []byte // the CONNECT request that comes first; empty for none
	request   []byte
	status    int  // of the answer to request
	reconnect bool // a new connection for every request, which asks the origin to close
}

// client plays a script. Done may be read, and record and stop be set, while
// run runs; the rest is run's alone.
type client struct {
	script
	done   atomic.Int64 // answers that came in full
	record atomic.Bool  // keep how long each takes
	stop   atomic.Bool

	latencies []time.Duration // recorded
	conns     []clientConn
	poll      *poller
	buf       [64 << 10]byte
}

// clientConn is one of a client's connections.
type clientConn struct {
	fd            int
	began         time.Time // of the request, with a new connection's set-up
	served        int       // requests answered on it
	tunneled      bool      // the CONNECT is answered
	header        []byte    // of the answer, as far as it has come
	inBody        bool
	awaitingClose bool // all is answered, and the other side is to close
	response      header
	remaining     int64 // of the answer's content
}

// run plays the script on n connections until stop is set.
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
			c.conns[i].close()
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
			return fmt.Errorf("no answer in %v", stallTimeout)
		}
	}
	return nil
}

func (c *clientConn) close() {
	if c.fd >= 0 {
		syscall.Close(c.fd)
		c.fd = -1
	}
}

// open opens connection i, anew if it was open, and begins its script.
func (c *client) open(i int) error {
	conn := &c.conns[i]
	conn.close()
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

// next begins the request after one that was answered. It leaves the closing of
// a connection to the other side: see responder.
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

// send sends a request, which the buffers of a socket always have room for.
func send(fd int, b []byte) error {
	n, err := syscall.Write(fd, b)
	if err == nil && n < len(b) {
		err = errors.New("short write")
	}
	return err
}

// read takes what has come on connection i.
func (c *client) read(i int) error {
	conn := &c.conns[i]
	n, err := syscall.Read(conn.fd, c.buf[:])
	switch {
	case err == syscall.EAGAIN || err == syscall.EINTR:
		return nil
	case n > 0 && conn.awaitingClose:
		return errors.New("the proxy sent more than an answer")
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
	return errors.New("the proxy closed a connection before it had answered")
}

// consume takes bytes of an answer.
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
		return errors.New("the answer is longer than it says")
	}
	if conn.remaining == 0 {
		return c.finish(i)
	}
	return nil
}

// expect checks the status of an answer.
func (c *client) expect(conn *clientConn, response header) error {
	want := c.status
	if !conn.tunneled {
		want = 200
	}
	if response.status != want {
		return fmt.Errorf("the proxy answered %d, not %d", response.status, want)
	}
	return nil
}

// finish goes on after an answer that is complete.
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

// percentile returns how long a share p of the recorded requests took at most.
// Call it after run.
func (c *client) percentile(p float64) time.Duration {
	slices.Sort(c.latencies)
	return percentile(c.latencies, p)
}
