// The client and the origin of the UDP workloads: SOCKS5 associations with several
// datagrams in flight each.

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"example.com/networkproxy/internal/udpbatch"
)

const (
	associations = 8
	inFlight     = 16  // datagrams per association
	payloadSize  = 100 // bytes per datagram
)

// sendBursts sends datagrams in batches of at most burst.
func sendBursts(burst int, out *udpbatch.Sender, datagrams [][]byte, scratch []byte) {
	for len(datagrams) > 0 {
		n := min(burst, len(datagrams))
		out.Send(datagrams[:n], scratch)
		datagrams = datagrams[n:]
	}
}

// echoer is an origin that sends datagrams back in batches of at most burst.
type echoer struct {
	burst int
	conn  *net.UDPConn
	ended chan struct{}
}

func startEchoer(burst int) (origin, error) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: loopback.AsSlice()})
	if err != nil {
		return nil, err
	}
	c.SetReadBuffer(4 << 20)
	e := &echoer{burst: burst, conn: c, ended: make(chan struct{})}
	go func() {
		defer close(e.ended)
		e.serve()
	}()
	return e, nil
}

// serve reads batches and sends back consecutive datagrams of one sender together.
func (e *echoer) serve() {
	var buffers udpbatch.Buffers
	in, err := udpbatch.NewReader(e.conn, &buffers)
	if err != nil {
		return
	}
	defer in.Close()
	out := make(map[netip.AddrPort]*udpbatch.Sender)
	var back [udpbatch.MaxBatch][]byte
	for {
		n, err := in.Read()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		for i := 0; i < n; {
			from, batch := in.From(i), back[:0]
			for ; i < n && len(batch) < len(back) && in.From(i) == from; i++ {
				batch = append(batch, in.Data(i))
			}
			if out[from] == nil {
				if out[from], err = udpbatch.NewSender(e.conn, from, nil); err != nil {
					return
				}
			}
			sendBursts(e.burst, out[from], batch, in.Scratch())
		}
	}
}

func (e *echoer) addr() netip.AddrPort { return e.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

func (e *echoer) close() error {
	e.conn.Close()
	<-e.ended
	return nil
}

// udpClient keeps datagrams in flight. It sends them in batches of at most burst: one
// at a time like most programs, or many like QUIC. While run runs, other goroutines
// may use only done, lost and stop.
type udpClient struct {
	burst  int
	done   atomic.Int64 // round trips
	lost   atomic.Int64
	stop   atomic.Bool
	packet []byte
}

// associate opens one association (RFC 1928 sections 3, 4 and 7). It ends with its
// TCP connection.
func associate(socks netip.AddrPort) (control net.Conn, conn *net.UDPConn, err error) {
	control, err = net.DialTimeout("tcp", socks.String(), stallTimeout)
	if err != nil {
		return nil, nil, err
	}
	relay, err := requestRelay(control)
	if err == nil {
		conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(relay))
	}
	if err != nil {
		control.Close()
	}
	return control, conn, err
}

func requestRelay(c net.Conn) (relay netip.AddrPort, err error) {
	c.SetDeadline(time.Now().Add(stallTimeout))
	if _, err := c.Write([]byte{5, 1, 0}); err != nil {
		return relay, err
	}
	var reply [10]byte
	if _, err := io.ReadFull(c, reply[:2]); err != nil {
		return relay, err
	}
	if _, err := c.Write([]byte{5, 3, 0, 1, 0, 0, 0, 0, 0, 0}); err != nil {
		return relay, err
	}
	if _, err := io.ReadFull(c, reply[:]); err != nil {
		return relay, err
	}
	if reply[1] != 0 || reply[3] != 1 {
		return relay, fmt.Errorf("the proxy replied to UDP ASSOCIATE with code %d, address type %d", reply[1], reply[3])
	}
	c.SetDeadline(time.Time{})
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(reply[4:8])), binary.BigEndian.Uint16(reply[8:])), nil
}

// run keeps all associations busy until stop is set.
func (u *udpClient) run(socks, to netip.AddrPort) error {
	ip := to.Addr().As4()
	u.packet = append([]byte{0, 0, 0, 1, ip[0], ip[1], ip[2], ip[3], byte(to.Port() >> 8), byte(to.Port())},
		make([]byte, payloadSize)...)
	ended := make(chan error, associations)
	for range associations {
		go func() { ended <- u.keepBusy(socks) }()
	}
	var all []error
	for range associations {
		err := <-ended
		if err != nil {
			u.stop.Store(true)
		}
		all = append(all, err)
	}
	return errors.Join(all...)
}

// keepBusy sends a datagram through an association for each that comes back.
func (u *udpClient) keepBusy(socks netip.AddrPort) error {
	control, socket, err := associate(socks)
	if err != nil {
		return err
	}
	defer control.Close()
	defer socket.Close()
	var buffers udpbatch.Buffers
	in, err := udpbatch.NewReader(socket, &buffers)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := udpbatch.NewSender(socket, netip.AddrPort{}, nil)
	if err != nil {
		return err
	}
	var batch [inFlight][]byte
	for i := range batch {
		batch[i] = u.packet
	}
	scratch := make([]byte, inFlight*len(u.packet))
	outstanding, lastRead := 0, time.Now()
	for !u.stop.Load() {
		socket.SetReadDeadline(time.Now().Add(10 * pollInterval))
		sendBursts(u.burst, out, batch[outstanding:], scratch)
		outstanding = inFlight
		n, err := in.Read()
		switch {
		case err == nil:
			lastRead = time.Now()
		case time.Since(lastRead) > stallTimeout:
			return fmt.Errorf("no datagram came back in %v", stallTimeout)
		case errors.Is(err, os.ErrDeadlineExceeded):
			// Datagrams may be lost. Count those that did not come back in time.
			u.lost.Add(int64(outstanding))
			outstanding = 0
			continue
		default:
			return fmt.Errorf("read from the relay: %w", err)
		}
		for i := range n {
			if got := len(in.Data(i)); got != len(u.packet) {
				return fmt.Errorf("a datagram of %d bytes came back, want %d", got, len(u.packet))
			}
		}
		u.done.Add(int64(n))
		outstanding = max(outstanding-n, 0) // a datagram counted as lost may come back later
	}
	return nil
}
