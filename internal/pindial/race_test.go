package pindial_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/testnet"
)

// outcome is the result of an attempt to connect.
type outcome struct {
	after time.Duration // 0: immediately
	err   error         // nil: success
}

// never is an attempt without any response until it is canceled.
var never = outcome{after: -1}

// fakeNet connects with the given outcomes, and works with a fake clock.
type fakeNet struct {
	outcomes map[string]outcome

	start   time.Time
	running atomic.Int32
	mu      sync.Mutex
	log     []string // "250ms 192.0.2.1" for every attempt
}

func (f *fakeNet) connect(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
	f.running.Add(1)
	defer f.running.Add(-1)
	f.mu.Lock()
	f.log = append(f.log, fmt.Sprintf("%v %v", time.Since(f.start), addr.Addr()))
	f.mu.Unlock()
	result := f.outcomes[addr.Addr().String()]
	var response <-chan time.Time
	if result != never {
		response = time.After(result.after)
	}
	select {
	case <-response:
		if result.err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: result.err}
		}
		return new(net.TCPConn), nil
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(addr), Err: ctx.Err()}
	}
}

func errno(e syscall.Errno) error { return os.NewSyscallError("connect", e) }

func TestHappyEyeballs(t *testing.T) {
	t.Parallel()
	var (
		connected   = outcome{after: 10 * time.Millisecond}
		refused     = outcome{err: errno(syscall.ECONNREFUSED)}
		unreachable = outcome{err: errno(syscall.ENETUNREACH)}
		noHost      = outcome{err: errno(syscall.EHOSTUNREACH)}
	)
	tests := []struct {
		name     string
		dialer   pindial.Dialer
		addrs    []string
		outcomes map[string]outcome
		cancel   time.Duration // when the caller cancels; 0: never
		log      []string
		took     time.Duration
		is       []error // empty: success
		not      []error
	}{
		{
			name:     "the first accepts",
			addrs:    []string{"2001:db8::1", "192.0.2.1"},
			outcomes: map[string]outcome{"2001:db8::1": connected, "192.0.2.1": connected},
			log:      []string{"0s 2001:db8::1"},
			took:     10 * time.Millisecond,
		},
		{
			name:     "the first never responds",
			addrs:    []string{"2001:db8::1", "192.0.2.1"},
			outcomes: map[string]outcome{"2001:db8::1": never, "192.0.2.1": connected},
			log:      []string{"0s 2001:db8::1", "250ms 192.0.2.1"},
			took:     260 * time.Millisecond,
		},
		{
			name:     "the first is slow and still wins",
			addrs:    []string{"2001:db8::1", "192.0.2.1"},
			outcomes: map[string]outcome{"2001:db8::1": {after: 300 * time.Millisecond}, "192.0.2.1": {after: time.Second}},
			log:      []string{"0s 2001:db8::1", "250ms 192.0.2.1"},
			took:     300 * time.Millisecond,
		},
		{
			name:     "the first is refused, so the next starts immediately",
			addrs:    []string{"2001:db8::1", "192.0.2.1"},
			outcomes: map[string]outcome{"2001:db8::1": refused, "192.0.2.1": connected},
			log:      []string{"0s 2001:db8::1", "0s 192.0.2.1"},
			took:     10 * time.Millisecond,
		},
		{
			name:  "a failure gives the next attempt the whole delay",
			addrs: []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"},
			outcomes: map[string]outcome{
				"192.0.2.1": {after: 100 * time.Millisecond, err: errno(syscall.ECONNREFUSED)}, "192.0.2.2": never, "192.0.2.3": connected,
			},
			log:  []string{"0s 192.0.2.1", "100ms 192.0.2.2", "350ms 192.0.2.3"},
			took: 360 * time.Millisecond,
		},
		{
			name:   "alternating families, and a custom delay",
			dialer: pindial.Dialer{FallbackDelay: 100 * time.Millisecond},
			addrs:  []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1", "192.0.2.2"},
			outcomes: map[string]outcome{
				"2001:db8::1": never, "2001:db8::2": never, "2001:db8::3": connected, "192.0.2.1": never, "192.0.2.2": never,
			},
			log:  []string{"0s 2001:db8::1", "100ms 192.0.2.1", "200ms 2001:db8::2", "300ms 192.0.2.2", "400ms 2001:db8::3"},
			took: 410 * time.Millisecond,
		},
		{
			name:     "IPv4 first stays first",
			addrs:    []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"},
			outcomes: map[string]outcome{"192.0.2.1": refused, "192.0.2.2": refused, "2001:db8::1": refused},
			log:      []string{"0s 192.0.2.1", "0s 2001:db8::1", "0s 192.0.2.2"},
			is:       []error{syscall.ECONNREFUSED},
		},
		{
			name:     "a refusal is more specific than no route",
			addrs:    []string{"2001:db8::1", "192.0.2.1", "2001:db8::2"},
			outcomes: map[string]outcome{"2001:db8::1": unreachable, "192.0.2.1": refused, "2001:db8::2": unreachable},
			log:      []string{"0s 2001:db8::1", "0s 192.0.2.1", "0s 2001:db8::2"},
			is:       []error{syscall.ECONNREFUSED},
			not:      []error{syscall.ENETUNREACH, os.ErrDeadlineExceeded},
		},
		{
			name:     "no host is more specific than no network",
			addrs:    []string{"192.0.2.1", "2001:db8::1"},
			outcomes: map[string]outcome{"192.0.2.1": noHost, "2001:db8::1": unreachable},
			log:      []string{"0s 192.0.2.1", "0s 2001:db8::1"},
			is:       []error{syscall.EHOSTUNREACH},
			not:      []error{syscall.ENETUNREACH},
		},
		{
			name:     "a timeout is more specific than no network",
			addrs:    []string{"192.0.2.1", "2001:db8::1"},
			outcomes: map[string]outcome{"192.0.2.1": never, "2001:db8::1": unreachable},
			log:      []string{"0s 192.0.2.1", "250ms 2001:db8::1"},
			took:     30 * time.Second,
			is:       []error{os.ErrDeadlineExceeded, context.DeadlineExceeded},
			not:      []error{syscall.ENETUNREACH},
		},
		{
			name:     "the kernel's own timeout",
			addrs:    []string{"192.0.2.1"},
			outcomes: map[string]outcome{"192.0.2.1": {err: errno(syscall.ETIMEDOUT)}},
			log:      []string{"0s 192.0.2.1"},
			is:       []error{syscall.ETIMEDOUT, os.ErrDeadlineExceeded},
		},
		{
			name:     "a local failure is more specific than a timeout",
			addrs:    []string{"192.0.2.1", "192.0.2.2"},
			outcomes: map[string]outcome{"192.0.2.1": never, "192.0.2.2": {err: os.NewSyscallError("socket", syscall.EMFILE)}},
			log:      []string{"0s 192.0.2.1", "250ms 192.0.2.2", "255ms 192.0.2.2"},
			took:     30 * time.Second,
			is:       []error{syscall.EMFILE},
			not:      []error{os.ErrDeadlineExceeded},
		},
		{
			name:     "none responds",
			dialer:   pindial.Dialer{ConnectTimeout: time.Second},
			addrs:    []string{"192.0.2.1", "192.0.2.2"},
			outcomes: map[string]outcome{"192.0.2.1": never, "192.0.2.2": never},
			log:      []string{"0s 192.0.2.1", "250ms 192.0.2.2"},
			took:     time.Second,
			is:       []error{os.ErrDeadlineExceeded, context.DeadlineExceeded},
		},
		{
			name:     "the only one never responds",
			addrs:    []string{"192.0.2.1"},
			outcomes: map[string]outcome{"192.0.2.1": never},
			log:      []string{"0s 192.0.2.1"},
			took:     30 * time.Second,
			is:       []error{os.ErrDeadlineExceeded, context.DeadlineExceeded},
		},
		{
			name:     "the caller cancels",
			addrs:    []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"},
			outcomes: map[string]outcome{"192.0.2.1": refused, "192.0.2.2": never, "192.0.2.3": never},
			cancel:   100 * time.Millisecond,
			log:      []string{"0s 192.0.2.1", "0s 192.0.2.2"},
			took:     100 * time.Millisecond,
			is:       []error{context.Canceled},
			not:      []error{syscall.ECONNREFUSED, os.ErrDeadlineExceeded},
		},
		{
			name:     "the caller canceled before the dial",
			addrs:    []string{"192.0.2.1", "192.0.2.2"},
			outcomes: map[string]outcome{"192.0.2.1": connected, "192.0.2.2": connected},
			cancel:   -1,
			is:       []error{context.Canceled},
		},
		{
			name:     "a mapped address is its IPv4 address, once",
			addrs:    []string{"::ffff:192.0.2.1", "192.0.2.1"},
			outcomes: map[string]outcome{"192.0.2.1": refused},
			log:      []string{"0s 192.0.2.1"},
			is:       []error{syscall.ECONNREFUSED},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := &fakeNet{outcomes: tt.outcomes, start: time.Now()}
				tt.dialer.Connect = f.connect
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				switch {
				case tt.cancel < 0:
					cancel()
				case tt.cancel > 0:
					defer time.AfterFunc(tt.cancel, cancel).Stop()
				}

				c, err := tt.dialer.DialAddr(ctx, addrs(tt.addrs...), 443)

				if n := f.running.Load(); n != 0 {
					t.Errorf("%d attempts are still running", n)
				}
				if !slices.Equal(f.log, tt.log) {
					t.Errorf("attempts %q, want %q", f.log, tt.log)
				}
				if took := time.Since(f.start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if len(tt.is) == 0 {
					if c == nil || err != nil {
						t.Fatalf("DialAddr = %v, %v; want a connection", c, err)
					}
					return
				}
				var e *pindial.ConnectError
				if c != nil || !errors.As(err, &e) {
					t.Fatalf("DialAddr = %v, %v; want a *ConnectError", c, err)
				}
				for _, target := range tt.is {
					if !errors.Is(err, target) {
						t.Errorf("%v is not %v", err, target)
					}
				}
				for _, target := range tt.not {
					if errors.Is(err, target) {
						t.Errorf("%v is %v", err, target)
					}
				}
				if e.Timeout != errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("Timeout = %v of %v", e.Timeout, err)
				}
			})
		})
	}
}

