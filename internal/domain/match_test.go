package domain

// Table tests of Pattern.Matches, Pattern.Covers and Set.

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"

	"example.com/networkproxy/internal/hostname"
)

func pattern(t testing.TB, text string) Pattern {
	t.Helper()
	p, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func patterns(t testing.TB, texts ...string) []Pattern {
	t.Helper()
	var list []Pattern
	for _, text := range texts {
		list = append(list, pattern(t, text))
	}
	return list
}

func target(t testing.TB, hostport string) hostname.Target {
	t.Helper()
	target, err := hostname.ParseTarget(hostport)
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestMatches(t *testing.T) {
	t.Parallel()
	tests := []struct {
		pattern string
		yes, no []string
	}{
		{
			"example.com",
			[]string{"example.com:80", "EXAMPLE.com.:65535"},
			[]string{"a.example.com:80", "example.org:80", "xexample.com:80", "example.com.evil.example:80", "com:80"},
		},
		{
			"*.example.com",
			[]string{"a.example.com:80", "a.b.example.com:443", "xn--a-xka.example.com:1"},
			[]string{"example.com:80", "xexample.com:80", "a.example.com.evil.example:80", "a.example.org:80"},
		},
		{
			"**.example.com",
			[]string{"example.com:80", "a.example.com:80", "a.b.c.example.com:443"},
			[]string{"xexample.com:80", "com:80", "example.org:80"},
		},
		{
			"*",
			[]string{"example.com:80", "localhost:80", "192.0.2.1:80", "127.0.0.1:80", "[::1]:443"},
			nil,
		},
		{
			"region*.v2.example.com",
			[]string{"region1.v2.example.com:80", "region.v2.example.com:80", "region-a_b.v2.example.com:80"},
			[]string{"regio.v2.example.com:80", "region1.x.v2.example.com:80", "a.region1.v2.example.com:80", "region1.v2.example.org:80", "v2.example.com:80", "xregion1.v2.example.com:80"},
		},
		{
			"a.*.example.com",
			[]string{"a.b.example.com:80", "a.bb-c.example.com:80"},
			[]string{"a.example.com:80", "a.b.c.example.com:80", "b.a.example.com:80"},
		},
		{
			"a*b*c.example.com",
			[]string{"abc.example.com:80", "aabbcc.example.com:80", "axbxbxc.example.com:80", "abcbc.example.com:80"},
			[]string{"ab.example.com:80", "acb.example.com:80", "ab.c.example.com:80", "abcx.example.com:80", "a.b.c.example.com:80"},
		},
		{
			"*a.b*.com",
			[]string{"a.b.com:80", "xa.bx.com:80", "aa.bb.com:80"},
			[]string{"ab.b.com:80", "a.c.com:80", "x.a.b.com:80", "a.x.b.com:80"},
		},
		{
			"203.0.113.7",
			[]string{"203.0.113.7:80", "[::ffff:203.0.113.7]:80"},
			[]string{"203.0.113.8:80", "[2001:db8::7]:80", "[::203.0.113.7]:80", "example.com:80"},
		},
		{
			"[2001:db8::1]",
			[]string{"[2001:db8::1]:80", "[2001:DB8:0:0::1]:443", "[2001:db8::1%eth0]:80"},
			[]string{"[2001:db8::2]:80", "192.0.2.1:80"},
		},
		{
			"10.0.0.0/8",
			[]string{"10.0.0.0:80", "10.255.255.255:80", "[::ffff:10.1.2.3]:80"},
			[]string{"11.0.0.0:80", "9.255.255.255:80", "[::10.1.2.3]:80", "example.com:80"},
		},
		{
			"0.0.0.0/0",
			[]string{"192.0.2.1:80", "127.0.0.1:80"},
			[]string{"[::1]:80", "example.com:80"},
		},
		{
			"::/0",
			[]string{"[::1]:80", "[2001:db8::1]:80"},
			[]string{"192.0.2.1:80", "[::ffff:192.0.2.1]:80", "example.com:80"},
		},
		{
			"localhost",
			[]string{"localhost:80", "LOCALHOST.:80"},
			[]string{"127.0.0.1:80", "[::1]:80", "a.localhost:80"},
		},
		{"127.0.0.1", []string{"127.0.0.1:80"}, []string{"localhost:80"}},
		{"*.localhost", []string{"a.localhost:80"}, []string{"localhost:80", "127.0.0.1:80"}},
		{"example.com:8443", []string{"example.com:8443"}, []string{"example.com:443", "a.example.com:8443"}},
		{"*.example.com:443", []string{"a.example.com:443"}, []string{"a.example.com:80"}},
		{"*:443", []string{"example.com:443", "192.0.2.1:443"}, []string{"example.com:80"}},
		{"[::1]:3000", []string{"[::1]:3000"}, []string{"[::1]:3001"}},
		{"10.0.0.0/8:443", []string{"10.1.2.3:443"}, []string{"10.1.2.3:80"}},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			t.Parallel()
			p := pattern(t, tt.pattern)
			set := Compile([]Pattern{p})
			check := func(hostport string, want bool) {
				if got := p.Matches(target(t, hostport)); got != want {
					t.Errorf("%s matches %s: %v, want %v", p, hostport, got, want)
				}
				if _, got := set.Match(target(t, hostport)); got != want {
					t.Errorf("the set of %s matches %s: %v, want %v", p, hostport, got, want)
				}
			}
			for _, hostport := range tt.yes {
				check(hostport, true)
			}
			for _, hostport := range tt.no {
				check(hostport, false)
			}
			if p.Matches(hostname.Target{}) || p.Matches(hostname.Target{Port: 443}) {
				t.Errorf("%s matches the zero host", p)
			}
		})
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		outer   string
		yes, no []string
	}{
		{"*.a.com", []string{"x.a.com:443", "*.b.a.com", "**.b.a.com", "*.a.com", "x*.a.com", "x*.y.a.com"}, []string{"a.com", "**.a.com", "*.xa.com", "x.b.com", "*", "x*.com", "a*.com"}},
		{"**.a.com", []string{"a.com", "*.a.com", "**.a.com", "x.a.com", "x*.a.com"}, []string{"com", "**.com", "*.com", "xa.com", "*"}},
		{"*", []string{"*", "*:443", "a.com", "**.com", "localhost", "10.0.0.0/8", "[::1]", "a*.b.com"}, nil},
		{"*:443", []string{"*:443", "a.com:443", "10.0.0.0/8:443"}, []string{"*", "a.com", "a.com:80"}},
		{"a.com", []string{"a.com", "a.com:80"}, []string{"*.a.com", "**.a.com", "x.a.com"}},
		{"a.com:80", []string{"a.com:80"}, []string{"a.com", "a.com:81"}},
		{"a*.x.com", []string{"ab.x.com", "a.x.com:1", "ab*.x.com", "a*c.x.com", "a*.x.com"}, []string{"*a.x.com", "b.x.com", "a*.y.x.com", "*.x.com", "a.y.x.com"}},
		{"a.*.com", []string{"a.b.com", "a.b*.com", "a.*.com"}, []string{"a.b.c.com", "*.b.com", "a*.b.com", "*.com"}},
		{"10.0.0.0/8", []string{"10.1.0.0/16", "10.1.2.3", "10.0.0.0/8:80", "::ffff:10.1.2.3"}, []string{"11.0.0.0/8", "0.0.0.0/0", "::/0", "a.com", "*"}},
		{"10.1.2.3", []string{"10.1.2.3", "10.1.2.3/32"}, []string{"10.1.2.2/31", "10.1.2.4"}},
		{"::/0", []string{"::1", "2001:db8::/32"}, []string{"10.0.0.0/8", "0.0.0.0/0"}},
		{"0.0.0.0/0", []string{"10.0.0.0/8"}, []string{"::/96", "::1"}},
		{"localhost", []string{"localhost:80"}, []string{"127.0.0.1", "::1", "a.localhost"}},
		{"fe80::1", []string{"fe80::1", "fe80::1%a", "[fe80::1%25b]:80"}, []string{"fe80::2%a", "fe80::/10"}},
		{"fe80::1%a", []string{"fe80::1%a", "[fe80::1%25a]:80"}, []string{"fe80::1", "fe80::1%b", "fe80::2%a", "fe80::1/128"}},
		{"fe80::/10", []string{"fe80::1%a", "fe80::1"}, []string{"ff02::1%a"}},
	}
	for _, tt := range tests {
		t.Run(tt.outer, func(t *testing.T) {
			t.Parallel()
			outer := pattern(t, tt.outer)
			for _, inner := range tt.yes {
				if !outer.Covers(pattern(t, inner)) {
					t.Errorf("%s does not cover %s", outer, inner)
				}
			}
			for _, inner := range tt.no {
				if outer.Covers(pattern(t, inner)) {
					t.Errorf("%s covers %s", outer, inner)
				}
			}
			if !outer.Covers(Pattern{}) {
				t.Errorf("%s does not cover the zero Pattern", outer)
			}
		})
	}
}

