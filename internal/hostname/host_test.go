package hostname

// Tests of Parse, of zones, and of the methods of Host.

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	label63 := strings.Repeat("a", 63)
	name253 := strings.Join([]string{label63, label63, label63, strings.Repeat("b", 61)}, ".")
	tests := []struct {
		name string
		in   string
		want string
		ip   bool
	}{
		{"name", "example.com", "example.com", false},
		{"upper case", "EXAMPLE.com", "example.com", false},
		{"trailing dot", "example.com.", "example.com", false},
		{"upper case and trailing dot", "EXAMPLE.COM.", "example.com", false},
		{"one label", "intranet", "intranet", false},
		{"underscores", "_dmarc._x_.example.com", "_dmarc._x_.example.com", false},
		{"hyphens in third and fourth position", "r3---sn-x.googlevideo.com", "r3---sn-x.googlevideo.com", false},
		{"such hyphens before a U-label", "r3---sn-x.bücher.example", "r3---sn-x.xn--bcher-kva.example", false},
		{"digits in the first label", "1.example", "1.example", false},
		{"hexadecimal in the first label", "0x7f.example", "0x7f.example", false},
		{"last label begins with a digit", "example.1a", "example.1a", false},
		{"last label begins like hexadecimal", "example.0xfg", "example.0xfg", false},
		{"last label begins like binary", "example.0b2", "example.0b2", false},
		{"last label looks octal as Go writes it", "example.0o7", "example.0o7", false},
		{"label of 63", label63 + ".example", label63 + ".example", false},
		{"name of 253", name253, name253, false},
		{"name of 253 and a dot", name253 + ".", name253, false},
		{"U-label", "bücher.example", "xn--bcher-kva.example", false},
		{"U-label, upper case", "BÜCHER.example", "xn--bcher-kva.example", false},
		{"U-label, decomposed", "bu\u0308cher.example", "xn--bcher-kva.example", false},
		{"A-label", "xn--bcher-kva.example", "xn--bcher-kva.example", false},
		{"A-label, upper case", "XN--BCHER-KVA.example", "xn--bcher-kva.example", false},
		{"sharp s is kept", "faß.example", "xn--fa-hia.example", false},
		{"ideographic full stops", "example。com。", "example.com", false},
		{"half-width ideographic stop at the end", "example｡", "example", false},
		{"full-width letters and stop", "ｅｘａｍｐｌｅ．com", "example.com", false},
		{"soft hyphen vanishes", "exam\u00adple.com", "example.com", false},
		{"circled letter is localhost", "ⓛocalhost", "localhost", false},
		{"right to left", "אבג.example", "xn--4dbcd.example", false},
		{"xn-- inside a label", "axn--b.example", "axn--b.example", false},

		{"IPv4", "192.0.2.1", "192.0.2.1", true},
		{"IPv4 zero", "0.0.0.0", "0.0.0.0", true},
		{"IPv4 broadcast", "255.255.255.255", "255.255.255.255", true},
		{"IPv6", "2001:db8::1", "2001:db8::1", true},
		{"IPv6 long and upper case", "2001:0DB8:0:0:0:0:0:0001", "2001:db8::1", true},
		{"IPv6 in brackets", "[::1]", "::1", true},
		{"IPv6 with IPv4 tail", "64:ff9b::192.0.2.1", "64:ff9b::c000:201", true},
		{"mapped", "::ffff:192.0.2.1", "192.0.2.1", true},
		{"mapped, hexadecimal, in brackets", "[::FFFF:c000:201]", "192.0.2.1", true},
		{"mapped with zone", "[::ffff:127.0.0.1%lo]", "127.0.0.1", true},
		{"loopback with zone", "[::1%25lo]", "::1", true},
		{"global with zone", "2606:4700::1%eth0", "2606:4700::1", true},
		{"unique local with zone", "fd00::1%eth0", "fd00::1", true},
		{"zone", "fe80::1%eth0", "fe80::1%eth0", true},
		{"zone, upper case", "FE80::1%Eth0", "fe80::1%Eth0", true},
		{"zone in brackets", "[fe80::1%eth0.1]", "fe80::1%eth0.1", true},
		{"zone as in a URI", "[fe80::1%25eth0]", "fe80::1%eth0", true},
		{"numeric zone", "[fe80::1%2]", "fe80::1%2", true},
		{"numeric zone as in a URI", "[fe80::1%252]", "fe80::1%2", true},
		{"zone 25 as in a URI", "[fe80::1%2525]", "fe80::1%25", true},
		{"zone 25", "fe80::1%25", "fe80::1%25", true},
		{"zone called localhost", "fe80::1%localhost", "fe80::1%localhost", true},
		{"longest zone", "fe80::1%abcdefghijklmno", "fe80::1%abcdefghijklmno", true},
		{"end of the link-local block, with a zone", "febf::1%a", "febf::1%a", true},
		{"after the link-local block, with a zone", "fec0::1%a", "fec0::1", true},
		{"link-local multicast with zone", "ff02::1%a", "ff02::1%a", true},
		{"interface-local multicast with zone", "ff01::1%a", "ff01::1%a", true},
		{"site-local multicast with zone", "ff05::1%a", "ff05::1", true},

		{"leading hyphen", "-a.example", "-a.example", false},
		{"trailing hyphen", "a-.example", "a-.example", false},
		{"trailing hyphen at the end", "example-", "example-", false},
		{"hyphens at both ends", "a.-b-.example", "a.-b-.example", false},
		{"hyphens only", "-.--.example", "-.--.example", false},
		{"hyphen before a last number", "example.-1", "example.-1", false},
		{"hyphen after a last number", "example.1-", "example.1-", false},
		{"hyphen before a U-label", "-bücher.example", "xn---bcher-4ya.example", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := Parse(tt.in)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.in, err)
			}
			if got := h.String(); got != tt.want {
				t.Errorf("Parse(%q) = %q, want %q", tt.in, got, tt.want)
			}
			if h.IsIP() != tt.ip || h.Addr().IsValid() != tt.ip || (h.Name() == "") != tt.ip || h.IsZero() {
				t.Errorf("Parse(%q): IsIP %v, Addr %v, Name %q, IsZero %v", tt.in, h.IsIP(), h.Addr(), h.Name(), h.IsZero())
			}
			again, err := Parse(h.String())
			if err != nil || again != h {
				t.Errorf("Parse(%q) = %v, %v, want the same host", h, again, err)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	label64 := strings.Repeat("a", 64)
	tests := []struct {
		name    string
		in      string
		problem string // part of the error
	}{
		{"empty", "", "empty"},
		{"dot", ".", "empty name"},
		{"two dots", "..", "empty label"},
		{"leading dot", ".example.com", "empty label"},
		{"empty label", "a..example", "empty label"},
		{"two trailing dots", "example.com..", "empty label"},
		{"ideographic empty label", "a。。example", "empty label"},
		{"label that vanishes", "a.\u00ad.example", "empty label"},
		{"label of 64", label64 + ".example", "63"},
		{"U-label too long", strings.Repeat("ü", 60) + ".example", "63"},
		{"name of 254", strings.Repeat("a.", 126) + "aa", "253"},
		{"very long", strings.Repeat("ü", 100_000), "too long"},

		{"IPv4 as one number", "2130706433", "IPv4"},
		{"IPv4 as one hexadecimal number", "0x7f000001", "IPv4"},
		{"IPv4 as one octal number", "017700000001", "IPv4"},
		{"IPv4 hexadecimal and short", "0x7f.1", "IPv4"},
		{"IPv4 upper-case hexadecimal", "0X7F.0.0.1", "IPv4"},
		{"IPv4 short", "127.1", "IPv4"},
		{"IPv4 of three parts", "127.0.1", "IPv4"},
		{"IPv4 octal", "0177.0.0.1", "IPv4"},
		{"IPv4 leading zero", "127.0.0.01", "IPv4"},
		{"IPv4 out of range", "127.0.0.256", "IPv4"},
		{"IPv4 of five parts", "1.2.3.4.5", "IPv4"},
		{"IPv4 trailing dot", "127.0.0.1.", "IPv4"},
		{"IPv4 full-width digits", "１２７.0.0.1", "IPv4"},
		{"IPv4 ideographic stops", "127。0。0。1", "IPv4"},
		{"IPv4 circled digit", "127.0.0.①", "IPv4"},
		{"IPv4 superscript", "127.0.0.¹", "IPv4"},
		{"number", "0", "IPv4"},
		{"hexadecimal without digits", "0x", "IPv4"},
		{"last label hexadecimal", "foo.0x7f", "IPv4"},
		{"IPv4 binary", "0b1111111.0.0.0b1", "IPv4"},
		{"last label decimal", "foo.1", "IPv4"},
		{"last label decimal and a dot", "foo.1.", "IPv4"},
		{"last label octal and invalid", "foo.09", "IPv4"},

		{"NUL", "example.com\x00.evil.example", "NUL"},
		{"newline", "example.com\n", "control"},
		{"carriage return", "example.com\r\nx", "control"},
		{"tab", "exam\tple", "control"},
		{"DEL", "a\x7f", "control"},
		{"space", "exa mple.com", "space"},
		{"leading space", " example.com", "space"},
		{"ideographic space", "exa\u3000mple.com", "character"},
		{"no-break space", "exa\u00a0mple.com", "character"},
		{"percent escape", "%31%32%37.0.0.1", "percent"},
		{"percent in a name", "example.com%00", "percent"},
		{"percent in IPv4", "127.0.0.1%eth0", "percent"},
		{"slash", "example.com/", "URL"},
		{"URL", "https://example.com", "URL"},
		{"backslash", `example.com\x`, "URL"},
		{"question mark", "example.com?x", "URL"},
		{"number sign", "example.com#x", "URL"},
		{"user", "user@example.com", "user"},
		{"wildcard", "*.example.com", "wildcard"},
		{"double quote", `"example.com"`, "character"},
		{"single quote", "'example.com'", "character"},
		{"comma", "a,b", "character"},
		{"tilde", "a~b", "character"},
		{"letter that maps to a slash", "a℀b.example", "character"},
		{"full-width slash", "a／b.example", "character"},
		{"full-width percent", "a％00.example", "character"},
		{"full-width colon", "a：80", "character"},
		{"full-width at", "a＠b", "character"},
		{"not UTF-8", "ex\xffample", "UTF-8"},
		{"overlong UTF-8", "a\xc0\xae\xc0\xaeb", "UTF-8"},
		{"unassigned", "a\U000e0080b.example", "internationalised"},
		{"replacement character", "a\ufffdb.example", "internationalised"},
		{"A-label that decodes to nothing valid", "xn--a.example", "internationalised"},
		{"A-label of ASCII", "xn--localhost-.example", "internationalised"},
		{"A-label that is not normalised", "xn--bucher-xyd", "internationalised"},
		{"A-label of a capital", "xn--bcher-2pa", "internationalised"},
		{"A-label of nothing", "example.xn--", "empty label"},
		{"A-label of nothing and a dot", "example.xn--.", "empty label"},
		{"last label that vanishes", "example.\u00ad", "empty label"},
		{"bidi rule, which only the A-label breaks", "ℶz.example", "stable form"},
		{"bidi rule", "אa.example", "internationalised"},

		{"port", "example.com:80", "port"},
		{"IPv4 and port", "127.0.0.1:80", "port"},
		{"IPv6 and port", "[::1]:80", "bracket"},
		{"open bracket", "[::1", "bracket"},
		{"close bracket", "::1]", "bracket"},
		{"empty brackets", "[]", "bracket"},
		{"IPv4 in brackets", "[127.0.0.1]", "bracket"},
		{"name in brackets", "[localhost]", "bracket"},
		{"two pairs of brackets", "[[::1]]", "bracket"},
		{"brackets at the end", "::1[]", "bracket"},
		{"IPv6 too short", "1:2:3", "IPv6"},
		{"IPv6 with two gaps", "1::2::3", "IPv6"},
		{"IPv6 group too long", "::00001", "IPv6"},
		{"IPv6 with octal tail", "::ffff:0177.0.0.1", "IPv6"},
		{"IPv6 trailing dot", "::1.", "IPv6"},
		{"IPv6 with prefix length", "2001:db8::/32", "URL"},
		{"empty zone", "fe80::1%", "zone"},
		{"empty zone in brackets", "[fe80::1%]", "zone"},
		{"empty zone as in a URI", "[fe80::1%25]", "%2525"},
		{"zone too long", "fe80::1%abcdefghijklmnop", "15 bytes"},
		{"very long zone", "fe80::1%" + strings.Repeat("a", 900), "15 bytes"},
		{"zone 0", "fe80::1%0", "leading zeros"},
		{"zone with leading zeros", "fe80::1%02", "leading zeros"},
		{"zone that begins with digits", "fe80::1%2abc", "not a number"},
		{"zone with a percent sign", "fe80::1%a%b", "zone"},
		{"zone with a slash", "[fe80::1%25a/b]", "URL"},
		{"zone with a colon", "[fe80::1%25eth0:1]", "zone"},
		{"zone with a NUL", "fe80::1%eth0\x00", "NUL"},
		{"zone with a line", "fe80::1%eth0\r\nX: y", "control"},
		{"zone on an address that drops it, malformed", "[::1%25a%20b]", "zone"},
		{"zone with an escape", "[fe80::1%25a%20b]", "zone"},
		{"zone beyond ASCII", "[fe80::1%é]", "zone"},
		{"zone outside the brackets", "[fe80::1]%eth0", "bracket"},
		{"only a colon", ":", "port"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := Parse(tt.in)
			if err == nil {
				t.Fatalf("Parse(%.60q) = %v, want an error", tt.in, h)
			}
			if !h.IsZero() {
				t.Errorf("Parse(%.60q) = %v with an error, want the zero Host", tt.in, h)
			}
			var e *Error
			if !errors.As(err, &e) || e.Text != tt.in {
				t.Fatalf("Parse(%.60q): error %#v, want *Error with the text", tt.in, err)
			}
			if !strings.Contains(e.Problem, tt.problem) {
				t.Errorf("Parse(%.60q): problem %q, want one that mentions %q", tt.in, e.Problem, tt.problem)
			}
			if msg := err.Error(); !printableASCII(msg) || len(msg) > 700 {
				t.Errorf("Parse(%.60q): message %.800q is not short printable ASCII", tt.in, msg)
			}
		})
	}
}

func printableASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

func TestFromAddr(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1":         "192.0.2.1",
		"::ffff:192.0.2.1":  "192.0.2.1",
		"fe80::1%eth0":      "fe80::1",
		"2001:db8::1":       "2001:db8::1",
		"::192.0.2.1":       "::c000:201",
		"64:ff9b::c000:201": "64:ff9b::c000:201",
	} {
		h := FromAddr(netip.MustParseAddr(in))
		parsed, err := Parse(want)
		if err != nil {
			t.Fatal(err)
		}
		if h.String() != want || h != parsed {
			t.Errorf("FromAddr(%s) = %v, want %s", in, h, want)
		}
	}
	if h := FromAddr(netip.Addr{}); !h.IsZero() {
		t.Errorf("FromAddr(zero) = %v, want the zero Host", h)
	}
	if h := FromAddr(netip.MustParseAddr("::ffff:192.0.2.1").WithZone("x")); h.Addr() != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("FromAddr of a mapped address with a zone = %v, want 192.0.2.1", h)
	}
}

// TestZone checks that ScopedAddr has the zone and Addr does not.
func TestZone(t *testing.T) {
	t.Parallel()
	h, err := Parse("[fe80::1%25localhost]")
	if err != nil {
		t.Fatal(err)
	}
	bare := netip.MustParseAddr("fe80::1")
	if h.Addr() != bare || h.Zone() != "localhost" || h.ScopedAddr() != bare.WithZone("localhost") {
		t.Errorf("Addr = %v, Zone = %q, ScopedAddr = %v", h.Addr(), h.Zone(), h.ScopedAddr())
	}
	if h.Name() != "" || h.IsLocalhost() || h == FromAddr(bare) {
		t.Errorf("the zone is treated as a name: %#v", h)
	}
	clone := Target{Host: h, Port: 1}.Clone()
	if clone.Host != h {
		t.Errorf("Clone = %v, want %v", clone.Host, h)
	}
	for in, want := range map[string]string{
		"fe80::1%a": "fe80::1%a", "::1%a": "::1", "::ffff:192.0.2.1": "192.0.2.1", "2606:4700::1%a": "2606:4700::1", "ff02::1%a": "ff02::1%a",
	} {
		if got := Canonical(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("Canonical(%s) = %s, want %s", in, got, want)
		}
	}
	if got := Canonical(netip.Addr{}); got.IsValid() {
		t.Errorf("Canonical(zero) = %v, want the zero Addr", got)
	}
}

