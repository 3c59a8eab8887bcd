package testnet_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"example.com/networkproxy/internal/testnet"
)

// scripted has the common methods of Resolver and DNS.
type scripted interface {
	Set(name string, answers ...testnet.Answer)
	Queries() []string
}

// lookups runs fn over both kinds of resolver.
func lookups(t *testing.T, fn func(t *testing.T, s scripted, lookup func(context.Context, string, string) ([]netip.Addr, error))) {
	t.Run("Resolver", func(t *testing.T) {
		t.Parallel()
		var r testnet.Resolver
		fn(t, &r, r.LookupNetIP)
	})
	t.Run("DNS", func(t *testing.T) {
		t.Parallel()
		d := testnet.NewDNS(t)
		fn(t, d, d.Resolver().LookupNetIP)
	})
}

func TestScript(t *testing.T) {
	t.Parallel()
	lookups(t, func(t *testing.T, s scripted, lookup func(context.Context, string, string) ([]netip.Addr, error)) {
		s.Set("a.test", testnet.Addrs("93.184.215.14", "2606:4700::1"), testnet.Addrs("127.0.0.1"))
		s.Set("fail.test", testnet.ServFail())
		s.Set("gone.test", testnet.NXDomain())
		ctx := t.Context()

		for i, want := range [][]string{{"2606:4700::1", "93.184.215.14"}, {"127.0.0.1"}, {"127.0.0.1"}} {
			addrs, err := lookup(ctx, "ip", "A.test.")
			if err != nil {
				t.Fatalf("lookup %d: %v", i, err)
			}
			var got []string
			for _, a := range addrs {
				got = append(got, a.Unmap().String())
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("lookup %d = %v, want %v", i, got, want)
			}
		}
		s.Set("a.test", testnet.Addrs("2606:4700::1", "8.8.8.8"))
		if addrs, err := lookup(ctx, "ip4", "a.test."); err != nil || len(addrs) != 1 || addrs[0].Unmap().String() != "8.8.8.8" {
			t.Errorf("lookup of ip4 = %v, %v", addrs, err)
		}

		var dnsErr *net.DNSError
		for _, name := range []string{"gone.test.", "unknown.test."} {
			if _, err := lookup(ctx, "ip", name); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
				t.Errorf("lookup of %s = %v, want not found", name, err)
			}
		}
		if _, err := lookup(ctx, "ip", "fail.test."); !errors.As(err, &dnsErr) || dnsErr.IsNotFound || !dnsErr.IsTemporary {
			t.Errorf("lookup of fail.test = %v, want a temporary error", err)
		}
		for _, name := range []string{"A.test.", "gone.test.", "unknown.test.", "fail.test."} {
			if !slices.Contains(s.Queries(), name) {
				t.Errorf("no query for %s in %q", name, s.Queries())
			}
		}
		if slices.Contains(s.Queries(), "never.test.") {
			t.Errorf("Queries has never.test., which was not queried: %q", s.Queries())
		}
	})
}

func TestSilence(t *testing.T) {
	t.Parallel()
	lookups(t, func(t *testing.T, s scripted, lookup func(context.Context, string, string) ([]netip.Addr, error)) {
		s.Set("slow.test", testnet.Silence())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		var dnsErr *net.DNSError
		if _, err := lookup(ctx, "ip", "slow.test."); !errors.As(err, &dnsErr) || !dnsErr.IsTimeout {
			t.Errorf("lookup = %v, want a timeout", err)
		}
	})
}

// TestDNSTruncates checks that an answer too long for UDP arrives on TCP.
func TestDNSTruncates(t *testing.T) {
	t.Parallel()
	d := testnet.NewDNS(t)
	var want []string
	for i := range 200 {
		want = append(want, fmt.Sprintf("198.51.%d.1", i))
	}
	d.Set("many.test", testnet.Addrs(want...))
	addrs, err := d.Resolver().LookupNetIP(t.Context(), "ip4", "many.test.")
	if err != nil || len(addrs) != len(want) {
		t.Errorf("got %d addresses, %v; want %d", len(addrs), err, len(want))
	}
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	dial := func(t *testing.T, o *testnet.Origin) *net.TCPConn {
		t.Helper()
		c, err := net.Dial("tcp", o.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c.(*net.TCPConn)
	}
	t.Run("Echo", func(t *testing.T) {
		t.Parallel()
		o := testnet.Echo(t)
		c := dial(t, o)
		io.WriteString(c, "hello")
		c.CloseWrite()
		if got, err := io.ReadAll(c); string(got) != "hello" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if o.Accepted() != 1 {
			t.Errorf("Accepted = %d, want 1", o.Accepted())
		}
	})
	t.Run("Hang", func(t *testing.T) {
		t.Parallel()
		c := dial(t, testnet.Hang(t))
		io.WriteString(c, "hello")
		c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d bytes, %v; want none before the deadline", n, err)
		}
	})
	t.Run("Reset", func(t *testing.T) {
		t.Parallel()
		c := dial(t, testnet.Reset(t))
		io.WriteString(c, "hello")
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want a reset", err)
		}
	})
}

