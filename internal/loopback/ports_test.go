package loopback

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// portScript replaces the system: it opens port 0 with the ports of a script,
// and every other port with that port.
type portScript struct {
	free  []uint16 // for port 0, in order; the last one is repeated
	busy  func(port uint16) bool
	asked int
}

type fakeListener struct{ addr *net.TCPAddr }

func (l fakeListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (l fakeListener) Close() error              { return nil }
func (l fakeListener) Addr() net.Addr            { return l.addr }

func (s *portScript) open(_ context.Context, addr netip.AddrPort) (net.Listener, error) {
	s.asked++
	port := addr.Port()
	if port == 0 {
		port = s.free[0]
		if len(s.free) > 1 {
			s.free = s.free[1:]
		}
	} else if s.busy != nil && s.busy(port) {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: syscall.EADDRINUSE}
	}
	return fakeListener{net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr.Addr(), port))}, nil
}

func (s *portScript) next(t *testing.T, p *Ports) uint16 {
	t.Helper()
	l, err := p.Listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func TestPortsAreUsedOnce(t *testing.T) {
	t.Parallel()
	t.Run("the system repeats itself", func(t *testing.T) {
		t.Parallel()
		s := &portScript{free: []uint16{40001, 40002, 40001, 40001, 40002, 40003, 40001}}
		p := &Ports{open: s.open}
		for _, want := range []uint16{40001, 40002, 40003} {
			if got := s.next(t, p); got != want {
				t.Errorf("port %d, want %d", got, want)
			}
		}
	})
	t.Run("every port once", func(t *testing.T) {
		t.Parallel()
		s := &portScript{free: []uint16{40001}}
		p := &Ports{open: s.open}
		seen := make(map[uint16]bool)
		for range lastPort - firstPort + 1 {
			port := s.next(t, p)
			if seen[port] {
				t.Fatalf("port %d came twice", port)
			}
			seen[port] = true
		}
		l, err := p.Listen(t.Context())
		if !errors.Is(err, ErrNoPort) {
			t.Errorf("with none left: %v, %v; want ErrNoPort", l, err)
		}
	})
	t.Run("other programs hold the rest", func(t *testing.T) {
		t.Parallel()
		s := &portScript{free: []uint16{40001}, busy: func(uint16) bool { return true }}
		p := &Ports{open: s.open}
		s.next(t, p)
		s.asked = 0
		if l, err := p.Listen(t.Context()); !errors.Is(err, ErrNoPort) {
			t.Errorf("%v, %v; want ErrNoPort", l, err)
		}
		if s.asked != systemPortTries+busyPortTries {
			t.Errorf("%d tries, want %d", s.asked, systemPortTries+busyPortTries)
		}
	})
	t.Run("a context that ends", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		s := &portScript{free: []uint16{40001}, busy: func(uint16) bool { cancel(); return true }}
		p := &Ports{open: s.open}
		s.next(t, p)
		s.asked = 0
		if l, err := p.Listen(ctx); err == nil || s.asked != systemPortTries+1 {
			t.Errorf("%v, %v after %d tries", l, err, s.asked)
		}
	})
}
