// Tests of the order of the checks, and of refusals that no allow overrides.

package networkproxy_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestOrderOfChecks makes requests with several reasons for a refusal. The
// earliest check decides.
func TestOrderOfChecks(t *testing.T) {
	t.Parallel()
	config := allow("both.example", "*.both.example", "127.0.0.1", "10.0.0.0/8", "private.example", "denied-private.example")
	config.Policy.DeniedDomains = []string{"both.example", "x.both.example:443", "127.0.0.0/8", "10.9.0.0/16", "192.168.0.0/16", "unlisted.example"}
	config.Mode = networkproxy.ModeLimited
	l := start(t, config, nil)
	l.dns.Set("private.example", addrs("172.16.0.1"))
	l.dns.Set("denied-private.example", addrs("10.9.0.1"))
	for _, tt := range []struct {
		name, method, target string
		want                 networkproxy.Reason
		rule                 string
	}{
		{"own listener before denylist", "CONNECT", l.AdminAddr(), networkproxy.ReasonNotAllowedLocal, ""},
		{"denylist before allowlist", "GET", "both.example:80", networkproxy.ReasonDenied, "both.example"},
		{"denylist before mode", "CONNECT", "both.example:80", networkproxy.ReasonDenied, "both.example"},
		{"denylist before local, allowed", "GET", "127.0.0.1:80", networkproxy.ReasonDenied, "127.0.0.0/8"},
		{"denylist before local, not allowed", "GET", "192.168.0.1:80", networkproxy.ReasonDenied, "192.168.0.0/16"},
		{"denylist before local, in an allowed block", "GET", "10.9.0.1:80", networkproxy.ReasonDenied, "10.9.0.0/16"},
		{"denylist before a miss", "GET", "unlisted.example:80", networkproxy.ReasonDenied, "unlisted.example"},
		{"a deny is for its port", "GET", "x.both.example:443", networkproxy.ReasonDenied, "x.both.example:443"},
		{"a deny is for its port alone", "CONNECT", "x.both.example:444", networkproxy.ReasonMethodNotAllowed, ""},
		{"local before a miss", "GET", "172.16.0.1:80", networkproxy.ReasonNotAllowedLocal, ""},
		{"local before mode", "CONNECT", "172.16.0.1:80", networkproxy.ReasonNotAllowedLocal, ""},
		{"a miss before mode", "CONNECT", "miss.example:80", networkproxy.ReasonNotAllowed, ""},
		{"mode before the look-up", "CONNECT", "private.example:80", networkproxy.ReasonMethodNotAllowed, ""},
		{"addresses last", "GET", "private.example:80", networkproxy.ReasonNotAllowedLocal, ""},
		{"local addresses before denied ones", "GET", "denied-private.example:80", networkproxy.ReasonNotAllowedLocal, ""},
	} {
		w := l.dialHTTP(t)
		target := tt.target
		if tt.method != "CONNECT" {
			target = "http://" + target + "/"
		}
		w.request(tt.method, target)
		a := w.readHeader(tt.method)
		list := l.Blocked()
		b := list[len(list)-1]
		if a.StatusCode != 403 || b.Reason != tt.want || b.Rule.Pattern != tt.rule {
			t.Errorf("%s: got %s, reason %s, rule %q; want reason %s, rule %q", tt.name, a.Status, b.Reason, b.Rule.Pattern, tt.want, tt.rule)
		}
	}
	if q := l.dns.Queries(); !slices.Equal(q, []string{"private.example", "denied-private.example"}) {
		t.Errorf("unexpected DNS queries %q", q)
	}
}

