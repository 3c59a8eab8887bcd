package domain

// Tests of Parse: canonical forms, and errors with their hints.

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	tests := []struct {
		in   string
		want string
		kind Kind
		port uint16
	}{
		{"example.com", "example.com", Exact, 0},
		{"EXAMPLE.com.", "example.com", Exact, 0},
		{"localhost", "localhost", Exact, 0},
		{"foo.localhost", "foo.localhost", Exact, 0},
		{"localhost:8000", "localhost:8000", Exact, 8000},
		{"example.com:8443", "example.com:8443", Exact, 8443},
		{"bücher.example", "xn--bcher-kva.example", Exact, 0},
		{"_srv.example.com", "_srv.example.com", Exact, 0},
		{"r3---sn-x.googlevideo.com", "r3---sn-x.googlevideo.com", Exact, 0},

		{"*.example.com", "*.example.com", Subdomains, 0},
		{"*.EXAMPLE.com.", "*.example.com", Subdomains, 0},
		{"*.example.com:443", "*.example.com:443", Subdomains, 443},
		{"*.com", "*.com", Subdomains, 0},
		{"*.localhost", "*.localhost", Subdomains, 0},
		{"*.bücher.example", "*.xn--bcher-kva.example", Subdomains, 0},
		{"*。example。com", "*.example.com", Subdomains, 0},
		{"**.example.com", "**.example.com", ApexAndSubdomains, 0},
		{"**.example.com:443", "**.example.com:443", ApexAndSubdomains, 443},

		{"*", "*", Any, 0},
		{"*:443", "*:443", Any, 443},

		{"region*.v2.example.com", "region*.v2.example.com", Glob, 0},
		{"REGION*.v2.example.com.:443", "region*.v2.example.com:443", Glob, 443},
		{"a*b*c.example.com", "a*b*c.example.com", Glob, 0},
		{"*foo.example.com", "*foo.example.com", Glob, 0},
		{"a.*.example.com", "a.*.example.com", Glob, 0},
		{"a.*.*.example.com", "a.*.*.example.com", Glob, 0},
		{"*a.*.com", "*a.*.com", Glob, 0},
		{"a*.bücher.example", "a*.xn--bcher-kva.example", Glob, 0},
		{"bücher.a*.example", "xn--bcher-kva.a*.example", Glob, 0},
		{"x.a*.example", "x.a*.example", Glob, 0},
		{"xn--*.example", "xn--*.example", Glob, 0},
		{"_*_.example", "_*_.example", Glob, 0},
		{label63 + "*.example", label63 + "*.example", Glob, 0},

		{"-a.example", "-a.example", Exact, 0},
		{"a-.-b.example:80", "a-.-b.example:80", Exact, 80},
		{"*.-a.example", "*.-a.example", Subdomains, 0},
		{"-*.example.com", "-*.example.com", Glob, 0},
		{"*-.example.com", "*-.example.com", Glob, 0},

		{"fe80::1%eth0", "[fe80::1%25eth0]", Addr, 0},
		{"[fe80::1%25eth0]", "[fe80::1%25eth0]", Addr, 0},
		{"[fe80::1%eth0]", "[fe80::1%25eth0]", Addr, 0},
		{"[FE80::1%25Eth0]:443", "[fe80::1%25Eth0]:443", Addr, 443},
		{"fe80::1%25", "[fe80::1%2525]", Addr, 0},
		{"ff02::1%2", "[ff02::1%252]", Addr, 0},

		{"203.0.113.7", "203.0.113.7", Addr, 0},
		{"203.0.113.7:80", "203.0.113.7:80", Addr, 80},
		{"203.0.113.7/32", "203.0.113.7", Addr, 0},
		{"[2001:db8::1]", "[2001:db8::1]", Addr, 0},
		{"2001:DB8:0::1", "[2001:db8::1]", Addr, 0},
		{"[::1]:3000", "[::1]:3000", Addr, 3000},
		{"2001:db8::1/128", "[2001:db8::1]", Addr, 0},
		{"::ffff:192.0.2.1", "192.0.2.1", Addr, 0},
		{"[::ffff:192.0.2.1]:80", "192.0.2.1:80", Addr, 80},
		{"::ffff:192.0.2.1/128", "192.0.2.1", Addr, 0},

		{"10.0.0.0/8", "10.0.0.0/8", CIDR, 0},
		{"10.0.0.0/8:443", "10.0.0.0/8:443", CIDR, 443},
		{"0.0.0.0/0", "0.0.0.0/0", CIDR, 0},
		{"::/0", "::/0", CIDR, 0},
		{"2001:db8::/32", "2001:db8::/32", CIDR, 0},
		{"[2001:db8::]/32", "2001:db8::/32", CIDR, 0},
		{"[2001:db8::/32]", "2001:db8::/32", CIDR, 0},
		{"[2001:db8::]/32:443", "[2001:db8::/32]:443", CIDR, 443},
		{"[2001:db8::/32]:443", "[2001:db8::/32]:443", CIDR, 443},
		{"::ffff:10.0.0.0/104", "10.0.0.0/8", CIDR, 0},
		{"[::ffff:a00:0]/104:80", "10.0.0.0/8:80", CIDR, 80},
		{"::ffff:0:0/96", "0.0.0.0/0", CIDR, 0},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.String() != tt.want || p.Kind() != tt.kind || p.Port() != tt.port {
				t.Errorf("Parse(%q) = %q, %v, port %d, want %q, %v, port %d", tt.in, p, p.Kind(), p.Port(), tt.want, tt.kind, tt.port)
			}
			if again, err := Parse(p.String()); err != nil || again != p {
				t.Errorf("Parse(%q) = %v, %v, want the same pattern", p, again, err)
			}
			if explicit := tt.kind == Exact || tt.kind == Addr || tt.kind == CIDR; p.Explicit() != explicit {
				t.Errorf("Parse(%q).Explicit() = %v", tt.in, p.Explicit())
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	label64 := strings.Repeat("a", 64)
	long := strings.Repeat("a.", 125) + "a" // 251 bytes
	tests := []struct {
		in       string
		mentions string // required part of the message
	}{
		{"", "empty"},
		{"  ", "empty"},
		{" example.com", `write "example.com"`},
		{"example.com\n", `write "example.com"`},
		{"a.example b.example", "one pattern for each entry"},
		{"a.example,b.example", "one pattern for each entry"},

		{"https://x/", `write "x"`},
		{"https://x.example:8443/path?q#f", `write "x.example:8443"`},
		{"http://user:pw@x.example/", `write "x.example"`},
		{"http://[::1]:3000/", `write "[::1]:3000"`},
		{"https://*.example.com", `write "*.example.com"`},
		{"https://", "URL"},
		{"x.example/", `write "x.example"`},
		{"x.example/path", `write "x.example"`},
		{"x.example:80/path", `write "x.example:80"`},
		{"*.example.com/*", `write "*.example.com"`},
		{"x.example?q", "question mark"},
		{"api?.example.com", "not a wildcard"},
		{"user@x.example", `write "x.example"`},
		{"user:pw@x.example:80", `write "x.example:80"`},
		{"!x.example", "denylist"},
		{".example.com", `write "**.example.com"`},
		{"^x$", "no host has"},
		{"a\x00b", "NUL"},
		{"a%20b", "percent"},
		{"a..example", "empty label"},
		{label64 + ".example", "63"},
		{"2130706433", "IPv4"},
		{"127.1", "IPv4"},
		{"127.0.0.1.", "IPv4"},

		{"*.", `"*" for every host`},
		{"*.:443", `"*" for every host`},
		{"**", `"*" for every host`},
		{"**.", "**.example.com"},
		{"**:443", `"*" for every host`},
		{"***", `write "*"`},
		{"*.*", `write "*"`},
		{"*..", "empty"},
		{"*.*.example.com", `write "*.example.com"`},
		{"**.*.example.com", `write "**.example.com"`},
		{"*.**.example.com", `write "*.example.com"`},
		{"*.a*.example.com", `write "*.example.com"`},
		{"example.*", "last label"},
		{"*.example.*", "last label"},
		{"example.c*", "last label"},
		{"*com", `write "*.com"`},
		{"com*", "last label"},
		{"**example.com", `write "**.example.com"`},
		{"**example.com:443", `write "**.example.com:443"`},
		{"a.**.example.com", "whole first label"},
		{"a**.example.com", "whole first label"},
		{"a.***.example.com", "whole first label"},
		{"bü*.example.com", "beyond ASCII"},
		{"a*\x00.example.com", "character"},
		{"a*.exa mple.com", "space"},
		{"a*..example.com", "empty label"},
		{"a*.x\u2024y.example.com", "internationalised"},
		{"a*.example.xn--", "empty label"},
		{label64 + "*.example", "63"},
		{"*.a." + long, "253"},
		{"*." + long + "a", "too long"},
		{"**." + long + "a", "too long"},
		{"aa*." + long, "too long"},
		{"*.192.0.2.1", "no subdomains"},
		{"*.0.0.1", "IPv4"},
		{"a*.1", "IPv4"},
		{"[*]", "last label"},

		{"10.*", `write "10.0.0.0/8"`},
		{"10.*:443", `write "10.0.0.0/8:443"`},
		{"192.168.*", `write "192.168.0.0/16"`},
		{"192.168.*.*", `write "192.168.0.0/16"`},
		{"192.168.0.*", `write "192.168.0.0/24"`},
		{"300.*", "last label"},
		{"10.0.0.1/8", `write "10.0.0.0/8"`},
		{"::ffff:10.0.0.1/104", `write "10.0.0.0/8"`},
		{"2001:db8::1/32", `write "2001:db8::/32"`},
		{"[2001:db8::1]/32:443", `write "2001:db8::/32"`},
		{"::ffff:0:0/90", `write "::ffc0:0:0/90" for the block, or "0.0.0.0"`},
		{"10.0.0.0/33", "0 to 32"},
		{"10.0.0.0/08", "leading zeros"},
		{"10.0.0.0/+8", "0 to 32"},
		{"10.0.0.0/", "0 to 32"},
		{"10.0.0.0/x", "0 to 32"},
		{"2001:db8::/129", "0 to 128"},
		{"10.0.0.0/255.0.0.0", `write "10.0.0.0/8"`},
		{"10.0.0.1/255.0.0.0", `write "10.0.0.0/8"`},
		{"10.0.0.0/255.0.255.0", "0 to 32"},
		{"10/8", `write "10.0.0.0/8"`},
		{"10.0/8", `write "10.0.0.0/8"`},
		{"/8", "host"},
		{"[10.0.0.0]/8", "leave them out"},
		{"[10.0.0.1]", "leave them out"},
		{"2001:db8::/32:443", "2001:db8::/32"},
		{"::1%lo", "leave the zone out"},
		{"[2001:db8::1%25eth0]:80", "leave the zone out"},
		{"::ffff:10.0.0.1%eth0", "leave the zone out"},
		{"fe80::1%", "empty"},
		{"fe80::1%0", "leading zeros"},
		{"fe80::1%abcdefghijklmnop", "15 bytes"},
		{"fe80::1%*", "wildcard"},
		{"[fe80::1%25]", "%2525"},
		{"fe80::1%eth0/64", "zone"},
		{"fe80::1%eth0/128", "zone"},
		{"fe80::%eth0/64", "zone"},
		{"[::1", "closing"},
		{"[::1]3000", "closing bracket"},
		{"[]", "IPv6"},
		{"1:2:3", "IPv6"},

		{"x.example:", "missing"},
		{"x.example:0", "1 to 65535"},
		{"x.example:080", "leading zeros"},
		{"x.example:65536", "too large"},
		{"x.example:https", "decimal"},
		{"x.example:*", `leave the port out for every port; write "x.example"`},
		{"x.example:80-90", "one entry for each port"},
		{"x.example:80,443", "one entry for each port"},
		{"[::1]:80-90", "one entry for each port"},
		{":443", "empty"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			t.Parallel()
			p, err := Parse(tt.in)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("Parse(%q) = %v, %v, want an *Error", tt.in, p, err)
			}
			if p != (Pattern{}) || e.Text != tt.in {
				t.Errorf("Parse(%q) = %v, text %q, want the zero Pattern and the text", tt.in, p, e.Text)
			}
			if msg := err.Error(); !strings.Contains(msg, tt.mentions) || len(msg) > 800 {
				t.Errorf("Parse(%q): %s\nwant it to mention %s", tt.in, msg, tt.mentions)
			}
		})
	}
}

