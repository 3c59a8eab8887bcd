package pindial_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/internal/ipclass"
	"example.com/networkproxy/internal/pindial"
	"example.com/networkproxy/internal/testnet"
)

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

var errNotPublic = errors.New("not public")

// onlyPublic is a Vet like the proxy's own.
func onlyPublic(addrs []netip.Addr) error {
	for _, a := range addrs {
		if c := ipclass.Of(a); !c.Public() {
			return fmt.Errorf("%v: %v: %w", a, c, errNotPublic)
		}
	}
	return nil
}

func anything([]netip.Addr) error { return nil }

func TestResolve(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		host   string
		answer testnet.Answer
		want   []netip.Addr
		asked  bool
	}{
		{"order kept", "a.test", testnet.Addrs("8.8.8.8", "2606:4700::1", "1.1.1.1"), addrs("8.8.8.8", "2606:4700::1", "1.1.1.1"), true},
		{"unmapped", "a.test", testnet.Addrs("::ffff:127.0.0.1"), addrs("127.0.0.1"), true},
		{"each once", "a.test", testnet.Addrs("1.1.1.1", "::ffff:1.1.1.1", "1.1.1.1"), addrs("1.1.1.1"), true},
		{"no zone that means nothing", "a.test", testnet.Addrs("2606:4700::1%eth0", "2606:4700::1%eth1"), addrs("2606:4700::1"), true},
		{"link-local zones", "a.test", testnet.Addrs("fe80::1%eth0", "fe80::1%eth1", "fe80::1%eth0"), addrs("fe80::1%eth0", "fe80::1%eth1"), true},
		{"one label", "localhost", testnet.Addrs("127.0.0.1"), addrs("127.0.0.1"), true},
		{"IPv4 literal", "192.0.2.1", testnet.Addrs("8.8.8.8"), addrs("192.0.2.1"), false},
		{"IPv6 literal", "2001:db8::1", testnet.Addrs("8.8.8.8"), addrs("2001:db8::1"), false},
		{"mapped literal", "::ffff:127.0.0.1", testnet.Addrs("8.8.8.8"), addrs("127.0.0.1"), false},
		{"literal with a zone", "fe80::1%eth0", testnet.Addrs("8.8.8.8"), addrs("fe80::1%eth0"), false},
		{"literal with a zone that means nothing", "::1%eth0", testnet.Addrs("8.8.8.8"), addrs("::1"), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var r testnet.Resolver
			r.Set(tt.host, tt.answer)
			d := pindial.Dialer{Resolver: &r}
			got, err := d.Resolve(t.Context(), tt.host)
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Resolve = %v, %v; want %v", got, err, tt.want)
			}
			// A custom Resolver is asked once, for the name as given.
			var queries []string
			if tt.asked {
				queries = []string{tt.host}
			}
			if !slices.Equal(r.Queries(), queries) {
				t.Errorf("queries %q, want %q", r.Queries(), queries)
			}
		})
	}
}

func TestResolveErrors(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name              string
		answer            testnet.Answer
		notFound, timeout bool
	}{
		{"NXDOMAIN", testnet.NXDomain(), true, false},
		{"no address", testnet.Addrs(), true, false},
		{"SERVFAIL", testnet.ServFail(), false, false},
		{"silence", testnet.Silence(), false, true},
	}
	for _, tt := range tests {
		check := func(t *testing.T, r pindial.Resolver, timeout time.Duration) {
			t.Helper()
			d := pindial.Dialer{Resolver: r, ResolveTimeout: timeout}
			_, err := d.Resolve(t.Context(), "a.test")
			var e *pindial.ResolveError
			if !errors.As(err, &e) || e.Name != "a.test" || e.NotFound != tt.notFound || e.Timeout != tt.timeout || e.Err == nil {
				t.Fatalf("Resolve = %#v", err)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) != tt.timeout {
				t.Errorf("errors.Is(%v, os.ErrDeadlineExceeded) = %v", err, !tt.timeout)
			}
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var r testnet.Resolver
				r.Set("a.test", tt.answer)
				start := time.Now()
				check(t, &r, 0)
				if elapsed := time.Since(start); tt.timeout && elapsed != 10*time.Second {
					t.Errorf("gave up after %v, want 10s", elapsed)
				}
			})
		})
		t.Run(tt.name+" by DNS", func(t *testing.T) {
			t.Parallel()
			server := testnet.NewDNS(t)
			server.Set("a.test", tt.answer)
			timeout := time.Duration(0)
			if tt.timeout {
				timeout = 20 * time.Millisecond
			}
			check(t, server.Resolver(), timeout)
		})
	}
}

