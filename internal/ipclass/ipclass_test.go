package ipclass_test

import (
	"net/netip"
	"testing"

	"example.com/networkproxy/internal/ipclass"
)

// rowTests has every row of both registries and the further blocks, with the expected name and reference.
var rowTests = []struct {
	prefix    string
	addr      string // an address in this block and in no longer one
	name      string
	reference string
}{
	{"0.0.0.0/8", "0.1.2.3", "This network", "RFC 791"},
	{"0.0.0.0/32", "0.0.0.0", "This host on this network", "RFC 1122"},
	{"10.0.0.0/8", "10.1.2.3", "Private-Use", "RFC 1918"},
	{"100.64.0.0/10", "100.100.100.200", "Shared Address Space", "RFC 6598"},
	{"127.0.0.0/8", "127.8.8.8", "Loopback", "RFC 1122"},
	{"168.63.129.16/32", "168.63.129.16", "Azure platform", "Azure WireServer"},
	{"169.254.0.0/16", "169.254.169.254", "Link Local", "RFC 3927"},
	{"172.16.0.0/12", "172.31.0.1", "Private-Use", "RFC 1918"},
	{"192.0.0.0/24", "192.0.0.192", "IETF Protocol Assignments", "RFC 6890"},
	{"192.0.0.0/29", "192.0.0.7", "IPv4 Service Continuity Prefix", "RFC 7335"},
	{"192.0.0.8/32", "192.0.0.8", "IPv4 dummy address", "RFC 7600"},
	{"192.0.0.9/32", "192.0.0.9", "Port Control Protocol Anycast", "RFC 7723"},
	{"192.0.0.10/32", "192.0.0.10", "Traversal Using Relays around NAT Anycast", "RFC 8155"},
	{"192.0.0.170/32", "192.0.0.170", "NAT64/DNS64 Discovery", "RFC 8880"},
	{"192.0.0.171/32", "192.0.0.171", "NAT64/DNS64 Discovery", "RFC 8880"},
	{"192.0.2.0/24", "192.0.2.1", "Documentation (TEST-NET-1)", "RFC 5737"},
	{"192.31.196.0/24", "192.31.196.1", "AS112-v4", "RFC 7535"},
	{"192.52.193.0/24", "192.52.193.1", "AMT", "RFC 7450"},
	{"192.88.99.0/24", "192.88.99.1", "Deprecated (6to4 Relay Anycast)", "RFC 7526"},
	{"192.88.99.2/32", "192.88.99.2", "6a44-relay anycast address", "RFC 6751"},
	{"192.168.0.0/16", "192.168.1.1", "Private-Use", "RFC 1918"},
	{"192.175.48.0/24", "192.175.48.1", "Direct Delegation AS112 Service", "RFC 7534"},
	{"198.18.0.0/15", "198.19.0.1", "Benchmarking", "RFC 2544"},
	{"198.51.100.0/24", "198.51.100.1", "Documentation (TEST-NET-2)", "RFC 5737"},
	{"203.0.113.0/24", "203.0.113.1", "Documentation (TEST-NET-3)", "RFC 5737"},
	{"224.0.0.0/4", "239.255.255.250", "Multicast", "RFC 5771"},
	{"240.0.0.0/4", "250.1.2.3", "Reserved", "RFC 1112"},
	{"255.255.255.255/32", "255.255.255.255", "Limited Broadcast", "RFC 8190"},

	{"::/128", "::", "Unspecified Address", "RFC 4291"},
	{"::1/128", "::1", "Loopback Address", "RFC 4291"},
	{"::/96", "::8.8.8.8", "IPv4-Compatible Address", "RFC 4291"},
	{"::ffff:0:0:0/96", "::ffff:0:8.8.8.8", "IPv4-Translated Address", "RFC 2765"},
	{"64:ff9b::/96", "64:ff9b::10.1.2.3", "IPv4-IPv6 Translat. of Private-Use", "RFC 6052"},
	{"64:ff9b:1::/48", "64:ff9b:1::8.8.8.8", "IPv4-IPv6 Translat.", "RFC 8215"},
	{"100::/64", "100::1", "Discard-Only Address Block", "RFC 6666"},
	{"100:0:0:1::/64", "100:0:0:1::1", "Dummy IPv6 Prefix", "RFC 9780"},
	{"2001::/23", "2001:100::1", "IETF Protocol Assignments", "RFC 2928"},
	{"2001::/32", "2001:0:808:808::f7f7:f7f7", "TEREDO", "RFC 4380"},
	{"2001:1::1/128", "2001:1::1", "Port Control Protocol Anycast", "RFC 7723"},
	{"2001:1::2/128", "2001:1::2", "Traversal Using Relays around NAT Anycast", "RFC 8155"},
	{"2001:1::3/128", "2001:1::3", "DNS-SD Service Registration Protocol Anycast", "RFC 9665"},
	{"2001:2::/48", "2001:2::1", "Benchmarking", "RFC 5180"},
	{"2001:3::/32", "2001:3::1", "AMT", "RFC 7450"},
	{"2001:4:112::/48", "2001:4:112::1", "AS112-v6", "RFC 7535"},
	{"2001:10::/28", "2001:1f::1", "Deprecated (previously ORCHID)", "RFC 4843"},
	{"2001:20::/28", "2001:2f::1", "ORCHIDv2", "RFC 7343"},
	{"2001:30::/28", "2001:3f::1", "Drone Remote ID Protocol Entity Tags (DETs) Prefix", "RFC 9374"},
	{"2001:db8::/32", "2001:db8::1", "Documentation", "RFC 3849"},
	{"2002::/16", "2002:a01:203::1", "6to4 of Private-Use", "RFC 3056"},
	{"2620:4f:8000::/48", "2620:4f:8000::1", "Direct Delegation AS112 Service", "RFC 7534"},
	{"3fff::/20", "3fff:fff::1", "Documentation", "RFC 9637"},
	{"5f00::/16", "5f00::1", "Segment Routing (SRv6) SIDs", "RFC 9602"},
	{"fc00::/7", "fd00:ec2::254", "Unique-Local", "RFC 4193"},
	{"fe80::/10", "fe80::1", "Link-Local Unicast", "RFC 4291"},
	{"fec0::/10", "fec0::1", "Site-Local Unicast", "RFC 3879"},
	{"ff00::/8", "ff02::fb", "Multicast", "RFC 4291"},
	{"::/3", "200::1", "Reserved by IETF", "RFC 4291"},
	{"4000::/2", "4000::1", "Reserved by IETF", "RFC 4291"},
	{"8000::/1", "fe00::1", "Reserved by IETF", "RFC 4291"},
}

