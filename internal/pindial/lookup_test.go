// Lookups of both families, and resolvers that do not return.

package pindial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// reply is a name server's answer for one family, and its delay.
type reply struct {
	after time.Duration // negative: never
	addrs []netip.Addr
	err   error
}

func (s reply) answer(ctx context.Context) ([]netip.Addr, error) {
	var come <-chan time.Time
	if s.after >= 0 {
		come = time.After(s.after)
	}
	select {
	case <-come:
		return s.addrs, s.err
	case <-ctx.Done():
		return nil, &net.DNSError{Err: ctx.Err().Error(), UnwrapErr: ctx.Err(), IsTimeout: errors.Is(ctx.Err(), context.DeadlineExceeded)}
	}
}

func TestBothFamilies(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	var (
		none     = &net.DNSError{Err: "no such host", IsNotFound: true} // package net does not distinguish NXDOMAIN from an answer without records
		servFail = &net.DNSError{Err: "server misbehaving", IsTemporary: true}
		filtered = &net.AddrError{Err: "no suitable address found"} // package net found addresses of the other family only
		v4, more = addrs("192.0.2.1"), addrs("192.0.2.1", "192.0.2.2")
		v6       = addrs("fdbe::1") // sorted behind IPv4 on every machine
	)
	tests := []struct {
		name      string
		four, six reply
		cancel    time.Duration // when the caller cancels; 0: never
		want      []netip.Addr
		is        error
		notFound  bool
		took      time.Duration
	}{
		{name: "both", four: reply{10 * ms, v4, nil}, six: reply{20 * ms, v6, nil}, want: append(v4, v6...), took: 20 * ms},
		{name: "AAAA is never answered", four: reply{10 * ms, more, nil}, six: reply{after: -1}, want: more, took: 60 * ms},
		{name: "A is never answered", four: reply{after: -1}, six: reply{10 * ms, v6, nil}, want: v6, took: 60 * ms},
		{name: "AAAA comes within the delay", four: reply{0, v4, nil}, six: reply{49 * ms, v6, nil}, want: append(v4, v6...), took: 49 * ms},
		{name: "AAAA comes after the delay", four: reply{0, v4, nil}, six: reply{51 * ms, v6, nil}, want: v4, took: 50 * ms},
		{name: "A comes after the delay", four: reply{51 * ms, v4, nil}, six: reply{0, v6, nil}, want: v6, took: 50 * ms},
		{name: "no AAAA does not count as the first answer", four: reply{3000 * ms, v4, nil}, six: reply{0, nil, none}, want: v4, took: 3000 * ms},
		{name: "an AAAA answer without records", four: reply{3000 * ms, v4, nil}, six: reply{}, want: v4, took: 3000 * ms},
		{name: "AAAA fails first", four: reply{3000 * ms, v4, nil}, six: reply{0, nil, servFail}, want: v4, took: 3000 * ms},
		{name: "AAAA fails last", four: reply{10 * ms, v4, nil}, six: reply{20 * ms, nil, servFail}, want: v4, took: 20 * ms},
		{name: "AAAA is filtered", four: reply{10 * ms, v4, nil}, six: reply{20 * ms, nil, filtered}, want: v4, took: 20 * ms},
		{name: "A fails", four: reply{0, nil, servFail}, six: reply{10 * ms, v6, nil}, want: v6, took: 10 * ms},

		{name: "no such name", four: reply{10 * ms, nil, none}, six: reply{20 * ms, nil, none}, is: none, notFound: true, took: 20 * ms},
		{name: "no record", four: reply{}, six: reply{}, notFound: true},
		{name: "no A, and AAAA fails", four: reply{10 * ms, nil, none}, six: reply{20 * ms, nil, servFail}, is: servFail, took: 20 * ms},
		{name: "A fails, and no AAAA", four: reply{10 * ms, nil, servFail}, six: reply{20 * ms, nil, none}, is: servFail, took: 20 * ms},
		{name: "an empty A answer, and AAAA fails", four: reply{}, six: reply{20 * ms, nil, servFail}, is: servFail, took: 20 * ms},
		{name: "no A, and AAAA is never answered", four: reply{0, nil, none}, six: reply{after: -1}, is: os.ErrDeadlineExceeded, took: 10 * time.Second},
		{name: "neither is ever answered", four: reply{after: -1}, six: reply{after: -1}, is: os.ErrDeadlineExceeded, took: 10 * time.Second},
		{name: "A comes just before the end", four: reply{9990 * ms, v4, nil}, six: reply{after: -1}, want: v4, took: 10 * time.Second},
		{name: "the caller gives up", four: reply{after: -1}, six: reply{0, nil, none}, cancel: 5 * ms, is: context.Canceled, took: 5 * ms},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), defaultResolveTimeout)
				defer cancel()
				if tt.cancel > 0 {
					defer time.AfterFunc(tt.cancel, cancel).Stop()
				}
				got, err := bothFamilies(ctx, func(ctx context.Context, network, host string) ([]netip.Addr, error) {
					if host != "a.test." {
						t.Errorf("the resolver was asked for %s", host)
					}
					if network == "ip4" {
						return tt.four.answer(ctx)
					}
					return tt.six.answer(ctx)
				}, "a.test.")
				if took := time.Since(start); took != tt.took {
					t.Errorf("took %v, want %v", took, tt.took)
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("got %v, want %v", got, tt.want)
				}
				if tt.want != nil {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if err == nil {
					err = errNoAddress // as Resolve reports it
				}
				e := newResolveError("a.test", err, ctx.Err())
				if tt.is != nil && !errors.Is(e, tt.is) {
					t.Errorf("%v is not %v", e, tt.is)
				}
				if err != errNoAddress && e.NotFound != tt.notFound {
					t.Errorf("NotFound of %v is %v", e, e.NotFound)
				}
			})
		})
	}
}

