// Tests of addresses with a zone, and of other unusual spellings of a target.

package networkproxy_test

import (
	"context"
	"iter"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// TestZoneIsDialed checks that the zone is used for the dial and kept in the
// record for every protocol, and is not sent in the Host field (RFC 6874
// section 4).
func TestZoneIsDialed(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		request func(l *lab, t *testing.T)
	}{
		{"HTTP", func(l *lab, t *testing.T) {
			w := l.dialHTTP(t)
			w.get("http://[fe80::1%25eth0]:80/path", "Connection: close")
			if a := w.readResponse("GET"); a.StatusCode != 200 || a.body != "[fe80::1]/path" {
				t.Errorf("got %s %q", a.Status, a.body)
			}
		}},
		{"CONNECT", func(l *lab, t *testing.T) { l.connectRaw(t, "[fe80::1%25eth0]:80").Close() }},
		{"SOCKS5", func(l *lab, t *testing.T) { l.socksTunnel("fe80::1%eth0", 80).Close() }},
		{"DialContext", func(l *lab, t *testing.T) {
			c, err := l.DialContext(networkproxy.Attribution{})(t.Context(), "tcp", "[fe80::1%eth0]:80")
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}},
		{"Transport", func(l *lab, t *testing.T) {
			c := http.Client{Transport: l.Transport(networkproxy.Attribution{})}
			if a := doRequest(t, &c, "GET", "http://[fe80::1%25eth0]/path", ""); a.status != 200 || a.body != "[fe80::1]/path" {
				t.Errorf("got %+v", a)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, withSOCKS(allow("fe80::1%eth0")), nil)
			origin := l.origin("unused.example", 80, func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(r.Host + r.URL.Path)) })
			to := netip.MustParseAddrPort("[fe80::1%eth0]:80")
			l.net.Map(to, origin.Listener.Addr())
			test.request(l, t)
			if got := l.net.Dialed(); !slices.Equal(got, []netip.AddrPort{to}) {
				t.Errorf("dialed %v, want %v", got, to)
			}
		})
	}
}

// TestZoneInRefusal checks that a refusal and its record have the zone.
func TestZoneInRefusal(t *testing.T) {
	t.Parallel()
	l := start(t, allow("fe80::1%eth0"), nil)
	w := l.dialHTTP(t)
	w.get("http://[fe80::1%25eth1]/")
	a := w.readResponse("GET")
	if f := a.refusal(t); a.StatusCode != 403 || f.Host != "fe80::1%eth1" || f.Reason != "not_allowed_local" {
		t.Errorf("got %s %s, want 403 with the zone", a.Status, a.body)
	}
	if b := l.Blocked(); len(b) != 1 || b[0].Host != "fe80::1%eth1" {
		t.Errorf("recorded %+v", b)
	}
}

// TestZoneOfAGrant checks that the decider gets the zone, and that the grant is
// for this zone only.
func TestZoneOfAGrant(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	c := allow()
	c.Policy.AllowLocalBinding = true
	l := start(t, c, withDecider(func(_ context.Context, r request) (decision, error) {
		asked <- r.Host
		return networkproxy.Allow().For(time.Hour), nil
	}))
	origin := l.origin("unused.example", 80, func(http.ResponseWriter, *http.Request) {})
	for _, zone := range []string{"eth0", "eth1"} {
		l.net.Map(netip.MustParseAddrPort("[fe80::1%"+zone+"]:80"), origin.Listener.Addr())
		for range 2 {
			w := l.dialHTTP(t) // net/http's client omits the zone
			w.get("http://[fe80::1%25" + zone + "]/")
			if a := w.readResponse("GET"); a.StatusCode != 200 {
				t.Errorf("zone %s: got %s %s", zone, a.Status, a.body)
			}
		}
	}
	close(asked)
	if got := slices.Collect(values(asked)); !slices.Equal(got, []string{"fe80::1%eth0", "fe80::1%eth1"}) {
		t.Errorf("the decider was asked about %q", got)
	}
}

// values are those of a closed channel.
func values[T any](c <-chan T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v := range c {
			if !yield(v) {
				return
			}
		}
	}
}