// emptyAddrResolver returns an invalid address.
type emptyAddrResolver struct{}

func (emptyAddrResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{{}}, nil
}

func TestResolveZeroAddr(t *testing.T) {
	t.Parallel()
	d := pindial.Dialer{Resolver: emptyAddrResolver{}}
	got, err := d.Resolve(t.Context(), "a.test")
	var e *pindial.ResolveError
	if got != nil || !errors.As(err, &e) || !e.NotFound {
		t.Errorf("Resolve = %v, %v; want not found", got, err)
	}
}

// causelessResolver returns errors without their cause.
type causelessResolver struct{}

func (causelessResolver) LookupNetIP(ctx context.Context, _, _ string) ([]netip.Addr, error) {
	<-ctx.Done()
	return nil, errors.New("lookup failed")
}

func TestResolveCanceled(t *testing.T) {
	t.Parallel()
	var silent testnet.Resolver
	silent.Set("a.test", testnet.Silence())
	for _, r := range []pindial.Resolver{&silent, causelessResolver{}} {
		t.Run(fmt.Sprintf("%T", r), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			d := pindial.Dialer{Resolver: r}
			_, err := d.Resolve(ctx, "a.test")
			var e *pindial.ResolveError
			if !errors.As(err, &e) || e.Timeout || e.NotFound || !errors.Is(err, context.Canceled) {
				t.Errorf("Resolve = %#v, want canceled", err)
			}
		})
	}
	t.Run("timeout without a cause", func(t *testing.T) {
		t.Parallel()
		d := pindial.Dialer{Resolver: causelessResolver{}, ResolveTimeout: time.Millisecond}
		if _, err := d.Resolve(t.Context(), "a.test"); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Resolve = %v, want a timeout", err)
		}
	})
}

// TestSystemResolverGetsRootedName reads the name from the error of
// net.Resolver, which keeps the name as asked.
func TestSystemResolverGetsRootedName(t *testing.T) {
	t.Parallel()
	server := testnet.NewDNS(t)
	for _, tt := range []struct{ name, query string }{
		{"gone.test", "gone.test."},
		{"a.b.gone.test", "a.b.gone.test."},
		{"gone-single-label", "gone-single-label"},
	} {
		d := pindial.Dialer{Resolver: server.Resolver()}
		_, err := d.Resolve(t.Context(), tt.name)
		var e *net.DNSError
		if !errors.As(err, &e) || e.Name != tt.query {
			t.Errorf("Resolve(%s) = %v, want net's error for %q", tt.name, err, tt.query)
		}
	}
	server.Set("here.test", testnet.Addrs("8.8.8.8"))
	d := pindial.Dialer{Resolver: server.Resolver()}
	if got, err := d.Resolve(t.Context(), "here.test"); err != nil || !slices.Equal(got, addrs("8.8.8.8")) {
		t.Errorf("Resolve(here.test) = %v, %v", got, err)
	}
}

// TestUnansweredFamily uses a name server that answers for one family and drops
// the question for the other. The name resolves all the same, without waiting
// for the other answer.
func TestUnansweredFamily(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		dropped dnsmessage.Type
		want    []netip.Addr
	}{
		{"AAAA", dnsmessage.TypeAAAA, addrs("93.184.215.14")},
		{"A", dnsmessage.TypeA, addrs("2606:4700::1")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := testnet.NewDNS(t)
			server.Set("half.test", testnet.Addrs("93.184.215.14", "2606:4700::1"))
			server.SetType("half.test", tt.dropped, testnet.Silence())
			// Less than the 10 s after which Go's resolver gives up.
			d := pindial.Dialer{Resolver: server.Resolver(), ResolveTimeout: 4 * time.Second}
			got, err := d.Resolve(t.Context(), "half.test")
			if err != nil || !slices.Equal(got, tt.want) {
				t.Errorf("Resolve = %v, %v; want %v", got, err, tt.want)
			}
		})
	}
}

// TestFailingFamily checks that an error for one family does not prevent using
// the other.
func TestFailingFamily(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]testnet.Answer{
		"NXDOMAIN": testnet.NXDomain(), "no record": testnet.Addrs(), "SERVFAIL": testnet.ServFail(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testnet.NewDNS(t)
			server.Set("half.test", testnet.Addrs("93.184.215.14"))
			server.SetType("half.test", dnsmessage.TypeAAAA, answer)
			d := pindial.Dialer{Resolver: server.Resolver(), ResolveTimeout: time.Minute}
			got, err := d.Resolve(t.Context(), "half.test")
			if want := addrs("93.184.215.14"); err != nil || !slices.Equal(got, want) {
				t.Errorf("Resolve = %v, %v; want %v", got, err, want)
			}
		})
	}
}