// TestSameZone uses the loopback interface because every machine has it.
func TestSameZone(t *testing.T) {
	t.Parallel()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(i net.Interface) bool { return i.Flags&net.FlagLoopback != 0 })
	if i < 0 {
		t.Fatal("this machine has no loopback interface")
	}
	name, number, other := all[i].Name, strconv.Itoa(all[i].Index), strconv.Itoa(all[i].Index+1000)
	for _, tt := range []struct {
		name, a, b string
		want       bool
	}{
		{"one name", "eth0", "eth0", true},
		{"two names", name, "nosuch0", false},
		{"case", "eth0", "ETH0", false},
		{"a name and its number", name, number, true},
		{"a name and another number", name, other, false},
		{"no such name and a number", "nosuch0", number, false},
		{"one number", number, number, true},
		{"two numbers", number, other, false},
		{"no zone", "", "", true},
		{"a name and no zone", name, "", false},
		{"a number and no zone", number, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if SameZone(tt.a, tt.b) != tt.want || SameZone(tt.b, tt.a) != tt.want {
				t.Errorf("SameZone(%q, %q) = %v, and %v with the arguments swapped; want %v", tt.a, tt.b, SameZone(tt.a, tt.b), SameZone(tt.b, tt.a), tt.want)
			}
		})
	}
}

