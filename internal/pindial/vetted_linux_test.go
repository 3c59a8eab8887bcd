// Socket options, and dialing through the kernel.

package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// TestLoopbackSocketOptions checks that connections on this machine have no
// pacing (which proves nothing if the system's default is Reno) and no
// keep-alive probes.
func TestLoopbackSocketOptions(t *testing.T) {
	t.Parallel()
	to := testnet.Hang(t).AddrPort()
	c, err := newVettedDialer([]netip.AddrPort{to}).connect(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := testnet.CongestionControl(t, c); got != "reno" {
		t.Errorf("the connection uses congestion control %s, want reno", got)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		if on, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); on != 0 || err != nil {
			t.Errorf("SO_KEEPALIVE is %d, %v", on, err)
		}
	})
}

// listenFull returns an address where further attempts to connect get no
// response, because the accept queue is full.
func listenFull(t *testing.T, addr netip.Addr) netip.AddrPort {
	t.Helper()
	family, sockaddr := syscall.AF_INET, syscall.Sockaddr(&syscall.SockaddrInet4{Addr: netip.MustParseAddr("127.0.0.1").As4()})
	if addr.Is6() {
		family, sockaddr = syscall.AF_INET6, &syscall.SockaddrInet6{Addr: addr.As16()}
	}
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, sockaddr), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	bound, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(addr, 0)
	switch bound := bound.(type) {
	case *syscall.SockaddrInet4:
		to = netip.AddrPortFrom(addr, uint16(bound.Port))
	case *syscall.SockaddrInet6:
		to = netip.AddrPortFrom(addr, uint16(bound.Port))
	}
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return to
}

// TestDialRealSockets checks the kernel's responses for both families, after
// the early connect: none, a refusal, and a connection.
func TestDialRealSockets(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			addr := netip.MustParseAddr(host)
			silent := listenFull(t, addr)
			dial := func(ctx context.Context, to netip.AddrPort, timeout time.Duration) error {
				c, err := (&Dialer{ConnectTimeout: timeout}).DialAddr(ctx, []netip.Addr{to.Addr()}, to.Port())
				if err == nil {
					if got := c.RemoteAddr().(*net.TCPAddr).AddrPort(); got != to {
						t.Errorf("connected to %v, not %v", got, to)
					}
					c.Close()
				}
				return err
			}

			var e *ConnectError
			if err := dial(t.Context(), silent, 50*time.Millisecond); !errors.As(err, &e) || !e.Timeout || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("no response: %v", err)
			}
			if err := dial(context.Background(), silent, 50*time.Millisecond); !errors.As(err, &e) || !e.Timeout {
				t.Errorf("no response, with a context that never ends: %v", err)
			}
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			if err := dial(short, silent, time.Minute); !errors.As(err, &e) || !e.Timeout {
				t.Errorf("no response, with an earlier context deadline: %v", err)
			}
			leaving, leave := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, leave)
			if err := dial(leaving, silent, time.Minute); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled by the caller: %v", err)
			}
			if err := dial(leaving, silent, time.Minute); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled before the dial: %v", err)
			}

			l, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			to := l.Addr().(*net.TCPAddr).AddrPort()
			if err := dial(t.Context(), to, time.Minute); err != nil {
				t.Error(err)
			}
			if err := dial(leaving, to, time.Minute); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled before the dial, with an accepting server: %v", err)
			}
			l.Close()
			if err := dial(t.Context(), to, time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("closed port: %v", err)
			}
		})
	}
}