func TestNoAddress(t *testing.T) {
	t.Parallel()
	for _, list := range [][]netip.Addr{nil, {netip.Addr{}}} {
		var d pindial.Dialer
		c, err := d.DialAddr(t.Context(), list, 443)
		var e *pindial.ConnectError
		if c != nil || !errors.As(err, &e) || e.Timeout {
			t.Errorf("DialAddr(%v) = %v, %v", list, c, err)
		}
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	var list []netip.Addr
	for i := range 200 {
		list = append(list, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
	}
	list = append(list, addrs("2001:db8::1", "2001:db8::2")...)
	var network testnet.Dialer // refuses all connections
	d := pindial.Dialer{Connect: network.Connect}
	if _, err := d.DialAddr(t.Context(), list, 443); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("DialAddr = %v, want refused", err)
	}
	got := network.Dialed()
	if len(got) != 32 || got[1].Addr() != addrs("2001:db8::1")[0] || got[3].Addr() != addrs("2001:db8::2")[0] {
		t.Errorf("%d attempts: %v", len(got), got)
	}
}

// TestLateWinnerIsClosed checks that an attempt that succeeds after another has
// won is closed before DialAddr returns.
func TestLateWinnerIsClosed(t *testing.T) {
	t.Parallel()
	origin := testnet.Hang(t)
	dial := func() *net.TCPConn {
		c, err := net.Dial("tcp", origin.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.TCPConn)
	}
	late, winner := dial(), dial()
	d := pindial.Dialer{
		FallbackDelay: time.Millisecond,
		Connect: func(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
			if addr.Addr() == addrs("192.0.2.1")[0] {
				<-ctx.Done() // the attempt succeeds after the winner is known
				return late, nil
			}
			return winner, nil
		},
	}
	c, err := d.DialAddr(t.Context(), addrs("192.0.2.1", "192.0.2.2"), 443)
	if c != winner || err != nil {
		t.Fatalf("DialAddr = %v, %v", c, err)
	}
	if err := late.SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the late connection is still open (%v)", err)
	}
	if err := winner.SetDeadline(time.Time{}); err != nil {
		t.Errorf("the winner is not open: %v", err)
	}
}