// TestSetMatchPrefers checks the order of preference: the more specific pattern,
// then the one for the port, then the first.
func TestSetMatchPrefers(t *testing.T) {
	t.Parallel()
	set := Compile(patterns(t, []string{
		0: "*", 1: "*:443",
		2: "**.example.com", 3: "*.example.com", 4: "*.example.com:443",
		5: "a*.example.com", 6: "ab*.example.com", 7: "ab*.example.com:443",
		8: "*.b.example.com", 9: "abc.example.com", 10: "abc.example.com", 11: "abc.example.com:443",
		12: "10.0.0.0/8", 13: "10.1.0.0/16:443", 14: "10.1.2.3", 15: "10.0.0.0/8:443", 16: "2001:db8::/32", 17: "**.b.example.com:443",
	}...))
	if set.Len() != 18 {
		t.Errorf("Len = %d, want 18", set.Len())
	}
	for hostport, want := range map[string]int{
		"example.org:80":        0,
		"example.org:443":       1,
		"example.com:80":        2,
		"x.example.com:80":      2,
		"x.example.com:443":     4,
		"ax.example.com:80":     5,
		"abx.example.com:80":    5,
		"abx.example.com:443":   7,
		"ax.example.com:443":    5,
		"x.b.example.com:80":    8,
		"x.b.example.com:443":   17,
		"b.example.com:443":     17,
		"abc.example.com:80":    9,
		"abc.example.com:443":   11,
		"10.1.2.3:443":          14,
		"10.1.2.4:443":          13,
		"10.1.2.4:80":           12,
		"10.2.0.0:443":          15,
		"192.0.2.1:443":         1,
		"[2001:db8::1]:443":     16,
		"[2001:db9::1]:80":      0,
		"[::ffff:10.1.2.3]:443": 14,
	} {
		if got, ok := set.Match(target(t, hostport)); !ok || got != want {
			t.Errorf("Match(%s) = %d, %v, want %d", hostport, got, ok, want)
		}
	}
}

