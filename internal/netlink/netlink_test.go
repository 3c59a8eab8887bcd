package netlink

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// unhex decodes hexadecimal text with spaces and comments.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "//")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The messages are those that ip(8) sends, on a little-endian machine.
func TestRouteMessages(t *testing.T) {
	t.Parallel()
	addr4, addr6 := netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd00:6e70::1")
	for _, test := range []struct {
		name string
		got  []byte
		want string
	}{
		{"link up", AppendLinkUp(nil, 1, Loopback), `
			20000000 1000 0500 01000000 00000000 // header: length, RTM_NEWLINK, request and ack, number, port
			00 00 0000 01000000 01000000 01000000 // family, type, device, flags, mask`},
		{"IPv4 address", AppendAddress(nil, 2, Loopback, addr4), `
			28000000 1400 0506 02000000 00000000
			02 20 00 00 01000000 // family, prefix, flags, scope, device
			0800 0200 c6120001 // local
			0800 0100 c6120001 // address`},
		{"IPv6 address", AppendAddress(nil, 3, Loopback, addr6), `
			40000000 1400 0506 03000000 00000000
			0a 80 02 00 01000000
			1400 0200 fd006e70000000000000000000000001
			1400 0100 fd006e70000000000000000000000001`},
		{"IPv4 route", AppendLocalRoute(nil, 4, Loopback, addr4), `
			2c000000 1800 0506 04000000 00000000
			02 00 00 00 ff 04 fe 02 00000000 // family, prefixes, TOS, table, origin, scope, type, flags
			0800 0400 01000000 // device
			0800 0700 c6120001 // source`},
		{"IPv6 route", AppendLocalRoute(nil, 5, Loopback, addr6), `
			38000000 1800 0506 05000000 00000000
			0a 00 00 00 ff 04 fe 02 00000000
			0800 0400 01000000
			1400 0700 fd006e70000000000000000000000001`},
		{"list of unix sockets", AppendUnixDump(nil, 6), `
			28000000 1400 0103 06000000 00000000
			01 00 0000 ffffffff 00000000 03000000 ffffffffffffffff`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if want := unhex(t, test.want); !reflect.DeepEqual(test.got, want) {
				t.Errorf("message is\n%x, want\n%x", test.got, want)
			}
		})
	}
}

// The rules are those that nft(8) makes of
//
//	table inet t { chain c { type filter hook prerouting priority -150; policy drop;
//		ip daddr 127.0.0.0/8 accept
//		meta l4proto tcp tproxy to :1
//		udp dport 53 reject } }
func TestRuleset(t *testing.T) {
	t.Parallel()
	r := NewRuleset(7, "t")
	r.Chain("c", Prerouting, -150)
	r.Rule("c", ToPrefix(netip.MustParsePrefix("127.0.0.0/8")), Accept())
	r.Rule("c", IsProtocol(TCP), TProxy(1))
	r.Rule("c", IsProtocol(UDP), ToPort(53), Reject())
	want := unhex(t, `
		14000000 1000 0100 07000000 00000000 00 00 000a // begin of a batch for nf_tables
		1c000000 000a 0504 08000000 00000000 01 00 0000 // table
			0600 0100 7400 0000 // name
		4c000000 030a 0504 09000000 00000000 01 00 0000 // chain
			0600 0100 7400 0000 0600 0300 6300 0000 // table, name
			1400 0480 0800 0100 00000000 0800 0200 ffffff6a // hook: prerouting, -150
			0800 0500 00000000 // policy: drop
			0b00 0700 66696c74657200 00 // type
		08010000 060a 050c 0a000000 00000000 01 00 0000 // rule
			0600 0100 7400 0000 0600 0200 6300 0000 // table, chain
			e400 0480
			2400 0180 0900 0100 6d65746100 000000 1400 0280 // meta
				0800 0100 00000001 0800 0200 0000000f // register 1, key nfproto
			2c00 0180 0800 0100 636d7000 2000 0280 // cmp
				0800 0100 00000001 0800 0200 00000000 0c00 0380 0500 0100 02 000000 // register 1 equals 2
			3400 0180 0c00 0100 7061796c6f616400 2400 0280 // payload
				0800 0100 00000001 0800 0200 00000001 0800 0300 00000010 0800 0400 00000001 // network header, 1 byte at 16
			2c00 0180 0800 0100 636d7000 2000 0280
				0800 0100 00000001 0800 0200 00000000 0c00 0380 0500 0100 7f 000000 // equals 127
			3000 0180 0e00 0100 696d6d65646961746500 0000 1c00 0280 // immediate
				0800 0100 00000000 1000 0280 0c00 0280 0800 0100 00000001 // verdict accept
		c8000000 060a 050c 0b000000 00000000 01 00 0000
			0600 0100 7400 0000 0600 0200 6300 0000
			a400 0480
			2400 0180 0900 0100 6d65746100 000000 1400 0280
				0800 0100 00000001 0800 0200 00000010 // l4proto
			2c00 0180 0800 0100 636d7000 2000 0280
				0800 0100 00000001 0800 0200 00000000 0c00 0380 0500 0100 06 000000
			2c00 0180 0e00 0100 696d6d65646961746500 0000 1800 0280
				0800 0100 00000002 0c00 0280 0600 0100 0001 0000 // register 2 is port 1
			2400 0180 0b00 0100 7470726f787900 00 1400 0280 // tproxy
				0800 0100 00000000 0800 0300 00000002 // any family, port in register 2
		fc000000 060a 050c 0c000000 00000000 01 00 0000
			0600 0100 7400 0000 0600 0200 6300 0000
			d800 0480
			2400 0180 0900 0100 6d65746100 000000 1400 0280
				0800 0100 00000001 0800 0200 00000010
			2c00 0180 0800 0100 636d7000 2000 0280
				0800 0100 00000001 0800 0200 00000000 0c00 0380 0500 0100 11 000000
			3400 0180 0c00 0100 7061796c6f616400 2400 0280
				0800 0100 00000001 0800 0200 00000002 0800 0300 00000002 0800 0400 00000002 // transport header, 2 bytes at 2
			2c00 0180 0800 0100 636d7000 2000 0280
				0800 0100 00000001 0800 0200 00000000 0c00 0380 0600 0100 0035 0000 // equals 53
			2400 0180 0b00 0100 72656a65637400 00 1400 0280 // reject
				0800 0100 00000002 0500 0200 01 000000 // ICMP of either family, port unreachable
		14000000 1100 0100 0d000000 00000000 00 00 000a // end of the batch`)
	if n := r.Acks(); n != 5 {
		t.Errorf("Acks returns %d, want 5", n)
	}
	if got := r.Bytes(); !reflect.DeepEqual(got, want) {
		t.Errorf("transaction is\n%x, want\n%x", got, want)
	}
}