// TestOrderOfFamilies compares the order with RFC 6724's, for a given source
// address of this machine.
func TestOrderOfFamilies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, to, source string
		sixFirst         bool
	}{
		{"both global", "2606:4700::1", "2a00:1::2", true},
		{"loopback", "::1", "::1", true},
		{"link-local", "fe80::1", "fe80::2", true},
		{"no route", "2606:4700::1", "", false},
		{"from a unique local address", "2606:4700::1", "fd00::1", false},
		{"from a 6to4 address", "2606:4700::1", "2002:c000:201::1", false},
		{"to a unique local address", "fd00::2", "fd00::1", false},
		{"to a 6to4 address", "2002:c000:201::1", "2a00:1::2", false},
		{"to a Teredo address", "2001::1", "2a00:1::2", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			six, four := addrs(tt.to, "2606:4700::2"), addrs("192.0.2.1", "192.0.2.2")
			var source netip.Addr
			if tt.source != "" {
				source = netip.MustParseAddr(tt.source)
			}
			got := preferredFirst(slices.Clone(six), slices.Clone(four), func(to netip.Addr) netip.Addr {
				if to != six[0] {
					t.Errorf("the source for %v was requested", to)
				}
				return source
			})
			want := slices.Concat(four, six)
			if tt.sixFirst {
				want = slices.Concat(six, four)
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	if got := sourceFor(netip.MustParseAddr("127.0.0.1")); got != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("sourceFor on loopback = %v", got)
	}
}

// stuckResolver does not return before it is released, even after its context
// has ended.
type stuckResolver struct {
	free   chan struct{}
	answer []netip.Addr
}

func (s stuckResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	<-s.free
	return s.answer, nil
}

// TestLookupThatDoesNotReturn checks that such a lookup is abandoned at its
// timeout, that its late answer is lost, and that Lookups tracks it.
func TestLookupThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := stuckResolver{make(chan struct{}), addrs("93.184.215.14")}
		d := Dialer{
			Resolver: r, Lookups: new(Lookups), ResolveTimeout: time.Second,
			Connect: func(_ context.Context, addr netip.AddrPort) (*net.TCPConn, error) {
				t.Errorf("a late answer was dialed: %v", addr)
				return nil, syscall.ECONNREFUSED
			},
		}
		start := time.Now()
		_, err := d.DialName(t.Context(), "a.test", 80, func([]netip.Addr) error {
			t.Error("the vet saw a late answer")
			return nil
		})
		if took := time.Since(start); took != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %v: %v", took, err)
		}
		leaving, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, leave)
		if _, err := d.Resolve(leaving, "b.test"); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled by the caller: %v", err)
		}

		wait := func(grace time.Duration) int {
			ctx, cancel := context.WithTimeout(t.Context(), grace)
			defer cancel()
			return d.Lookups.Wait(ctx)
		}
		start = time.Now()
		if n := wait(time.Minute); n != 2 || time.Since(start) != time.Minute {
			t.Errorf("%d lookups are running after %v, want 2", n, time.Since(start))
		}
		time.AfterFunc(time.Second, func() { close(r.free) })
		start = time.Now()
		if n := wait(time.Minute); n != 0 || time.Since(start) != time.Second {
			t.Errorf("%d lookups are running after %v, want none", n, time.Since(start))
		}
		if got, err := d.Resolve(t.Context(), "a.test"); err != nil || !slices.Equal(got, r.answer) {
			t.Errorf("afterwards: %v, %v", got, err)
		}
		if n := wait(0); n != 0 {
			t.Errorf("%d lookups are running at the end", n)
		}
	})
}