func TestSetMatchExplicit(t *testing.T) {
	t.Parallel()
	set := Compile(patterns(t, "*", "**.localhost", "l*.localhost", "localhost:80", "127.0.0.0/8:80", "::1"))
	for hostport, want := range map[string]int{
		"localhost:80":   3,
		"localhost:81":   -1,
		"l.localhost:80": -1,
		"127.0.0.1:80":   4,
		"127.0.0.1:81":   -1,
		"[::1]:81":       5,
		"example.com:80": -1,
	} {
		if got, ok := set.MatchExplicit(target(t, hostport)); got != want || ok != (want >= 0) {
			t.Errorf("MatchExplicit(%s) = %d, %v, want %d", hostport, got, ok, want)
		}
	}
}

func TestSetMatchAddr(t *testing.T) {
	t.Parallel()
	set := Compile(patterns(t, "*", "example.com", "10.0.0.0/8", "[fe80::1]:80", "10.0.0.0/16:80"))
	tests := []struct {
		addr netip.Addr
		port uint16
		want int
	}{
		{netip.MustParseAddr("10.1.2.3"), 80, 2},
		{netip.MustParseAddr("10.0.2.3"), 80, 4},
		{netip.MustParseAddr("10.0.2.3"), 81, 2},
		{netip.MustParseAddr("::ffff:10.1.2.3"), 80, 2},
		{netip.MustParseAddr("192.0.2.1"), 80, -1},
		{netip.MustParseAddr("fe80::1%eth0"), 80, 3},
		{netip.MustParseAddr("fe80::1"), 81, -1},
		{netip.Addr{}, 80, -1},
	}
	for _, tt := range tests {
		if got, ok := set.MatchAddr(tt.addr, tt.port); got != tt.want || ok != (tt.want >= 0) {
			t.Errorf("MatchAddr(%v, %d) = %d, %v, want %d", tt.addr, tt.port, got, ok, tt.want)
		}
	}
}