// The acknowledgements come from Linux, for an address with a wrong prefix.
func TestParseAcks(t *testing.T) {
	t.Parallel()
	const text = "ipv4: Invalid prefix length"
	for _, test := range []struct {
		name, datagram string
		want           Ack
	}{
		{"with the request", `3c000000 0200 0000 07000000 680b0000 eaffffff
			2800000014000504070000000000000002 4d00000100000008000200c612000108000100c6120001`, Ack{Seq: 7, Errno: 22}},
		{"with the request and a text", `5c000000 0200 0002 07000000 680b0000 eaffffff
			28000000140005040700000000000000024d00000100000008000200c612000108000100c6120001
			20000100697076343a20496e76616c696420707265666978206c656e67746800`, Ack{Seq: 7, Errno: 22, Message: text}},
		{"short", `24000000 0200 0001 07000000 680b0000 eaffffff 28000000140005040700000000000000`, Ack{Seq: 7, Errno: 22}},
		{"short with a text", `44000000 0200 0003 07000000 680b0000 eaffffff 28000000140005040700000000000000
			20000100697076343a20496e76616c696420707265666978206c656e67746800`, Ack{Seq: 7, Errno: 22, Message: text}},
		{"short with an offset", `2c000000 0200 0003 07000000 680b0000 eaffffff 28000000140005040700000000000000
			0800020018000000`, Ack{Seq: 7, Errno: 22, Offset: 24}},
		{"success", `24000000 0200 0001 07000000 680b0000 00000000 28000000140005040700000000000000`, Ack{Seq: 7}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			datagram := unhex(t, test.datagram)
			got, err := ParseAcks(datagram)
			if err != nil || !reflect.DeepEqual(got, []Ack{test.want}) {
				t.Errorf("ParseAcks returns %+v, %v, want %+v", got, err, test.want)
			}
			for n := range datagram {
				if acks, err := ParseAcks(datagram[:n]); err == nil && n > 0 {
					t.Errorf("of %d bytes, ParseAcks returns %+v without an error", n, acks)
				}
			}
		})
	}
}

// The list comes from Linux: a socket with a path, an unnamed pair and an abstract socket.
func TestParseUnixDump(t *testing.T) {
	t.Parallel()
	datagram := unhex(t, `
		48000000 1400 0200 01000000 680b0000 01010a00 0e0a3403 0613080000000000
			11000000 2f746d702f7a7a2e736f636b00 000000 0c000100 73409800 0000e00f 0500060000000000
		28000000 1400 0200 01000000 680b0000 01010100 100a3403 04130800000000000500060000000000
		28000000 1400 0200 01000000 680b0000 01010100 110a3403 05130800000000000500060000000000
		30000000 1400 0200 01000000 680b0000 01010700 0f0a3403 0613080000000000 0800000000616273 0500060000000000`)
	sockets, done, errno, err := ParseUnixDump(datagram)
	want := []UnixSocket{{Path: "/tmp/zz.sock", Inode: 9977971, Dev: 254 << 20}}
	if err != nil || done || errno != 0 || !reflect.DeepEqual(sockets, want) {
		t.Errorf("ParseUnixDump returns %+v, %v, %d, %v, want %+v", sockets, done, errno, err, want)
	}
	sockets, done, errno, err = ParseUnixDump(unhex(t, "14000000 0300 0200 01000000 680b0000 00000000"))
	if err != nil || !done || errno != 0 || sockets != nil {
		t.Errorf("at the end, ParseUnixDump returns %+v, %v, %d, %v", sockets, done, errno, err)
	}
	_, done, errno, err = ParseUnixDump(unhex(t, "24000000 0200 0001 01000000 680b0000 feffffff 28000000140001030100000000000000"))
	if err != nil || !done || errno != 2 {
		t.Errorf("of an error, ParseUnixDump returns %v, %d, %v, want ENOENT", done, errno, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{20, 0, 0, 0, 3, 0, 2, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ParseAcks(b) // must not panic
		ParseUnixDump(b)
	})
}