// TestRebinding checks that only judged addresses are connected to, if a name
// server gives a public address first and a local one later.
func TestRebinding(t *testing.T) {
	t.Parallel()
	l := start(t, allow("rebind.example"), nil)
	var reached atomic.Int64
	origin := l.origin("rebind.example", 80, func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	l.mapHost("rebind.example", 443, origin.Listener.Addr())
	// A server on this machine that listens on the same port.
	trap := testnet.Serve(t, func(*net.TCPConn) { t.Error("the local server was reached") })
	for _, port := range []uint16{80, 443} {
		for _, a := range []string{"127.0.0.1", "::1", "10.0.0.1", "169.254.169.254"} {
			l.net.Map(netip.AddrPortFrom(netip.MustParseAddr(a), port), trap.Addr())
		}
	}
	l.dns.Set("rebind.example", addrs(publicAddr), addrs("127.0.0.1"), addrs("169.254.169.254"), addrs(publicAddr, "10.0.0.1"), addrs("10.0.0.1", publicAddr), addrs("::1"))

	w := l.dialHTTP(t)
	w.get("http://rebind.example/")
	if a := w.readResponse("GET"); a.StatusCode != 200 {
		t.Fatalf("public address: got %s, want 200", a.Status)
	}
	// The connection to the public address may be reused. A new connection needs
	// a new answer with a public address.
	w.get("http://rebind.example/")
	if a := w.readResponse("GET"); a.StatusCode != 200 || reached.Load() != 2 {
		t.Errorf("second request: got %s and %d requests at the origin server", a.Status, reached.Load())
	}
	for range 6 {
		w := l.dialHTTP(t)
		w.request("CONNECT", "rebind.example:443")
		if a := w.readHeader("GET"); a.StatusCode != 403 {
			t.Errorf("local address: got %s, want a refusal", a.Status)
		}
	}
	for _, a := range l.net.Dialed() {
		if a.Addr() != netip.MustParseAddr(publicAddr) {
			t.Errorf("dialed %v, want only the public address", a)
		}
	}
	if n := len(l.dns.Queries()); n != 7 {
		t.Errorf("%d look-ups, want one for each connection", n)
	}
}

// TestDialsTheVettedAddressesOnly checks that all judged addresses are dialed, and
// no others.
func TestDialsTheVettedAddressesOnly(t *testing.T) {
	t.Parallel()
	l := start(t, allow("many.example", "93.184.216.34"), nil)
	list := []string{"93.184.215.1", "93.184.215.2", "2606:4700::1", "93.184.215.3"}
	l.dns.Set("many.example", addrs(list...))
	w := l.dialHTTP(t)
	w.request("CONNECT", "many.example:443") // all addresses refuse the connection
	if a := w.readResponse("GET"); a.StatusCode != 502 {
		t.Fatalf("got %s %s", a.Status, a.body)
	}
	w = l.dialHTTP(t)
	w.request("CONNECT", "[::ffff:93.184.216.34]:8443") // one literal
	w.readResponse("GET")
	want := []netip.AddrPort{netip.MustParseAddrPort("93.184.216.34:8443")}
	for _, a := range list {
		want = append(want, netip.AddrPortFrom(netip.MustParseAddr(a), 443))
	}
	got := l.net.Dialed()
	slices.SortFunc(got, netip.AddrPort.Compare)
	slices.SortFunc(want, netip.AddrPort.Compare)
	if !slices.Equal(got, want) {
		t.Errorf("dialed %v, want %v", got, want)
	}
}

// TestDenyWhileDialing adds a denylist entry between the verdict and the
// connection.
func TestDenyWhileDialing(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"late.example", publicAddr} {
		for _, method := range []string{"GET", "CONNECT"} {
			t.Run(method+" "+entry, func(t *testing.T) {
				t.Parallel()
				var l *lab
				origin := testnet.Echo(t)
				l = start(t, allow("late.example"), func(b *networkproxy.Builder) {
					networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
						if err := l.DenyDomain(entry); err != nil {
							t.Error(err)
						}
						var d net.Dialer
						return d.DialTCP(ctx, "tcp", netip.AddrPort{}, origin.AddrPort())
					})
				})
				l.dns.Set("late.example", addrs(publicAddr))
				w := l.dialHTTP(t)
				target := "late.example:80"
				if method == "GET" {
					target = "http://" + target + "/"
				}
				w.request(method, target)
				a := w.readHeader("GET")
				list := l.Blocked()
				if a.StatusCode != 403 || len(list) != 1 || list[0].Rule.Pattern != entry {
					t.Errorf("got %s with the records %+v", a.Status, list)
				}
			})
		}
	}
}

// TestResolverAnswers checks that invalid answers of the host's resolver are
// refused.
func TestResolverAnswers(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer []netip.Addr
	}{
		{"the zero address", []netip.Addr{{}}},
		{"a zone", []netip.Addr{netip.MustParseAddr("fe80::1%lo")}},
		{"mapped", []netip.Addr{netip.MustParseAddr("::ffff:10.0.0.1")}},
		{"a good and a bad", []netip.Addr{netip.MustParseAddr(publicAddr), netip.MustParseAddr("::1")}},
		{"a bad one last of many", append(slices.Repeat([]netip.Addr{netip.MustParseAddr(publicAddr)}, 1000),
			netip.MustParseAddr("127.0.0.1"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), func(b *networkproxy.Builder) {
				b.Resolver(fixedResolver(test.answer))
			})
			w := l.dialHTTP(t)
			w.get("http://o.example/")
			if a := w.readResponse("GET"); a.StatusCode != 403 && a.StatusCode != 502 {
				t.Errorf("got %s %s", a.Status, a.body)
			}
			if d := l.net.Dialed(); len(d) > 0 {
				t.Errorf("dialed %v, want nothing", d)
			}
		})
	}
}

type fixedResolver []netip.Addr

func (r fixedResolver) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return slices.Clone(r), nil
}
