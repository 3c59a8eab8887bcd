package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"example.com/networkproxy/internal/testnet"
)

func TestDialUDPAddr(t *testing.T) {
	t.Parallel()
	echo := testnet.EchoUDP(t, "127.0.0.1")
	conn, addr, err := new(Dialer).DialUDPAddr(context.Background(), []netip.Addr{echo.Addr()}, echo.Port())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if addr != echo || conn.RemoteAddr().String() != echo.String() {
		t.Errorf("connected to %v, returned %v, want %v", conn.RemoteAddr(), addr, echo)
	}
	conn.Write([]byte("ping"))
	b := make([]byte, 10)
	if n, err := conn.Read(b); err != nil || string(b[:n]) != "ping" {
		t.Errorf("%q, %v", b[:n], err)
	}
}

func TestDialUDPAddrTakesTheFirstWithAWay(t *testing.T) {
	t.Parallel()
	echo := testnet.EchoUDP(t, "127.0.0.1")
	var tried []string
	noWay := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	d := Dialer{ConnectUDP: func(ctx context.Context, addr netip.AddrPort) (*net.UDPConn, error) {
		tried = append(tried, addr.String())
		if addr.Addr().Is6() {
			return nil, noWay
		}
		return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(echo))
	}}
	addrs := []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	conn, addr, err := d.DialUDPAddr(context.Background(), addrs, 53)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if addr.String() != "192.0.2.1:53" || len(tried) != 2 {
		t.Errorf("took %v after %q", addr, tried)
	}

	var connect *ConnectError
	if _, _, err := d.DialUDPAddr(context.Background(), addrs[:1], 53); !errors.As(err, &connect) || !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("no route: %v", err)
	}
	if _, _, err := d.DialUDPAddr(context.Background(), nil, 53); !errors.As(err, &connect) {
		t.Errorf("no address: %v", err)
	}
	tried = nil
	many := make([]netip.Addr, 0, 1000)
	for a := netip.MustParseAddr("2001:db8::"); len(many) < cap(many); a = a.Next() {
		many = append(many, a)
	}
	d.DialUDPAddr(context.Background(), many, 53)
	if len(tried) != maxAttempts {
		t.Errorf("%d addresses were tried", len(tried))
	}
}

// TestVettedDialerUDP checks that a vettedDialer connects to vetted addresses
// only.
func TestVettedDialerUDP(t *testing.T) {
	t.Parallel()
	g := newVettedDialer([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")})
	for _, addr := range []string{"127.0.0.1:54", "127.0.0.2:53", "[::1]:53"} {
		conn, err := g.connectUDP(context.Background(), netip.MustParseAddrPort(addr))
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, ErrNotVetted) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	conn, err := g.connectUDP(context.Background(), netip.MustParseAddrPort("127.0.0.1:53"))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