func TestSetEmpty(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]*Set{
		"nil": nil, "zero": new(Set), "compiled from nothing": Compile(nil), "compiled from the zero pattern": Compile(make([]Pattern, 1)),
	} {
		for _, hostport := range []string{"example.com:80", "127.0.0.1:80", "[::1]:80"} {
			host := target(t, hostport)
			if i, ok := set.Match(host); ok || i != -1 {
				t.Errorf("%s: Match(%s) = %d, %v", name, hostport, i, ok)
			}
			if i, ok := set.MatchExplicit(host); ok || i != -1 {
				t.Errorf("%s: MatchExplicit(%s) = %d, %v", name, hostport, i, ok)
			}
			if i, ok := set.MatchAddr(netip.MustParseAddr("127.0.0.1"), 80); ok || i != -1 {
				t.Errorf("%s: MatchAddr = %d, %v", name, i, ok)
			}
		}
	}
	if i, ok := Compile(patterns(t, "*", "*:80")).Match(hostname.Target{}); ok {
		t.Errorf("* matches the zero target: %d", i)
	}
	if (*Set)(nil).Len() != 0 || Compile(make([]Pattern, 2)).Len() != 2 {
		t.Error("Len is not the number of patterns")
	}
}

// TestZones matches patterns with and without a zone against targets with and
// without one. The name and the number of the loopback interface are the same
// zone.
func TestZones(t *testing.T) {
	t.Parallel()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 })
	if i < 0 {
		t.Fatal("this machine has no loopback interface")
	}
	name, number := all[i].Name, strconv.Itoa(all[i].Index)
	texts := []string{"fe80::/10", "fe80::1", "fe80::1%" + name, "fe80::1%nosuch0", "[fe80::1%25nosuch0]:443", "fe80::1%" + number, "fe80::2"}
	list := patterns(t, texts...)
	for _, tt := range []struct {
		target string
		match  []int // of the list
		best   int
	}{
		{"[fe80::1]:80", []int{0, 1}, 1},
		{"[fe80::1%25" + name + "]:80", []int{0, 1, 2, 5}, 2},
		{"[fe80::1%25" + number + "]:80", []int{0, 1, 2, 5}, 2},
		{"[fe80::1%25nosuch0]:80", []int{0, 1, 3}, 3},
		{"[fe80::1%25nosuch0]:443", []int{0, 1, 3, 4}, 4},
		{"[fe80::1%25other0]:443", []int{0, 1}, 1},
		{"[fe80::2%25" + name + "]:80", []int{0, 6}, 6},
		{"[fe80::3%25" + name + "]:80", []int{0}, 0},
		{"[::1%25" + name + "]:80", nil, -1},
	} {
		t.Run(tt.target, func(t *testing.T) {
			t.Parallel()
			to := target(t, tt.target)
			for i, p := range list {
				want := slices.Contains(tt.match, i)
				if p.Matches(to) != want {
					t.Errorf("%s matches: %v, want %v", p, !want, want)
				}
				if _, ok := Compile(list[i : i+1]).Match(to); ok != want {
					t.Errorf("the set of %s matches: %v, want %v", p, ok, want)
				}
			}
			set := Compile(list)
			if i, _ := set.Match(to); i != tt.best {
				t.Errorf("the set's best match is %d, want %d", i, tt.best)
			}
			if i, _ := set.MatchExplicit(to); i != tt.best {
				t.Errorf("the set's best explicit match is %d, want %d", i, tt.best)
			}
			if i, _ := set.MatchAddr(to.Host.ScopedAddr(), to.Port); i != tt.best {
				t.Errorf("the set's best match of the address is %d, want %d", i, tt.best)
			}
		})
	}
}