// TestHyphens checks that names which Go's resolver rejects are asked for
// unchanged, over UDP and, if the answer is too long, over TCP.
func TestHyphens(t *testing.T) {
	t.Parallel()
	var many []string
	for i := range 100 {
		many = append(many, netip.AddrFrom4([4]byte{93, 184, 215, byte(i)}).String())
	}
	for _, name := range []string{"-x.a.test", "x-.a.test", "-.test", "--a--.-b-.test", "a.test-", "-x_y.a.test"} {
		for _, tt := range []struct {
			name  string
			addrs []string
		}{{"short", []string{"93.184.215.14"}}, {"long", many}} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				t.Parallel()
				server := testnet.NewDNS(t)
				server.Set(name, testnet.Addrs(tt.addrs...))
				d := pindial.Dialer{Resolver: server.Resolver(), ResolveTimeout: time.Minute}
				got, err := d.Resolve(t.Context(), name)
				slices.SortFunc(got, netip.Addr.Compare)
				if err != nil || !slices.Equal(got, addrs(tt.addrs...)) {
					t.Errorf("Resolve = %v, %v", got, err)
				}
				for _, asked := range server.Queries() {
					if asked != name+"." {
						t.Errorf("the name server was asked for %q", asked)
					}
				}
			})
		}
	}
	t.Run("errors", func(t *testing.T) {
		t.Parallel()
		server := testnet.NewDNS(t)
		server.Set("-broken.test", testnet.ServFail())
		d := pindial.Dialer{Resolver: server.Resolver(), ResolveTimeout: time.Minute}
		var e *pindial.ResolveError
		if _, err := d.Resolve(t.Context(), "-gone.test"); !errors.As(err, &e) || !e.NotFound {
			t.Errorf("Resolve = %v, want not found", err)
		}
		_, err := d.Resolve(t.Context(), "-broken.test")
		var dnsErr *net.DNSError
		if !errors.As(err, &e) || e.NotFound || !errors.As(err, &dnsErr) || dnsErr.Name != "-broken.test." {
			t.Errorf("Resolve = %v, want the failure of -broken.test.", err)
		}
	})
}

// TestRebinding uses a name that is public when it is vetted, and resolves to
// this machine afterwards.
func TestRebinding(t *testing.T) {
	t.Parallel()
	public, local := netip.MustParseAddrPort("93.184.215.14:80"), netip.MustParseAddrPort("127.0.0.1:80")
	site, secret := testnet.Hang(t), testnet.Hang(t)
	var network testnet.Dialer
	network.Map(public, site.Addr())
	network.Map(local, secret.Addr())
	var r testnet.Resolver
	r.Set("rebind.test", testnet.Addrs("93.184.215.14"), testnet.Addrs("127.0.0.1"))
	d := pindial.Dialer{Resolver: &r, Connect: network.Connect}

	c, err := d.DialName(t.Context(), "rebind.test", 80, onlyPublic)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := r.Queries(); len(got) != 1 {
		t.Errorf("queries for one connection: %q", got)
	}
	for range 3 {
		if c, err := d.DialName(t.Context(), "rebind.test", 80, onlyPublic); !errors.Is(err, errNotPublic) {
			t.Errorf("DialName after the address changed = %v, %v; want the vet's error", c, err)
		}
	}
	if got := network.Dialed(); !slices.Equal(got, []netip.AddrPort{public}) {
		t.Errorf("connected to %v, want %v only", got, public)
	}
	if secret.Accepted() != 0 {
		t.Error("the local server was reached")
	}
}

func TestOneBadAddressRefusesAll(t *testing.T) {
	t.Parallel()
	for _, answer := range [][]string{
		{"93.184.215.14", "127.0.0.1"},
		{"127.0.0.1", "93.184.215.14"},
		{"93.184.215.14", "::ffff:10.0.0.1"},
		{"93.184.215.14", "64:ff9b::a9fe:a9fe"},
		{"93.184.215.14", "fe80::1%eth0"},
	} {
		var r testnet.Resolver
		r.Set("mixed.test", testnet.Addrs(answer...))
		var network testnet.Dialer
		d := pindial.Dialer{Resolver: &r, Connect: network.Connect}
		if _, err := d.DialName(t.Context(), "mixed.test", 80, onlyPublic); !errors.Is(err, errNotPublic) {
			t.Errorf("%v: DialName = %v, want the vet's error", answer, err)
		}
		if len(network.Dialed()) != 0 {
			t.Errorf("%v: connected to %v", answer, network.Dialed())
		}
	}
}

