// The origin of the request workloads. It sends the same response of 100 bytes to
// each request and closes the connection if the request says so. The origin closes
// first because the side that closes keeps the connection in TIME-WAIT for a minute.
// On a client or proxy each would take an ephemeral port, and a run of a few minutes
// would use them up.

package main

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
)

// responder is an origin with an event loop.
type responder struct {
	at       netip.AddrPort
	listener int
	poll     *poller
	matched  []int // by descriptor: see countHeaders
	stop     atomic.Bool
	ended    chan error
	buf      [16 << 10]byte
}

var closeField = []byte("\r\nConnection: close\r\n")

var smallResponse = []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\n"+
	"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\n%s", strings.Repeat("x", 99)+"\n"))

func startResponder() (origin, error) {
	fd, at, err := listenStream()
	if err != nil {
		return nil, err
	}
	o := &responder{at: at, listener: fd, ended: make(chan error, 1)}
	if o.poll, err = newPoller(); err == nil {
		err = o.poll.add(fd, fd)
	}
	if err != nil {
		syscall.Close(fd)
		return nil, err
	}
	go func() { o.ended <- o.serve() }()
	return o, nil
}

func (o *responder) addr() netip.AddrPort { return o.at }

func (o *responder) close() error {
	o.stop.Store(true)
	return <-o.ended
}

func (o *responder) serve() error {
	defer func() {
		for fd := range o.matched {
			o.drop(fd)
		}
		syscall.Close(o.listener)
		o.poll.close()
	}()
	for !o.stop.Load() {
		events, err := o.poll.wait(pollInterval)
		if err != nil {
			return err
		}
		for _, event := range events {
			if int(event.Fd) == o.listener {
				err = o.accept()
			} else {
				o.respond(int(event.Fd))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// none marks descriptors that are not connections.
const none = -1

func (o *responder) accept() error {
	for {
		fd, _, err := syscall.Accept4(o.listener, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		if err == syscall.EAGAIN || err == syscall.ECONNABORTED || err == syscall.EINTR {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the origin cannot accept: %w", err)
		}
		syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
		for len(o.matched) <= fd {
			o.matched = append(o.matched, none)
		}
		o.matched[fd] = 0
		if err := o.poll.add(fd, fd); err != nil {
			return err
		}
	}
}

// respond reads from a connection and responds to the requests, or closes it.
func (o *responder) respond(fd int) {
	n, err := syscall.Read(fd, o.buf[:])
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	if n <= 0 {
		o.drop(fd)
		return
	}
	var requests int
	o.matched[fd], requests = countHeaders(o.matched[fd], o.buf[:n])
	for range requests {
		if send(fd, smallResponse) != nil {
			o.drop(fd)
			return
		}
	}
	if requests > 0 && bytes.Contains(o.buf[:n], closeField) {
		o.drop(fd)
	}
}

func (o *responder) drop(fd int) {
	if o.matched[fd] != none {
		o.matched[fd] = none
		o.poll.closeSocket(fd)
	}
}