func TestRows(t *testing.T) {
	t.Parallel()
	for _, tt := range rowTests {
		t.Run(tt.prefix, func(t *testing.T) {
			t.Parallel()
			c := ipclass.Of(netip.MustParseAddr(tt.addr))
			if c.Public() {
				t.Fatalf("Of(%s) is public", tt.addr)
			}
			if c.Name() != tt.name {
				t.Errorf("Of(%s).Name() = %q, want %q", tt.addr, c.Name(), tt.name)
			}
			if c.Reference() != tt.reference {
				t.Errorf("Of(%s).Reference() = %q, want %q", tt.addr, c.Reference(), tt.reference)
			}
			if c.Prefix().String() != tt.prefix {
				t.Errorf("Of(%s).Prefix() = %v, want %s", tt.addr, c.Prefix(), tt.prefix)
			}
		})
	}
}

// embeddings are the forms of IPv6 addresses that embed an IPv4 address.
var embeddings = []struct {
	name string
	wrap func([4]byte) netip.Addr
}{
	{"mapped", low32("::ffff:0:0")},
	{"compatible", low32("::")},
	{"translated", low32("::ffff:0:0:0")},
	{"NAT64", low32("64:ff9b::")},
	{"NAT64 local", low32("64:ff9b:1::")},
	{"ISATAP", low32("2606:4700::5efe:0:0")},
	{"ISATAP universal", low32("2606:4700::200:5efe:0:0")},
	{"ISATAP in 6to4", low32("2002:808:808::5efe:0:0")},
	{"ISATAP link-local", low32("fe80::5efe:0:0")},
	{"6to4", func(v4 [4]byte) netip.Addr {
		a := netip.MustParseAddr("2002::1").As16()
		copy(a[2:], v4[:])
		return netip.AddrFrom16(a)
	}},
	{"Teredo server", func(v4 [4]byte) netip.Addr {
		a := netip.MustParseAddr("2001::f7f7:f7f7").As16()
		copy(a[4:], v4[:])
		return netip.AddrFrom16(a)
	}},
	{"Teredo client", func(v4 [4]byte) netip.Addr {
		a := netip.MustParseAddr("2001:0:808:808::").As16()
		for i, b := range v4 {
			a[12+i] = ^b
		}
		return netip.AddrFrom16(a)
	}},
}

func low32(prefix string) func([4]byte) netip.Addr {
	return func(v4 [4]byte) netip.Addr {
		a := netip.MustParseAddr(prefix).As16()
		copy(a[12:], v4[:])
		return netip.AddrFrom16(a)
	}
}