// TestZoneOfTheLimits checks that an entry with a zone is within a limit without a
// zone, but not the reverse.
func TestZoneOfTheLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit, entry string
		ok           bool
	}{
		{"fe80::1", "fe80::1%eth0", true},
		{"fe80::/10", "fe80::1%eth0", true},
		{"fe80::1%eth0", "[fe80::1%25eth0]:80", true},
		{"fe80::1%eth0", "fe80::1", false},
		{"fe80::1%eth0", "fe80::1%eth1", false},
		{"fe80::1%eth0", "fe80::/128", false},
	} {
		t.Run(tt.entry+" within "+tt.limit, func(t *testing.T) {
			t.Parallel()
			limits := filepath.Join(t.TempDir(), "limits.toml")
			text := "[network_proxy.policy]\nallowed_domains = [\"" + tt.limit + "\"]\n"
			if err := os.WriteFile(limits, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			c := allow(tt.entry)
			c.Enabled = true
			if _, err := networkproxy.NewBuilder().Config(c).Requirements(limits).Build(); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestZoneGoesDirectly checks that a request with a zone does not use an upstream
// proxy, because zones have a meaning on this machine only.
func TestZoneGoesDirectly(t *testing.T) {
	t.Parallel()
	c := allow("fe80::1%eth0", "ff02::1%eth0")
	c.AllowUpstreamProxy = true
	l := start(t, c, func(b *networkproxy.Builder) { b.UpstreamEnviron([]string{"ALL_PROXY=http://proxy.example:3128"}) })
	for _, url := range []string{"http://[fe80::1%25eth0]/", "http://[ff02::1%25eth0]/"} {
		x, err := l.ExplainURL(t.Context(), url, "GET", false)
		if err != nil || !x.Allowed || x.Upstream != "" {
			t.Errorf("%s: got %+v, %v", url, x, err)
		}
	}
}

// TestEmptyPort checks that a colon without a port means the default port in a
// URL (RFC 3986 section 6.2.3), and is an error where there is no default.
func TestEmptyPort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		method, target string
		status         int
	}{
		{"GET", "http://h.example:/path", 200},
		{"GET", "http://h.example:", 200},
		{"GET", "http://h.example:?query", 200},
		{"GET", "http://93.184.215.14:/", 200},
		{"GET", "http://[2606:4700::1]:/", 200},
		{"GET", "http://:/", 400},
		{"GET", "http://h.example::/", 400},
		{"CONNECT", "h.example:", 400},
		{"CONNECT", "[2606:4700::1]:", 400},
	} {
		t.Run(tt.method+" "+tt.target, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("*"), nil)
			origin := l.origin("h.example", 80, func(http.ResponseWriter, *http.Request) {})
			l.net.Map(netip.MustParseAddrPort("[2606:4700::1]:80"), origin.Listener.Addr())
			w := l.dialHTTP(t)
			w.request(tt.method, tt.target, "Connection: close")
			if a := w.readHeader(tt.method); a.StatusCode != tt.status {
				t.Errorf("got %s, want %d", a.Status, tt.status)
			}
		})
	}
	t.Run("Transport", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("h.example"), nil)
		l.origin("h.example", 80, func(http.ResponseWriter, *http.Request) {})
		c := http.Client{Transport: l.Transport(networkproxy.Attribution{})}
		if a := doRequest(t, &c, "GET", "http://h.example:/", ""); a.status != 200 {
			t.Errorf("got %+v", a)
		}
	})
}

// TestHyphens checks that labels in targets and entries may begin and end with
// hyphens.
func TestHyphens(t *testing.T) {
	t.Parallel()
	l := start(t, withSOCKS(allow("-x.a.example", "**.b-.example", "-*.c.example")), nil)
	origin := testnet.Echo(t)
	for _, host := range []string{"-x.a.example", "b-.example", "-.b-.example", "-y.c.example"} {
		l.mapHost(host, 443, origin.Addr())
		if err := echoes(l.connect(host + ":443")); err != nil {
			t.Errorf("CONNECT to %s: %v", host, err)
		}
		if err := echoes(l.socksTunnel(host, 443)); err != nil {
			t.Errorf("SOCKS5 to %s: %v", host, err)
		}
	}
	w := l.dialHTTP(t)
	w.request("CONNECT", "x.a.example:443")
	if a := w.readHeader("CONNECT"); a.StatusCode != 403 {
		t.Errorf("the name without the hyphen: got %s, want 403", a.Status)
	}
}
