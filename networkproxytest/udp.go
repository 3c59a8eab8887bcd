// UDP ASSOCIATE (RFC 1928 section 7): the paths and the check of the relay.

package networkproxytest

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"example.com/networkproxy"
)

// unspecifiedClient is the all-zero address of a client that does not announce its
// own.
var unspecifiedClient = []byte{1, 0, 0, 0, 0, 0, 0}

// relaysUDP reports whether a SOCKS5 listener supports UDP ASSOCIATE. A listener
// that refuses temporarily supports it.
func relaysUDP(t testing.TB, addr string) bool {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	code, _, err := socksRequest(c, associateCommand, unspecifiedClient)
	return err == nil && code != 7
}

// udpVia returns a function that opens an association for one target. It sends the
// target's host as a domain name or, if asAddress is set, as an address.
func udpVia(addr string, asAddress bool) func(testing.TB, string) (outcome, net.Conn, bool) {
	return func(t testing.TB, target string) (outcome, net.Conn, bool) {
		t.Helper()
		destination, ok := socksDestination(target, asAddress)
		if !ok {
			return outcome{}, nil, false
		}
		control := dial(t, addr)
		code, relay, err := socksRequest(control, associateCommand, unspecifiedClient)
		if err != nil || code != 0 {
			control.Close()
			return outcome{text: "no association"}, nil, true
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(relay))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(timeout))
		t.Cleanup(func() { conn.Close() })
		header := append([]byte{0, 0, 0}, destination...)
		return outcome{reached: true, text: "an association"}, &association{conn, control, relay, header}, true
	}
}

// association exchanges datagrams with one target through a relay. It closes with
// its control connection.
type association struct {
	*net.UDPConn
	control net.Conn
	relay   netip.AddrPort
	header  []byte
}

func (d *association) Write(b []byte) (int, error) {
	n, err := d.UDPConn.Write(append(d.header[:len(d.header):len(d.header)], b...))
	return max(0, n-len(d.header)), err
}

func (d *association) Read(b []byte) (int, error) {
	whole := make([]byte, 64<<10)
	n, err := d.UDPConn.Read(whole)
	if err != nil {
		return 0, err
	}
	header := 4 + 4 + 2
	if n > 3 && whole[3] == 4 {
		header = 4 + 16 + 2
	}
	if n < header || whole[2] != 0 {
		return 0, errors.New("datagram without a SOCKS5 header")
	}
	return copy(b, whole[header:n]), nil
}

func (d *association) Close() error {
	d.control.Close()
	return d.UDPConn.Close()
}

// echo starts an echo server for the path's transport and returns its address.
func (p path) echo(t testing.TB) string {
	t.Helper()
	if !p.udp {
		return echo(t).addr()
	}
	addr, _ := echoUDP(t)
	return addr
}

// echoUDP starts a UDP server that sends back and records all datagrams.
func echoUDP(t testing.TB) (addr string, got <-chan string) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	seen, ended := make(chan string, 64), make(chan struct{})
	go func() {
		defer close(ended)
		b := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // an ICMP error for an earlier datagram
			}
			select {
			case seen <- string(b[:n]):
			default:
			}
			conn.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return conn.LocalAddr().String(), seen
}

func checkUDPRelay(t testing.TB, start Start) {
	t.Helper()
	r := startProxy(t, start, allowOnly("127.0.0.1"), networkproxy.ModeFull)
	tested := false
	for _, p := range r.paths {
		if !p.udp {
			continue
		}
		tested = true
		target, got := echoUDP(t)
		_, conn, _ := p.open(t, target)
		d, ok := conn.(*association)
		if !ok {
			t.Errorf("%s: cannot open an association", p.name)
			continue
		}
		send(d, "first")
		if n, err := d.Read(make([]byte, 100)); err != nil || n != len("first") {
			t.Errorf("%s: read %d bytes, %v; want the first datagram back", p.name, n, err)
			continue
		}
		// Send a fragment, a datagram of another client, and another one of the
		// client. The relay reads them in this order.
		fragment := append([]byte(nil), d.header...)
		fragment[2] = 1
		d.UDPConn.Write(append(fragment, "fragment"...))
		other, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(d.relay))
		if err != nil {
			t.Fatal(err)
		}
		other.Write(append(d.header[:len(d.header):len(d.header)], "another's"...))
		other.Close()
		send(d, "second")
		if _, err := d.Read(make([]byte, 100)); err != nil {
			t.Errorf("%s: no datagram came back after a fragment and a datagram of another client: %v", p.name, err)
			continue
		}
		if first, second := <-got, <-got; first != "first" || second != "second" {
			t.Errorf("%s: the target received %q and %q, want only the client's \"first\" and \"second\"", p.name, first, second)
			continue
		}
		d.control.Close()
		if err := checkRelayEnded(d); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
	if !tested {
		t.Log("not tested: UDP is off")
	}
}

// checkRelayEnded returns an error unless the relay of an association ends with its
// control connection.
func checkRelayEnded(d *association) error {
	for deadline := time.Now().Add(timeout); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		send(d, "late")
		d.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := d.Read(make([]byte, 100)); err != nil && !isTimeout(err) {
			return nil // the port was closed
		}
	}
	return errors.New("the relay still runs after its control connection was closed")
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