// TestOverdueLookupsAreBounded checks that no new lookup starts while too many
// overdue ones are running.
func TestOverdueLookupsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := stuckResolver{make(chan struct{}), addrs("93.184.215.14")}
		d := Dialer{Resolver: r, Lookups: new(Lookups)}
		gone, leave := context.WithCancel(t.Context())
		for range maxOverdue {
			go d.Resolve(gone, "a.test")
		}
		synctest.Wait()
		leave()
		synctest.Wait()
		start := time.Now()
		_, err := d.Resolve(t.Context(), "a.test")
		var e *ResolveError
		if !errors.As(err, &e) || e.NotFound || e.Timeout || time.Since(start) != 0 {
			t.Errorf("another lookup, after %v: %v", time.Since(start), err)
		}
		close(r.free)
		synctest.Wait()
		if _, err := d.Resolve(t.Context(), "a.test"); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// goexitResolver ends its goroutine.
type goexitResolver struct{}

func (goexitResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	runtime.Goexit()
	return nil, nil
}

func TestLookupThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	d := Dialer{Resolver: goexitResolver{}, Lookups: new(Lookups)}
	if _, err := d.Resolve(t.Context(), "a.test"); !errors.Is(err, errNoReturn) {
		t.Errorf("got %v", err)
	}
}

// TestRetryTooManyFiles checks that a dial waits for a descriptor, once.
func TestRetryTooManyFiles(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, tt := range []struct {
		name   string
		errs   []error // of the attempts, in order; later ones succeed
		cancel time.Duration
		took   time.Duration
		tries  int
		is     error
	}{
		{"none", nil, 0, 0, 1, nil},
		{"of this process", []error{syscall.EMFILE}, 0, 5 * ms, 2, nil},
		{"of this machine", []error{syscall.ENFILE}, 0, 5 * ms, 2, nil},
		{"that lasts", []error{syscall.EMFILE, syscall.EMFILE}, 0, 5 * ms, 2, syscall.EMFILE},
		{"another error", []error{syscall.ECONNREFUSED}, 0, 0, 1, syscall.ECONNREFUSED},
		{"the caller gives up", []error{syscall.EMFILE}, ms, ms, 1, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			check := func(t *testing.T, dial func(ctx context.Context, attempt func() error) error) {
				synctest.Test(t, func(t *testing.T) {
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					if tt.cancel > 0 {
						defer time.AfterFunc(tt.cancel, cancel).Stop()
					}
					start, tries := time.Now(), 0
					err := dial(ctx, func() error {
						if tries++; tries > len(tt.errs) {
							return nil
						}
						return &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", tt.errs[tries-1])}
					})
					if took := time.Since(start); took != tt.took || tries != tt.tries {
						t.Errorf("%d attempts in %v, want %d in %v", tries, took, tt.tries, tt.took)
					}
					if err != nil && tt.is == nil || !errors.Is(err, tt.is) {
						t.Errorf("got %v, want %v", err, tt.is)
					}
				})
			}
			to := addrs("192.0.2.1")
			t.Run("TCP", func(t *testing.T) {
				check(t, func(ctx context.Context, attempt func() error) error {
					d := Dialer{Connect: func(context.Context, netip.AddrPort) (*net.TCPConn, error) { return new(net.TCPConn), attempt() }}
					_, err := d.DialAddr(ctx, to, 80)
					return err
				})
			})
			t.Run("UDP", func(t *testing.T) {
				check(t, func(ctx context.Context, attempt func() error) error {
					d := Dialer{ConnectUDP: func(context.Context, netip.AddrPort) (*net.UDPConn, error) { return new(net.UDPConn), attempt() }}
					_, _, err := d.DialUDPAddr(ctx, to, 80)
					return err
				})
			})
		})
	}
}