func TestPatternZero(t *testing.T) {
	t.Parallel()
	var p Pattern
	if p.String() != "" || p.Kind() != 0 || p.Explicit() || p.Port() != 0 || p.Prefix().IsValid() {
		t.Errorf("the zero Pattern is not empty: %#v", p)
	}
	if p.Matches(target(t, "example.com:80")) || p.Covers(pattern(t, "example.com")) {
		t.Error("the zero Pattern matches or covers something")
	}
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]netip.Prefix{
		"192.0.2.1:80":       netip.MustParsePrefix("192.0.2.1/32"),
		"2001:db8::1":        netip.MustParsePrefix("2001:db8::1/128"),
		"[2001:db8::/32]:80": netip.MustParsePrefix("2001:db8::/32"),
		"10.0.0.0/8":         netip.MustParsePrefix("10.0.0.0/8"),
		"example.com":        {},
		"*":                  {},
	} {
		if got := pattern(t, in).Prefix(); got != want {
			t.Errorf("Prefix of %q = %v, want %v", in, got, want)
		}
	}
}

func TestKindString(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for k := range CIDR + 1 {
		seen[k.String()] = true
	}
	if len(seen) != int(CIDR)+1 {
		t.Errorf("String returns the same text for two kinds: %v", seen)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"example.com", "*.example.com:443", "**.example.com", "*", "*:1", "region*.v2.example.com", "a.*.example.com", "203.0.113.7", "[2001:db8::1]:80",
		"2001:db8::1", "10.0.0.0/8:443", "[2001:db8::]/32", "[2001:db8::/32]:443", "::ffff:10.0.0.0/104", "https://x/", "10.*", "*.", "**", "a*.bücher.example",
		"x:80-90", "10/8", "10.0.0.1/255.0.0.0", "*。example", "!a", ".a", "a@b", " a ", "x:*", "[*]", "**a.b", "a*.x\u2024y.b",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err != nil {
			if p != (Pattern{}) || err.Error() == "" || len(err.Error()) > 2000 {
				t.Fatalf("Parse(%q) = %v, %.3000q", s, p, err)
			}
			return
		}
		again, err := Parse(p.String())
		if err != nil || again != p {
			t.Fatalf("Parse(%q) = %#v, but Parse of %q = %#v, %v", s, p, p, again, err)
		}
		if !p.Covers(p) || !(Pattern{kind: Any}).Covers(p) {
			t.Fatalf("Parse(%q) = %v, which does not cover itself or is not covered by *", s, p)
		}
		if (p.Kind() == Exact || p.Kind() == Addr) && p.Port() == 0 && !p.Matches(target(t, p.String()+":7")) {
			t.Fatalf("Parse(%q) = %v does not match the host that it is", s, p)
		}
	})
}
