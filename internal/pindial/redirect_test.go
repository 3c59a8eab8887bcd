package pindial

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

// testNetwork leads one public address to a server.
type testNetwork struct {
	Resolver
	server netip.AddrPort
}

func (n testNetwork) Redirect(to Vetted) (netip.AddrPort, bool) {
	return n.server, netip.AddrPort(to) == netip.MustParseAddrPort("93.184.216.34:80")
}

func TestRedirect(t *testing.T) {
	t.Parallel()
	greet := func(text string) *testnet.Origin {
		return testnet.Serve(t, func(c *net.TCPConn) { io.WriteString(c, text) })
	}
	network, other := greet("network"), greet("other")
	d := Dialer{TestNetwork: testNetwork{server: network.AddrPort()}}
	for to, want := range map[netip.AddrPort]string{
		netip.MustParseAddrPort("93.184.216.34:80"): "network",
		other.AddrPort(): "other",
	} {
		conn, err := d.DialAddr(t.Context(), []netip.Addr{to.Addr()}, to.Port())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got, err := io.ReadAll(conn); err != nil || string(got) != want {
			t.Errorf("%s: got %q, %v; want %q", to, got, err, want)
		}
	}
	udp, _, err := d.DialUDPAddr(t.Context(), addrs("93.184.216.34"), 80)
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	if got := udp.RemoteAddr().String(); got != network.AddrPort().String() {
		t.Errorf("the UDP socket is connected to %s, want %s", got, network.AddrPort())
	}
}

// TestRedirectLeadsToLoopbackOnly checks that a test cannot send connections to
// another machine.
func TestRedirectLeadsToLoopbackOnly(t *testing.T) {
	t.Parallel()
	d := Dialer{TestNetwork: testNetwork{server: netip.MustParseAddrPort("192.0.2.1:80")}}
	if conn, err := d.DialAddr(context.Background(), addrs("93.184.216.34"), 80); err == nil || !strings.Contains(err.Error(), "not on loopback") {
		t.Errorf("TCP: got %v, %v", conn, err)
	}
	if conn, _, err := d.DialUDPAddr(context.Background(), addrs("93.184.216.34"), 80); err == nil || !strings.Contains(err.Error(), "not on loopback") {
		t.Errorf("UDP: got %v, %v", conn, err)
	}
}
