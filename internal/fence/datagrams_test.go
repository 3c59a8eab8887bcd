package fence

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

func TestEncodeDatagram(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, source, dest, payload, want string }{
		{"IPv4", "192.0.2.1:53", "198.18.0.1:40000", "abc", `
			4500001f0000000040110000c0000201c6120001
			00359c40000b16eb616263`},
		{"IPv6", "[2001:db8::7]:443", "[fd00:6e70::1]:40000", "", `
			6000000000081140 20010db8000000000000000000000007 fd006e70000000000000000000000001
			01bb9c400008c8b0`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := encodeDatagram([]byte(test.payload), netip.MustParseAddrPort(test.source), netip.MustParseAddrPort(test.dest))
			if err != nil {
				t.Fatal(err)
			}
			if want := strings.Join(strings.Fields(test.want), ""); hex.EncodeToString(got) != want {
				t.Errorf("packet is\n%x, want\n%s", got, want)
			}
		})
	}
	source, dest := netip.MustParseAddrPort("192.0.2.1:53"), netip.MustParseAddrPort("198.18.0.1:4000")
	if _, err := encodeDatagram(make([]byte, 65507), source, dest); err != nil {
		t.Errorf("the longest datagram: %v", err)
	}
	if _, err := encodeDatagram(make([]byte, 65508), source, dest); err == nil {
		t.Error("a datagram that is too long was encoded")
	}
}

// A receiver that sums up the datagram, its checksum and the pseudo header gets all ones
// (RFC 768), and the checksum is never zero.
func TestChecksum(t *testing.T) {
	t.Parallel()
	source, dest := netip.MustParseAddrPort("[2001:db8::7]:443"), netip.MustParseAddrPort("[fd00::1]:1")
	for i := range 1 << 16 {
		payload := binary.BigEndian.AppendUint16(nil, uint16(i))
		payload = append(payload, make([]byte, i%3)...)
		p, err := encodeDatagram(payload, source, dest)
		if err != nil {
			t.Fatal(err)
		}
		datagram := p[40:]
		if datagram[6] == 0 && datagram[7] == 0 {
			t.Fatalf("payload %x: the checksum is zero", payload)
		}
		sum := uint32(17 + len(datagram))
		for _, part := range [][]byte{source.Addr().AsSlice(), dest.Addr().AsSlice(), append(bytes.Clone(datagram), 0)} {
			for j := 0; j+1 < len(part); j += 2 {
				sum += uint32(part[j])<<8 | uint32(part[j+1])
			}
		}
		for sum > 0xffff {
			sum = sum>>16 + sum&0xffff
		}
		if sum != 0xffff {
			t.Fatalf("payload %x: the sum is %#x, want 0xffff", payload, sum)
		}
	}
}

// Control messages of Linux on a little-endian machine.
func TestTargetOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, control, want string }{
		{"IPv4 packet information", "1c00000000000000 00000000 08000000 01000000 08080808 08080808 00000000", "8.8.8.8:53"},
		{"IPv6 packet information", "2400000000000000 29000000 32000000 20010db8000000000000000000000053 01000000 00000000", "[2001:db8::53]:53"},
		{"IPv4-mapped packet information", "2400000000000000 29000000 32000000 00000000000000000000ffff08080404 01000000 00000000", "8.8.4.4:53"},
		{"IPv4 original destination", "2000000000000000 00000000 14000000 0200 007b c0000201 0000000000000000", "192.0.2.1:123"},
		{"IPv6 original destination", "2c00000000000000 29000000 4a000000 0a00 01bb 00000000 20010db8000000000000000000000007 00000000 00000000", "[2001:db8::7]:443"},
		{"another message first", "1400000000000000 01000000 1d000000 00000000 00000000 2000000000000000 00000000 14000000 0200 007b c0000201 0000000000000000", "192.0.2.1:123"},
		{"nothing", "", "none"},
		{"too short", "1400000000000000 00000000 08000000 01000000 00000000", "none"},
		{"a length beyond the end", "ff00000000000000 00000000 08000000 01000000 08080808 08080808 00000000", "none"},
		{"a huge length", "ffffffffffffffff 00000000 08000000 01000000 08080808 08080808 00000000", "none"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			control, err := hex.DecodeString(strings.ReplaceAll(test.control, " ", ""))
			if err != nil {
				t.Fatal(err)
			}
			got := "none"
			if a, ok := targetOf(control, 53); ok {
				got = a.String()
			}
			if got != test.want {
				t.Errorf("targetOf returns %s, want %s", got, test.want)
			}
		})
	}
}

func TestSourceControl(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		"8.8.8.8":      "1c00000000000000 00000000 08000000 00000000 08080808 00000000 00000000",
		"2001:db8::53": "2400000000000000 29000000 32000000 20010db8000000000000000000000053 00000000 00000000",
	} {
		if got := hex.EncodeToString(sourceControl(netip.MustParseAddr(addr))); got != strings.ReplaceAll(want, " ", "") {
			t.Errorf("control message for %s is %s, want %s", addr, got, want)
		}
	}
}

func FuzzTargetOf(f *testing.F) {
	f.Add([]byte{28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0})
	f.Fuzz(func(t *testing.T, control []byte) {
		targetOf(control, 1) // must not panic
	})
}