// TestVetCannotChangeTheList checks that the resolved addresses are dialed even
// if the vet writes to its argument.
func TestVetCannotChangeTheList(t *testing.T) {
	t.Parallel()
	var r testnet.Resolver
	r.Set("a.test", testnet.Addrs("93.184.215.14"))
	var network testnet.Dialer
	d := pindial.Dialer{Resolver: &r, Connect: network.Connect}
	d.DialName(t.Context(), "a.test", 80, func(list []netip.Addr) error {
		list[0] = netip.MustParseAddr("127.0.0.1")
		return nil
	})
	if got := network.Dialed(); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("93.184.215.14:80")}) {
		t.Errorf("connected to %v", got)
	}
}

// TestZoneIsDialed checks that the zone of a link-local address is hidden from
// the vet and dialed.
func TestZoneIsDialed(t *testing.T) {
	t.Parallel()
	var r testnet.Resolver
	r.Set("a.test", testnet.Addrs("fe80::1%eth0"))
	var network testnet.Dialer
	d := pindial.Dialer{Resolver: &r, Connect: network.Connect}
	d.DialName(t.Context(), "a.test", 80, func(list []netip.Addr) error {
		if !slices.Equal(list, addrs("fe80::1")) {
			t.Errorf("vetted %v", list)
		}
		return nil
	})
	if got := network.Dialed(); !slices.Equal(got, []netip.AddrPort{netip.MustParseAddrPort("[fe80::1%eth0]:80")}) {
		t.Errorf("connected to %v", got)
	}
}

func TestNilVet(t *testing.T) {
	t.Parallel()
	var r testnet.Resolver
	r.Set("a.test", testnet.Addrs("93.184.215.14"))
	var network testnet.Dialer
	d := pindial.Dialer{Resolver: &r, Connect: network.Connect}
	if _, err := d.DialName(t.Context(), "a.test", 80, nil); err == nil || len(r.Queries())+len(network.Dialed()) != 0 {
		t.Errorf("DialName = %v after queries %q and connections %v", err, r.Queries(), network.Dialed())
	}
}

// TestLoopback dials through the kernel and checks for leaks. It is not
// parallel because of Leaks.
func TestLoopback(t *testing.T) {
	testnet.CheckLeaks(t)
	origin := testnet.Echo(t)
	to := origin.AddrPort()
	var r testnet.Resolver
	r.Set("a.test", testnet.Addrs("::ffff:127.0.0.1"))
	r.Set("b.test", testnet.Addrs("127.0.0.2", "127.0.0.1")) // nothing listens at the first address
	d := pindial.Dialer{Resolver: &r}
	for _, name := range []string{"a.test", "b.test", "127.0.0.1"} {
		c, err := d.DialName(t.Context(), name, to.Port(), anything)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c.RemoteAddr().String() != to.String() {
			t.Errorf("%s: connected to %v, want %v", name, c.RemoteAddr(), to)
		}
		c.Close()
	}

	port := testnet.ClosedPort(t).Port()
	for _, list := range [][]netip.Addr{
		addrs(testnet.UnusedLoopback()),
		addrs(testnet.UnusedLoopback(), testnet.UnusedLoopback(), testnet.UnusedLoopback()),
	} {
		_, err := d.DialAddr(t.Context(), list, port)
		var e *pindial.ConnectError
		if !errors.As(err, &e) || len(e.Addrs) != len(list) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("DialAddr(%v) to a closed port = %v, want refused", list, err)
		}
	}
}

func BenchmarkDialName(b *testing.B) {
	origin := testnet.Serve(b, func(*net.TCPConn) {})
	var r testnet.Resolver
	r.Set("a.test", testnet.Addrs("127.0.0.1"))
	d := pindial.Dialer{Resolver: &r}
	b.ReportAllocs()
	for b.Loop() {
		c, err := d.DialName(b.Context(), "a.test", origin.AddrPort().Port(), anything)
		if err != nil {
			b.Fatal(err)
		}
		c.SetLinger(0) // leaves no port in TIME-WAIT
		c.Close()
	}
}
