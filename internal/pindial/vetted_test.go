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

// TestVettedDialerRefuses passes addresses outside the vetted list to a
// Dialer's connect function, as a bug would.
func TestVettedDialerRefuses(t *testing.T) {
	t.Parallel()
	secret, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	to := secret.Addr().(*net.TCPAddr).AddrPort()
	connect := new(Dialer).connectTo([]netip.AddrPort{
		netip.MustParseAddrPort("93.184.215.14:443"),
		netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), to.Port()), // another address
		netip.AddrPortFrom(to.Addr(), to.Port()^1),                      // another port
	})
	for _, addr := range []netip.AddrPort{to, netip.AddrPortFrom(netip.AddrFrom16(to.Addr().As16()), to.Port())} {
		c, err := connect(t.Context(), addr)
		if c != nil || !errors.Is(err, ErrNotVetted) {
			t.Errorf("connect(%v) = %v, %v; want ErrNotVetted", addr, c, err)
		}
	}
	// A connection that had reached the server would precede this one in its
	// queue, even if closed.
	own, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	first, err := secret.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != own.LocalAddr().String() {
		t.Error("the server was reached")
	}
}

// TestVettedDialerDoesNotBind checks that sockets are not bound before they
// connect, because each would take an ephemeral port exclusively. The error of
// a prevented dial contains the address that the socket would have been bound
// to.
func TestVettedDialerDoesNotBind(t *testing.T) {
	t.Parallel()
	_, err := newVettedDialer(nil).connect(t.Context(), netip.MustParseAddrPort("127.0.0.1:9"))
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Fatalf("got %v, want a net.OpError", err)
	}
	if op.Source != nil {
		t.Errorf("the socket would be bound to %v", op.Source)
	}
}

func TestGuardAllows(t *testing.T) {
	t.Parallel()
	origin := testnet.Hang(t)
	to := origin.AddrPort()
	c, err := new(Dialer).connectTo([]netip.AddrPort{to})(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestGuardControl(t *testing.T) {
	t.Parallel()
	g := newVettedDialer([]netip.AddrPort{
		netip.MustParseAddrPort("93.184.215.14:443"),
		netip.MustParseAddrPort("[2606:4700::1]:443"),
		netip.MustParseAddrPort("[fe80::1%eth0]:443"),
	})
	tests := []struct {
		address string
		ok      bool
	}{
		{"93.184.215.14:443", true},
		{"[::ffff:93.184.215.14]:443", true},
		{"[2606:4700::1]:443", true},
		{"[2606:4700:0:0::1]:443", true},
		{"93.184.215.14:80", false},
		{"93.184.215.15:443", false},
		{"127.0.0.1:443", false},
		{"[2606:4700::1%eth0]:443", false},
		{"[fe80::1%eth0]:443", true},
		{"[fe80::1%eth1]:443", false},
		{"[fe80::1]:443", false},
		{"example.com:443", false},
		{"93.184.215.14", false},
		{"", false},
	}
	for _, tt := range tests {
		err := g.control(t.Context(), "tcp", tt.address, nil)
		if (err == nil) != tt.ok || err != nil && !errors.Is(err, ErrNotVetted) {
			t.Errorf("control(%q) = %v, want allowed: %v", tt.address, err, tt.ok)
		}
	}
}

// TestVettedDialerCopiesItsList checks that the caller may change its slice
// later.
func TestVettedDialerCopiesItsList(t *testing.T) {
	t.Parallel()
	list := []netip.AddrPort{netip.MustParseAddrPort("93.184.215.14:443")}
	g := newVettedDialer(list)
	list[0] = netip.MustParseAddrPort("127.0.0.1:443")
	if err := g.control(t.Context(), "tcp", "127.0.0.1:443", nil); !errors.Is(err, ErrNotVetted) {
		t.Errorf("control = %v, want ErrNotVetted", err)
	}
}

// TestMostSpecificError checks every pair of errors, listed from the least to
// the most specific.
func TestMostSpecificError(t *testing.T) {
	t.Parallel()
	kinds := [][]error{
		{syscall.ENETUNREACH, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT},
		{syscall.EHOSTUNREACH},
		{syscall.ETIMEDOUT, context.DeadlineExceeded, os.ErrDeadlineExceeded},
		{syscall.EMFILE},
		{syscall.ECONNREFUSED, syscall.ECONNRESET},
		{ErrNotVetted},
	}
	for i, weak := range kinds {
		for _, strong := range kinds[i+1:] {
			for _, w := range weak {
				for _, s := range strong {
					for _, errs := range [][]error{{w, s}, {s, w}} {
						if e := newConnectError(nil, errs, nil); e.Err != s {
							t.Errorf("of %v: %v, want %v", errs, e.Err, s)
						}
					}
				}
			}
		}
	}
}

func TestRooted(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"example.com": "example.com.", "a.b.example.com": "a.b.example.com.", "example.com.": "example.com.",
		"localhost": "localhost", "": "",
	} {
		if got := rooted(name); got != want {
			t.Errorf("rooted(%q) = %q, want %q", name, got, want)
		}
	}
}
