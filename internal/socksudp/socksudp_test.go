package socksudp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	v6 := netip.MustParseAddr("2001:db8::1")
	v6bytes := string(v6.AsSlice())
	tests := []struct {
		name string
		in   string
		want Datagram
		err  error
	}{
		{"IPv4", "\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35data",
			Datagram{Addr: netip.MustParseAddr("192.0.2.7"), Port: 53, Data: []byte("data")}, nil},
		{"IPv6", "\x00\x00\x00\x04" + v6bytes + "\xff\xffdata", Datagram{Addr: v6, Port: 65535, Data: []byte("data")}, nil},
		{"a name", "\x00\x00\x00\x03\x03abc\x00\x35data", Datagram{Name: []byte("abc"), Port: 53, Data: []byte("data")}, nil},
		{"the longest name", "\x00\x00\x00\x03\xff" + strings.Repeat("a", 255) + "\x00\x35d",
			Datagram{Name: bytes.Repeat([]byte("a"), 255), Port: 53, Data: []byte("d")}, nil},
		{"no data", "\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35", Datagram{Addr: netip.MustParseAddr("192.0.2.7"), Port: 53}, nil},
		{"an empty name is valid here", "\x00\x00\x00\x03\x00\x00\x35", Datagram{Port: 53}, nil},
		{"port 0 is valid here", "\x00\x00\x00\x03\x01a\x00\x00", Datagram{Name: []byte("a")}, nil},
		{"a fragment", "\x00\x00\x01\x01\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrFragment},
		{"the last fragment", "\x00\x00\x81\x03\x03abc\x00\x35data", Datagram{}, ErrFragment},
		{"a fragment that is malformed", "\x00\x00\x01\x01\xc0\x00", Datagram{}, ErrMalformed},
		{"the first reserved byte", "\x01\x00\x00\x01\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrMalformed},
		{"the second reserved byte", "\x00\x01\x00\x01\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrMalformed},
		{"address type 0", "\x00\x00\x00\x00\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrMalformed},
		{"address type 2", "\x00\x00\x00\x02\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrMalformed},
		{"address type 5", "\x00\x00\x00\x05\xc0\x00\x02\x07\x00\x35data", Datagram{}, ErrMalformed},
	}
	for _, test := range tests {
		got, err := Parse([]byte(test.in))
		if !errors.Is(err, test.err) || got.Addr != test.want.Addr || got.Port != test.want.Port ||
			!bytes.Equal(got.Name, test.want.Name) || !bytes.Equal(got.Data, test.want.Data) {
			t.Errorf("%s: %+v, %v; want %+v, %v", test.name, got, err, test.want, test.err)
		}
		if err != nil {
			continue
		}
		if want := test.in[3 : len(test.in)-len(got.Data)]; string(got.Address) != want {
			t.Errorf("%s: address %q, want %q", test.name, got.Address, want)
		}
		// Every prefix that includes the header parses; no shorter one does.
		header := len(test.in) - len(got.Data)
		for n := range len(test.in) {
			_, err := Parse([]byte(test.in[:n]))
			if whole := n >= header; whole != (err == nil) {
				t.Errorf("%s, the first %d bytes: %v", test.name, n, err)
			}
		}
	}
}

func TestAppendHeader(t *testing.T) {
	t.Parallel()
	tests := []struct{ addr, want string }{
		{"192.0.2.7:53", "\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35"},
		{"[::ffff:192.0.2.7]:53", "\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35"},
		{"[2001:db8::1]:65535", "\x00\x00\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x01\xff\xff"},
		{"[fe80::1%eth0]:1", "\x00\x00\x00\x04\xfe\x80" + strings.Repeat("\x00", 13) + "\x01\x00\x01"},
	}
	for _, test := range tests {
		if got := AppendHeader([]byte("x"), netip.MustParseAddrPort(test.addr)); string(got) != "x"+test.want {
			t.Errorf("%s: %q, want %q", test.addr, got, test.want)
		}
	}
}

// naive parses a datagram field by field with a reader that panics at the end.
func naive(b []byte) (host string, port uint16, data []byte, ok bool) {
	r := bytes.NewReader(b)
	take := func(n int) []byte {
		part := make([]byte, n)
		if got, _ := r.Read(part); got < n {
			panic("too short")
		}
		return part
	}
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	if head := take(3); head[0] != 0 || head[1] != 0 || head[2] != 0 {
		return "", 0, nil, false
	}
	switch take(1)[0] {
	case 1:
		host = netip.AddrFrom4([4]byte(take(4))).String()
	case 4:
		host = netip.AddrFrom16([16]byte(take(16))).String()
	case 3:
		if n := take(1)[0]; n > 0 {
			host = fmt.Sprintf("%q", take(int(n)))
		} else {
			host = `""`
		}
	default:
		return "", 0, nil, false
	}
	port = binary.BigEndian.Uint16(take(2))
	return host, port, b[len(b)-r.Len():], true
}

func checkAgainstNaive(t *testing.T, b []byte) {
	t.Helper()
	host, port, data, ok := naive(b)
	d, err := Parse(b)
	if (err == nil) != ok {
		t.Fatalf("%q: %v; the naive reader: %t", b, err, ok)
	}
	if err != nil {
		return
	}
	got := d.Addr.String()
	if !d.Addr.IsValid() {
		got = fmt.Sprintf("%q", d.Name)
	}
	if got != host || d.Port != port || !bytes.Equal(d.Data, data) {
		t.Fatalf("%q: %s %d %q; the naive reader: %s %d %q", b, got, d.Port, d.Data, host, port, data)
	}
	if !bytes.Equal(append(append([]byte{0, 0, 0}, d.Address...), d.Data...), b) {
		t.Fatalf("%q: address %q and data %q do not add up to the datagram", b, d.Address, d.Data)
	}
	if d.Addr.IsValid() && !d.Addr.Is4In6() {
		if header := AppendHeader(nil, netip.AddrPortFrom(d.Addr, d.Port)); !bytes.HasPrefix(b, header) {
			t.Fatalf("%q: AppendHeader returned %q", b, header)
		}
	}
}

func TestParseAgreesWithNaive(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1928, 7))
	for range 200_000 {
		b := make([]byte, r.IntN(40))
		for i := range b {
			b[i] = byte(r.IntN(8)) // small numbers are valid types, lengths and reserved bytes
		}
		if len(b) > 2 && r.IntN(8) > 0 {
			b[0], b[1], b[2] = 0, 0, 0
		}
		checkAgainstNaive(t, b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\xc0\x00\x02\x07\x00\x35data"))
	f.Add([]byte("\x00\x00\x00\x03\x03abc\x00\x35data"))
	f.Add([]byte("\x00\x00\x00\x04\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x35"))
	f.Add([]byte("\x00\x00\x05\x03\x00\x00\x35"))
	f.Fuzz(checkAgainstNaive)
}

func BenchmarkParse(b *testing.B) {
	datagram := []byte("\x00\x00\x00\x03\x0bexample.com\x00\x35" + strings.Repeat("x", 100))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(datagram); err != nil {
			b.Fatal(err)
		}
	}
}
