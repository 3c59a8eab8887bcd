// Tests against an independent model. It has the same blocks as first and last addresses, compares byte strings, and
// cuts embedded IPv4 addresses out of the bytes. It shares neither data nor method with the package.

package ipclass_test

import (
	"bytes"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"

	"example.com/networkproxy/internal/ipclass"
)

// notPublic4 and notPublic6 list the ranges that are never public, one "first last" per line.
const notPublic4 = `
0.0.0.0 0.255.255.255
10.0.0.0 10.255.255.255
100.64.0.0 100.127.255.255
127.0.0.0 127.255.255.255
168.63.129.16 168.63.129.16
169.254.0.0 169.254.255.255
172.16.0.0 172.31.255.255
192.0.0.0 192.0.0.255
192.0.2.0 192.0.2.255
192.31.196.0 192.31.196.255
192.52.193.0 192.52.193.255
192.88.99.0 192.88.99.255
192.168.0.0 192.168.255.255
192.175.48.0 192.175.48.255
198.18.0.0 198.19.255.255
198.51.100.0 198.51.100.255
203.0.113.0 203.0.113.255
224.0.0.0 255.255.255.255`

const notPublic6 = `
:: 64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff
64:ff9b::1:0:0 1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
2001:: 2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff
2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
2620:4f:8000:: 2620:4f:8000:ffff:ffff:ffff:ffff:ffff
3fff:: 3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff
4000:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`

type span struct{ first, last []byte }

type oracle struct{ v4, v6 []span }

func newOracle(tb testing.TB) *oracle {
	tb.Helper()
	return &oracle{v4: spans(tb, notPublic4), v6: spans(tb, notPublic6)}
}

func spans(tb testing.TB, list string) []span {
	tb.Helper()
	var out []span
	for line := range strings.Lines(strings.TrimSpace(list)) {
		first, last, ok := strings.Cut(strings.TrimSpace(line), " ")
		s := span{net.ParseIP(first), net.ParseIP(last)}
		if !ok || s.first == nil || s.last == nil || bytes.Compare(s.first, s.last) > 0 {
			tb.Fatalf("bad range %q", line)
		}
		out = append(out, s)
	}
	return out
}

// public reports whether an address in its 16-byte form is public. An IPv4 address is ::ffff:a.b.c.d in this form.
func (o *oracle) public(ip net.IP) bool {
	in := func(list []span) bool {
		for _, s := range list {
			if bytes.Compare(s.first, ip) <= 0 && bytes.Compare(ip, s.last) <= 0 {
				return true
			}
		}
		return false
	}
	embedded := func(from int) bool { return o.public(net.IPv4(ip[from], ip[from+1], ip[from+2], ip[from+3])) }
	if ip.To4() != nil {
		return !in(o.v4)
	}
	if in(o.v6) {
		return false
	}
	if ip[0] == 0 { // only 64:ff9b::/96 is left here
		return embedded(12)
	}
	if ip[0] == 0x20 && ip[1] == 0x02 && !embedded(2) {
		return false
	}
	iid := string(ip[8:12])
	if (iid == "\x00\x00\x5e\xfe" || iid == "\x02\x00\x5e\xfe") && !embedded(12) {
		return false
	}
	return true
}

// check compares the package with the model, for an IPv4 address also in its mapped form.
func (o *oracle) check(tb testing.TB, a netip.Addr) {
	raw := a.As16()
	want := o.public(raw[:])
	if got := ipclass.Of(a); got.Public() != want {
		tb.Fatalf("Of(%v).Public() = %v (%q), want %v", a, got.Public(), got.Name(), want)
	}
	if mapped := netip.AddrFrom16(raw); ipclass.Of(mapped) != ipclass.Of(a) {
		tb.Fatalf("Of(%v) = %q, but Of(%v) = %q", mapped, ipclass.Of(mapped).Name(), a, ipclass.Of(a).Name())
	}
}

// TestEdges checks the addresses on both sides of both edges of every range of the model and every row of the
// registries.
func TestEdges(t *testing.T) {
	t.Parallel()
	o := newOracle(t)
	list := append(append([]span{}, o.v4...), o.v6...)
	for _, tt := range rowTests {
		prefix := netip.MustParsePrefix(tt.prefix)
		first := prefix.Addr().As16()
		hostBits := prefix.Addr().BitLen() - prefix.Bits()
		last := new(big.Int).SetBytes(first[:])
		last.Add(last, new(big.Int).Lsh(big.NewInt(1), uint(hostBits))).Sub(last, big.NewInt(1))
		list = append(list, span{first[:], last.FillBytes(make([]byte, 16))})
	}
	for _, s := range list {
		for _, edge := range []struct {
			at    []byte
			delta int64
		}{{s.first, -1}, {s.first, 0}, {s.last, 0}, {s.last, 1}} {
			n := new(big.Int).SetBytes(edge.at)
			n.Add(n, big.NewInt(edge.delta))
			if n.Sign() < 0 || n.BitLen() > 128 {
				continue
			}
			a := netip.AddrFrom16([16]byte(n.FillBytes(make([]byte, 16))))
			o.check(t, a)
			o.check(t, a.Unmap())
		}
	}
}

// TestRandom compares 1.7 million random addresses with the model, many of them near or inside a special block.
func TestRandom(t *testing.T) {
	t.Parallel()
	o := newOracle(t)
	random := rand.New(rand.NewPCG(1, 2))
	fill := func(b []byte) {
		for i := range b {
			b[i] = byte(random.Uint32())
		}
	}
	var prefixes []netip.Prefix
	for _, tt := range rowTests {
		prefixes = append(prefixes, netip.MustParsePrefix(tt.prefix))
	}
	for range 100_000 { // 17 addresses each
		var v4 [4]byte
		var v6 [16]byte
		fill(v4[:])
		fill(v6[:])
		o.check(t, netip.AddrFrom4(v4))
		o.check(t, netip.AddrFrom16(v6))

		v6[0] = 0x20 | v6[0]&0x1f // global unicast
		o.check(t, netip.AddrFrom16(v6))

		// Inside a block, and outside it by one flipped bit of the prefix.
		prefix := prefixes[random.IntN(len(prefixes))]
		a := prefix.Addr().AsSlice()
		host := make([]byte, len(a))
		fill(host)
		for bit := prefix.Bits(); bit < len(a)*8; bit++ {
			a[bit/8] |= host[bit/8] & (0x80 >> (bit % 8))
		}
		inside, _ := netip.AddrFromSlice(a)
		o.check(t, inside)
		flip := random.IntN(prefix.Bits())
		a[flip/8] ^= 0x80 >> (flip % 8)
		beside, _ := netip.AddrFromSlice(a)
		o.check(t, beside)

		// An IPv4 address in each of the embeddings, about half of the time a special one.
		if prefix.Addr().Is4() {
			v4 = inside.As4()
		}
		for _, e := range embeddings {
			o.check(t, e.wrap(v4))
		}
	}
}