func TestEmbeddedIPv4(t *testing.T) {
	t.Parallel()
	v4 := netip.AddrFrom4([4]byte{8, 8, 4, 4})
	for _, tt := range embeddings {
		want := v4
		switch tt.name {
		case "mapped", "NAT64 local":
			want = netip.Addr{}
		case "ISATAP in 6to4", "Teredo server":
			continue // two embedded addresses; EmbeddedIPv4 returns the other one
		}
		if got := ipclass.EmbeddedIPv4(tt.wrap(v4.As4())); got != want {
			t.Errorf("%s: EmbeddedIPv4(%v) = %v, want %v", tt.name, tt.wrap(v4.As4()), got, want)
		}
	}
	for _, none := range []string{"8.8.4.4", "::", "::1", "2606:4700::1", "64:ff9b:1::808:404", "fe80::1"} {
		if got := ipclass.EmbeddedIPv4(netip.MustParseAddr(none)); got.IsValid() {
			t.Errorf("EmbeddedIPv4(%s) = %v, want none", none, got)
		}
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	// The names of the classes with 8.8.8.8 and with 127.0.0.1 embedded; "" is public.
	want := map[string][2]string{
		"mapped":            {"", "Loopback"},
		"compatible":        {"IPv4-Compatible Address", "IPv4-Compatible Address of Loopback"},
		"translated":        {"IPv4-Translated Address", "IPv4-Translated Address of Loopback"},
		"NAT64":             {"", "IPv4-IPv6 Translat. of Loopback"},
		"NAT64 local":       {"IPv4-IPv6 Translat.", "IPv4-IPv6 Translat."},
		"ISATAP":            {"", "ISATAP of Loopback"},
		"ISATAP universal":  {"", "ISATAP of Loopback"},
		"ISATAP in 6to4":    {"", "6to4 of Loopback"},
		"ISATAP link-local": {"Link-Local Unicast", "Link-Local Unicast"},
		"6to4":              {"", "6to4 of Loopback"},
		"Teredo server":     {"TEREDO", "TEREDO by way of Loopback"},
		"Teredo client":     {"TEREDO", "TEREDO of Loopback"},
	}
	for _, tt := range embeddings {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for i, v4 := range [][4]byte{{8, 8, 8, 8}, {127, 0, 0, 1}} {
				a := tt.wrap(v4)
				c := ipclass.Of(a)
				if c.Name() != want[tt.name][i] || c.Public() != (want[tt.name][i] == "") {
					t.Errorf("Of(%v) = %q (public %v), want %q", a, c.Name(), c.Public(), want[tt.name][i])
				}
			}
		})
	}
}

func TestPublic(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.32.0.0",
		"192.0.1.0", "192.0.3.0", "223.255.255.255", "2606:4700::1111", "2001:200::", "2001:4860:4860::8888",
		"2a00:1450::", "3ffe::1", "3fff:1000::", "2002:808:808::1", "64:ff9b::808:808", "2001:db9::",
		"2606:4700::100:5efe:a01:203", // not an ISATAP identifier: the group bit
	} {
		c := ipclass.Of(netip.MustParseAddr(s))
		if !c.Public() || c != (ipclass.Class{}) {
			t.Errorf("Of(%s) = %q, want public", s, c.Name())
		}
		if c.Name() != "" || c.Reference() != "" || c.Prefix().IsValid() {
			t.Errorf("Of(%s) has name %q, reference %q, prefix %v; want none", s, c.Name(), c.Reference(), c.Prefix())
		}
	}
}

func TestZoneIsIgnored(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"fe80::1", "2606:4700::1111", "64:ff9b::a01:203", "2001:1::1"} {
		a := netip.MustParseAddr(s)
		if got, want := ipclass.Of(a.WithZone("eth0")), ipclass.Of(a); got != want {
			t.Errorf("Of(%s%%eth0) = %q, but Of(%s) = %q", s, got.Name(), s, want.Name())
		}
	}
}

func TestZeroAddr(t *testing.T) {
	t.Parallel()
	if c := ipclass.Of(netip.Addr{}); c.Public() || c.Name() == "" || c.Prefix().IsValid() {
		t.Errorf("Of(zero Addr) = %q, public %v, prefix %v", c.Name(), c.Public(), c.Prefix())
	}
}

var benchAddrs = []struct{ name, addr string }{
	{"public IPv4", "93.184.215.14"},
	{"private IPv4", "10.1.2.3"},
	{"mapped IPv4", "::ffff:93.184.215.14"},
	{"public IPv6", "2606:4700::1111"},
	{"6to4", "2002:a01:203::1"},
}

// TestOfDoesNotAllocate is not parallel because AllocsPerRun counts the whole process.
func TestOfDoesNotAllocate(t *testing.T) {
	for _, tt := range benchAddrs {
		a := netip.MustParseAddr(tt.addr)
		if n := testing.AllocsPerRun(100, func() { ipclass.Of(a) }); n != 0 {
			t.Errorf("Of(%s) allocates %v times, want 0", tt.addr, n)
		}
	}
}

func BenchmarkOf(b *testing.B) {
	for _, tt := range benchAddrs {
		b.Run(tt.name, func(b *testing.B) {
			a := netip.MustParseAddr(tt.addr)
			b.ReportAllocs()
			for b.Loop() {
				ipclass.Of(a)
			}
		})
	}
}