func TestDialer(t *testing.T) {
	t.Parallel()
	o := testnet.Echo(t)
	public, other := netip.MustParseAddrPort("93.184.215.14:443"), netip.MustParseAddrPort("93.184.215.14:80")
	var d testnet.Dialer
	d.Map(public, o.Addr())
	c, err := d.Connect(t.Context(), public)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.RemoteAddr().String() != o.Addr().String() {
		t.Errorf("connected to %v, want %v", c.RemoteAddr(), o.Addr())
	}
	if _, err := d.Connect(t.Context(), other); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Connect without a mapping: %v, want ECONNREFUSED", err)
	}
	if got := d.Dialed(); !slices.Equal(got, []netip.AddrPort{public, other}) {
		t.Errorf("Dialed = %v", got)
	}
}

func TestSourceAndSink(t *testing.T) {
	t.Parallel()
	const size = 100_003
	var copied bytes.Buffer
	source, sink := testnet.NewSource(1, size), testnet.NewSink()
	if n, err := io.Copy(io.MultiWriter(sink, &copied), source); n != size || err != nil {
		t.Fatalf("copied %d, %v", n, err)
	}
	want := sha256.Sum256(copied.Bytes())
	if source.Sum() != want || sink.Sum() != want || sink.Len() != size {
		t.Errorf("sums %x and %x of %d bytes, want %x of %d", source.Sum(), sink.Sum(), sink.Len(), want, size)
	}
	again, err := io.ReadAll(testnet.NewSource(1, size))
	if err != nil || !bytes.Equal(again, copied.Bytes()) {
		t.Errorf("the same seed gave different bytes, or the error %v", err)
	}
	if other, _ := io.ReadAll(testnet.NewSource(2, size)); bytes.Equal(other, copied.Bytes()) {
		t.Error("a different seed gave the same bytes")
	}
}

// recorder is a testing.TB that records errors and cleanups.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()           {}
func (r *recorder) Cleanup(fn func()) { r.cleanups = append(r.cleanups, fn) }
func (r *recorder) Error(args ...any) { r.errors = append(r.errors, fmt.Sprint(args...)) }

// finish runs the cleanups and returns the errors.
func (r *recorder) finish() string {
	for _, fn := range slices.Backward(r.cleanups) {
		fn()
	}
	return strings.Join(r.errors, "\n")
}

// TestCheckLeaks is not parallel because CheckLeaks must not be used in parallel tests. Inside a synctest bubble, the
// timeout of CheckLeaks takes no real time.
func TestCheckLeaks(t *testing.T) {
	t.Run("nothing", func(t *testing.T) {
		r := &recorder{TB: t}
		testnet.CheckLeaks(r)
		o := testnet.Echo(r)
		c, err := net.Dial("tcp", o.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(testnet.NewSink(), io.LimitReader(c, 0))
		c.Close()
		if report := r.finish(); report != "" {
			t.Error(report)
		}
	})
	t.Run("goroutine", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{TB: t}
			testnet.CheckLeaks(r)
			stop := make(chan struct{})
			defer close(stop)
			go func() { <-stop }()
			if report := r.finish(); !strings.Contains(report, "leaked goroutine") || !strings.Contains(report, "TestCheckLeaks") {
				t.Errorf("report %q, want a leaked goroutine of this test", report)
			}
		})
	})
	t.Run("descriptor", func(t *testing.T) {
		if _, err := os.Stat("/proc/self/fd"); err != nil {
			return // CheckLeaks does not check descriptors here
		}
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{TB: t}
			testnet.CheckLeaks(r)
			f, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if report := r.finish(); !strings.Contains(report, "leaked descriptor") || !strings.Contains(report, os.DevNull) {
				t.Errorf("report %q, want a leaked descriptor of %s", report, os.DevNull)
			}
		})
	})
}