func TestHostZero(t *testing.T) {
	t.Parallel()
	var h Host
	if !h.IsZero() || h.IsIP() || h.IsLocalhost() || h.Name() != "" || h.String() != "" || h.Addr().IsValid() {
		t.Errorf("the zero Host is not empty: %#v", h)
	}
}

func TestIsLocalhost(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]bool{
		"localhost":         true,
		"LOCALHOST.":        true,
		"foo.localhost":     true,
		"a.b.localhost.":    true,
		"notlocalhost":      false,
		"localhost.example": false,
		"127.0.0.1":         false,
		"::1":               false,
	} {
		h, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := h.IsLocalhost(); got != want {
			t.Errorf("Parse(%q).IsLocalhost() = %v, want %v", in, got, want)
		}
	}
}

// TestParseDoesNotAllocate is not parallel because AllocsPerRun counts the
// allocations of other tests, too.
func TestParseDoesNotAllocate(t *testing.T) {
	for _, in := range []string{"api.example.com", "_x.r3---sn-x.example.com", "192.0.2.1", "2001:db8::1", "[::1]"} {
		if n := testing.AllocsPerRun(100, func() {
			if _, err := Parse(in); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("Parse(%q) allocates %v times, want 0", in, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, bb := range []struct{ name, in string }{
		{"canonical", "api.eu-west-1.example.com"},
		{"uppercase", "API.eu-west-1.example.com"},
		{"ipv4", "192.0.2.100"},
		{"ipv6", "[2001:db8::1]"},
		{"alabel", "xn--bcher-kva.example.com"},
		{"ulabel", "bücher.example.com"},
		{"malformed", "0x7f.1"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Parse(bb.in)
			}
		})
	}
}
