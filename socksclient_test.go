// A SOCKS5 client that is written from RFC 1928 and shares no code with the
// proxy.

package networkproxy_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// withSOCKS turns on SOCKS5 and UDP.
func withSOCKS(c networkproxy.Config) networkproxy.Config {
	c.EnableSOCKS5, c.EnableSOCKS5UDP = true, true
	return c
}

// Commands and address types of RFC 1928 sections 4 and 5.
const (
	socksConnect, socksBind, socksAssociate = 1, 2, 3
	socksIPv4, socksName, socksIPv6         = 1, 3, 4
)

// socksDestName and socksDestAddr encode a destination: type, address and port.
func socksDestName(name string, port uint16) []byte {
	b := append([]byte{socksName, byte(len(name))}, name...)
	return binary.BigEndian.AppendUint16(b, port)
}

func socksDestAddr(a netip.AddrPort) []byte {
	b := []byte{socksIPv6}
	if a.Addr().Is4() {
		b[0] = socksIPv4
	}
	b = append(b, a.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, a.Port())
}

// socksDest encodes a destination as an address if host is an address without a
// zone, and as a name otherwise. SOCKS5 addresses have no zones.
func socksDest(host string, port uint16) []byte {
	if a, err := netip.ParseAddr(host); err == nil && a.Zone() == "" {
		return socksDestAddr(netip.AddrPortFrom(a, port))
	}
	return socksDestName(host, port)
}

// dialSOCKS connects to the SOCKS5 listener and sends nothing.
func (l *lab) dialSOCKS() *net.TCPConn {
	l.t.Helper()
	return dialSOCKS(l.t, l.SOCKSAddr())
}

func dialSOCKS(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn.(*net.TCPConn)
}

// socksRequest makes one request on a new connection and returns the reply.
func (l *lab) socksRequest(command byte, dst []byte) (conn *net.TCPConn, code byte, bound netip.AddrPort) {
	l.t.Helper()
	conn = l.dialSOCKS()
	code, bound, err := socksRequest(conn, command, dst)
	if err != nil {
		l.t.Fatalf("SOCKS5 command %d to % x: %v", command, dst, err)
	}
	return conn, code, bound
}

func socksRequest(conn net.Conn, command byte, dst []byte) (code byte, bound netip.AddrPort, err error) {
	if _, err := conn.Write([]byte{5, 1, 0}); err != nil {
		return 0, bound, err
	}
	method := make([]byte, 2)
	if _, err := io.ReadFull(conn, method); err != nil {
		return 0, bound, err
	}
	if method[0] != 5 || method[1] != 0 {
		return 0, bound, fmt.Errorf("method reply % x", method)
	}
	if _, err := conn.Write(append([]byte{5, command, 0}, dst...)); err != nil {
		return 0, bound, err
	}
	return readReply(conn)
}

func readReply(r io.Reader) (code byte, bound netip.AddrPort, err error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, bound, err
	}
	if head[0] != 5 || head[2] != 0 {
		return 0, bound, fmt.Errorf("reply % x", head)
	}
	length := map[byte]int{socksIPv4: 4, socksIPv6: 16}[head[3]]
	rest := make([]byte, length+2)
	if _, err := io.ReadFull(r, rest); err != nil || length == 0 {
		return 0, bound, fmt.Errorf("reply % x % x: %v", head, rest, err)
	}
	addr, _ := netip.AddrFromSlice(rest[:length])
	return head[1], netip.AddrPortFrom(addr, binary.BigEndian.Uint16(rest[length:])), nil
}

// socksTunnel opens a tunnel with the SOCKS5 command CONNECT.
func (l *lab) socksTunnel(host string, port uint16) *net.TCPConn {
	l.t.Helper()
	conn, code, _ := l.socksRequest(socksConnect, socksDest(host, port))
	if code != 0 {
		l.t.Fatalf("SOCKS5 CONNECT to %s:%d: got the reply %d", host, port, code)
	}
	return conn
}

// healthCounts has the counters of GET /health.
type healthCounts struct {
	Connections, Allowed, Refused, Failed, Cut int
	Dropped                                    int `json:"datagrams_dropped"`
}

func (l *lab) healthCounts() healthCounts {
	l.t.Helper()
	var got healthCounts
	if err := json.Unmarshal([]byte(l.admin("GET", "/health", "").body), &got); err != nil {
		l.t.Fatal(err)
	}
	return got
}

// udpClient is a client with a UDP association.
type udpClient struct {
	t       testing.TB
	control *net.TCPConn
	conn    *net.UDPConn
	relay   netip.AddrPort
}

