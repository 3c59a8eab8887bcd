// The client and the origin of the datagram workload: SOCKS5 associations, each
// with a number of datagrams under way.

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	associations = 8
	inFlight     = 16  // datagrams of one association
	payload      = 100 // bytes of one
)

// echoer sends datagrams back.
type echoer struct {
	conn  *net.UDPConn
	ended chan struct{}
}

func startEchoer() (origin, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		return nil, err
	}
	c.SetReadBuffer(4 << 20)
	e := &echoer{conn: c, ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		var buf [2048]byte
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf[:])
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				c.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	return e, nil
}

func (e *echoer) addr() netip.AddrPort { return e.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (e *echoer) close() error {
	e.conn.Close()
	<-e.ended
	return nil
}

// udpClient keeps datagrams under way. Done may be read and stop be set while
// run runs.
type udpClient struct {
	done    atomic.Int64 // round trips
	lost    atomic.Int64
	stop    atomic.Bool
	control []net.Conn // of the associations: each lives as long as its own
	sockets []int
	packet  []byte
}

// associate opens one association (RFC 1928 sections 3, 4 and 7).
func (u *udpClient) associate(socks netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", socks.String(), stall)
	if err != nil {
		return err
	}
	u.control = append(u.control, c)
	c.SetDeadline(time.Now().Add(stall))
	if _, err := c.Write([]byte{5, 1, 0}); err != nil {
		return err
	}
	var reply [10]byte
	if _, err := io.ReadFull(c, reply[:2]); err != nil {
		return err
	}
	if _, err := c.Write([]byte{5, 3, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return err
	}
	if reply[1] != 0 || reply[3] != 1 {
		return fmt.Errorf("the proxy answered UDP ASSOCIATE with code %d, address type %d", reply[1], reply[3])
	}
	c.SetDeadline(time.Time{})
	relay := netip.AddrPortFrom(netip.AddrFrom4([4]byte(reply[4:8])), uint16(reply[8])<<8|uint16(reply[9]))
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	u.sockets = append(u.sockets, fd)
	return connect(fd, relay)
}

// run keeps all associations busy until stop is set.
func (u *udpClient) run(socks, to netip.AddrPort) error {
	defer u.close()
	poll, err := newPoller()
	if err != nil {
		return err
	}
	defer poll.close()
	ip := to.Addr().As4()
	u.packet = append([]byte{0, 0, 0, 1, ip[0], ip[1], ip[2], ip[3], byte(to.Port() >> 8), byte(to.Port())},
		make([]byte, payload)...)
	for i := range associations {
		if err := u.associate(socks); err != nil {
			return err
		}
		if err := poll.add(u.sockets[i], i); err != nil {
			return err
		}
	}
	underWay := make([]int, associations)
	heard := make([]time.Time, associations)
	quiet := time.Now()
	for !u.stop.Load() {
		// What has not come back for a while has been lost: a datagram may be.
		now := time.Now()
		for i := range underWay {
			if underWay[i] > 0 && now.Sub(heard[i]) < 10*look {
				continue
			}
			u.lost.Add(int64(underWay[i]))
			for underWay[i] = 0; underWay[i] < inFlight; underWay[i]++ {
				send(u.sockets[i], u.packet)
			}
			heard[i] = now
		}
		events, err := poll.wait(look)
		if err != nil {
			return err
		}
		for _, event := range events {
			i := int(event.Fd)
			n, err := u.exchange(u.sockets[i])
			if err != nil {
				return err
			}
			if n > 0 {
				quiet, heard[i] = now, now
			}
		}
		if now.Sub(quiet) > stall {
			return fmt.Errorf("no datagram came back in %v", stall)
		}
	}
	return nil
}

// exchange sends a datagram for each that has come back, and counts them.
func (u *udpClient) exchange(fd int) (n int, err error) {
	var buf [2048]byte
	for ; n < inFlight; n++ {
		got, err := syscall.Read(fd, buf[:])
		if err == syscall.EAGAIN || err == syscall.EINTR {
			break
		}
		if err != nil {
			return n, fmt.Errorf("read from the relay: %w", err)
		}
		if got != len(u.packet) {
			return n, fmt.Errorf("%d bytes came back of %d", got, len(u.packet))
		}
		u.done.Add(1)
		send(fd, u.packet)
	}
	return n, nil
}

func (u *udpClient) close() {
	for _, fd := range u.sockets {
		syscall.Close(fd)
	}
	for _, c := range u.control {
		c.Close()
	}
}