// associate opens an association, and a socket to send from.
func (l *lab) associate() *udpClient {
	l.t.Helper()
	control, code, relay := l.socksRequest(socksAssociate, socksDestAddr(netip.MustParseAddrPort("0.0.0.0:0")))
	if code != 0 {
		l.t.Fatalf("UDP ASSOCIATE: got the reply %d", code)
	}
	control.SetDeadline(time.Time{})
	return &udpClient{l.t, control, listenUDP(l.t, relay.Addr().String()), relay}
}

// listenUDP opens a socket on addr until the end of the test.
func listenUDP(t testing.TB, addr string) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0)))
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadBuffer(1 << 20)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// send sends data to a destination that socksDest encoded.
func (c *udpClient) send(dst []byte, data string) {
	c.sendRaw(slices.Concat([]byte{0, 0, 0}, dst, []byte(data)))
}

func (c *udpClient) sendRaw(b []byte) {
	c.t.Helper()
	if _, err := c.conn.WriteToUDPAddrPort(b, c.relay); err != nil {
		c.t.Fatal(err)
	}
}

// receive returns the data of the next datagram and the sender in its header.
func (c *udpClient) receive() (data string, from netip.AddrPort) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 64<<10)
	n, sender, err := c.conn.ReadFromUDPAddrPort(b)
	if err != nil {
		c.t.Fatal(err)
	}
	if sender != c.relay {
		c.t.Fatalf("got a datagram from %v, want one from the relay %v", sender, c.relay)
	}
	b = b[:n]
	length := 0
	if n > 3 {
		length = map[byte]int{socksIPv4: 4, socksIPv6: 16}[b[3]]
	}
	if n < 6+length || length == 0 || b[0] != 0 || b[1] != 0 || b[2] != 0 {
		c.t.Fatalf("got % x, want a SOCKS5 datagram", b)
	}
	addr, _ := netip.AddrFromSlice(b[4 : 4+length])
	return string(b[6+length:]), netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[4+length:]))
}

// expect receives one datagram and checks its data and sender.
func (c *udpClient) expect(data, from string) {
	c.t.Helper()
	if got, sender := c.receive(); got != data || sender.String() != from {
		c.t.Errorf("got the datagram %.60q (%d bytes) from %v, want %.60q from %s", got, len(got), sender, data, from)
	}
}

// mapHostUDP is mapHost for datagrams.
func (l *lab) mapHostUDP(name string, port uint16, to netip.AddrPort) {
	l.dns.Set(name, testnet.Addrs(publicAddr))
	l.net.MapUDP(netip.AddrPortFrom(netip.MustParseAddr(publicAddr), port), to)
}

// verdictTCP returns the reason of the refusal of a tunnel, or "" if it is
// allowed.
func (l *lab) verdictTCP(t *testing.T, dst []byte) networkproxy.Reason {
	t.Helper()
	recorded := l.recorded()
	conn := dialSOCKS(t, l.SOCKSAddr())
	defer conn.Close()
	code, _, err := socksRequest(conn, socksConnect, dst)
	if err != nil {
		t.Fatal(err)
	}
	if code != 2 {
		return ""
	}
	return l.newestReason(recorded)
}

// verdictUDP is verdictTCP for datagrams.
func (l *lab) verdictUDP(t *testing.T, dst []byte) networkproxy.Reason {
	t.Helper()
	// Count by protocol, because an earlier tunnel may be counted only when it ends.
	count := func() (allowed, failed float64, dropped int) {
		dropped = l.healthCounts().Dropped // first, because a failure is counted before the drop that it causes
		m := l.metrics(t)
		return m.requests(`protocol="socks5_udp"`, `outcome="allowed"`), m.requests(`protocol="socks5_udp"`, `outcome="failed"`), dropped
	}
	recorded := l.recorded()
	allowedBefore, failedBefore, droppedBefore := count()
	u := l.associate()
	defer u.control.Close()
	u.send(dst, "ping")
	var allowed, failed bool
	eventually(t, "the datagram is counted", func() bool {
		a, f, dropped := count()
		allowed, failed = a > allowedBefore, f > failedBefore
		return allowed || failed || dropped > droppedBefore
	})
	if allowed {
		u.receive()
	}
	if allowed || failed {
		return ""
	}
	return l.newestReason(recorded)
}

// recorded returns the number of recorded refusals.
func (l *lab) recorded() int {
	l.t.Helper()
	var all struct{ Total int }
	if err := json.Unmarshal([]byte(l.admin("GET", "/blocked", "").body), &all); err != nil {
		l.t.Fatal(err)
	}
	return all.Total
}

// newestReason returns the reason of the newest refusal. If there are no more than
// recorded refusals, the target was malformed: that is not recorded, because it
// has no host.
func (l *lab) newestReason(recorded int) networkproxy.Reason {
	if l.recorded() == recorded {
		return networkproxy.ReasonInvalidTarget
	}
	list := l.Blocked()
	return list[len(list)-1].Reason
}
