package fakedns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"example.com/networkproxy/internal/hostname"
)

func host(t testing.TB, text string) hostname.Host {
	t.Helper()
	h, err := hostname.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func newNames(t testing.TB, prefix string) *Names {
	t.Helper()
	n, err := NewNames(netip.MustParsePrefix(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNamesKeepTheirAddresses(t *testing.T) {
	t.Parallel()
	n := newNames(t, "198.18.0.0/15")
	seen := make(map[netip.Addr]string)
	for round := range 2 {
		for i := range 1000 {
			name := host(t, fmt.Sprintf("h%d.example", i))
			v4, v6, err := n.Addrs(name)
			if err != nil {
				t.Fatal(err)
			}
			if known, ok := seen[v4]; ok && known != name.Name() {
				t.Fatalf("%v belongs to %s and %s", v4, known, name)
			} else if round == 1 && !ok {
				t.Fatalf("%s got another address, %v", name, v4)
			}
			seen[v4] = name.Name()
			for _, a := range []netip.Addr{v4, v6, netip.AddrFrom16(v4.As16())} {
				if got, err := n.Host(a); err != nil || got != name {
					t.Fatalf("Host(%v) = %v, %v, want %s", a, got, err, name)
				}
			}
		}
	}
	if n.Len() != 1000 {
		t.Errorf("Len() = %d, want 1000", n.Len())
	}
	other := newNames(t, "198.18.0.0/15")
	v4, _, _ := n.Addrs(host(t, "alone.example"))
	if again, _, _ := other.Addrs(host(t, "alone.example")); again != v4 {
		t.Errorf("the name has %v in one Names and %v in another", v4, again)
	}
}

func TestNamesReserveTheCommandsOwnAddresses(t *testing.T) {
	t.Parallel()
	n := newNames(t, "10.9.8.0/24")
	got := make(map[netip.Addr]bool)
	for i := 0; ; i++ {
		v4, _, err := n.Addrs(host(t, fmt.Sprintf("h%d.example", i)))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[v4] = true
	}
	if len(got) != 253 {
		t.Errorf("%d names fit a /24, want 253", len(got))
	}
	for _, reserved := range []string{"10.9.8.0", "10.9.8.1", "10.9.8.255"} {
		if got[netip.MustParseAddr(reserved)] {
			t.Errorf("%s was given to a name", reserved)
		}
	}
	if _, _, err := n.Addrs(host(t, "h0.example")); err != nil {
		t.Errorf("a known name has no address in a full pool: %v", err)
	}
}

func TestHostOfAddress(t *testing.T) {
	t.Parallel()
	n := newNames(t, "198.18.0.0/15")
	for _, literal := range []string{"192.0.2.1", "2001:db8::1", "127.0.0.1"} {
		a := netip.MustParseAddr(literal)
		if got, err := n.Host(a); err != nil || got != hostname.FromAddr(a) {
			t.Errorf("Host(%s) = %v, %v, want the address", literal, got, err)
		}
	}
	for _, unknown := range []string{"198.18.0.0", "198.18.0.1", "198.19.1.1", "fd00:6e70::c612:9", "fd00:6e70::1", "::ffff:198.18.7.7"} {
		if got, err := n.Host(netip.MustParseAddr(unknown)); err == nil {
			t.Errorf("Host(%s) = %v, want an error", unknown, got)
		}
	}
}

func TestPrefixOfNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"fd00::/96", "10.0.0.0/25", "0.0.0.0/0"} {
		if _, err := NewNames(netip.MustParsePrefix(bad)); err == nil {
			t.Errorf("NewNames(%s) has no error", bad)
		}
	}
	if n, err := NewNames(netip.Prefix{}); err != nil || n.prefix != DefaultPrefix {
		t.Errorf("the zero prefix gives %v, %v", n, err)
	}
}

func TestNamesConcurrently(t *testing.T) {
	t.Parallel()
	n := newNames(t, "198.18.0.0/15")
	var running sync.WaitGroup
	for w := range 8 {
		running.Go(func() {
			for i := range 500 {
				name := host(t, fmt.Sprintf("h%d.example", (i*7+w)%500))
				v4, _, err := n.Addrs(name)
				if got, herr := n.Host(v4); err != nil || herr != nil || got != name {
					t.Errorf("Host(%v) = %v, %v, want %s (%v)", v4, got, herr, name, err)
					return
				}
			}
		})
	}
	running.Wait()
	if n.Len() != 500 {
		t.Errorf("Len() = %d, want 500", n.Len())
	}
}

// responder answers for names below ok.test.
func responder(t testing.TB, ipv6 bool) *Responder {
	return &Responder{Names: newNames(t, "198.18.0.0/15"), IPv6: ipv6, Judge: func(name hostname.Host) (bool, string) {
		return name.Name() == "ok.test" || strings.HasSuffix(name.Name(), ".ok.test"), "not_allowed"
	}}
}

// query returns a query with one question, and an OPT record if edns is true.
func query(t testing.TB, name string, typ dnsmessage.Type, edns bool) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	if edns {
		m.Additionals = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName("."), Class: 4096}, Body: &dnsmessage.OPTResource{}}}
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ask(t testing.TB, r *Responder, q []byte) dnsmessage.Message {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(r.Respond(q)); err != nil {
		t.Fatalf("the response is not valid: %v", err)
	}
	if m.ID != 4711 || !m.Response {
		t.Fatalf("the header is %+v", m.Header)
	}
	return m
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		typ  dnsmessage.Type
		code dnsmessage.RCode
		data bool
	}{
		{"ok.test.", dnsmessage.TypeA, 0, true},
		{"oK.tESt.", dnsmessage.TypeA, 0, true},
		{"a_b.ok.test.", dnsmessage.TypeA, 0, true},
		{"ok.test.", dnsmessage.TypeAAAA, 0, true},
		{"ok.test.", dnsmessage.TypeTXT, 0, false},
		{"ok.test.", dnsmessage.TypeMX, 0, false},
		{"ok.test.", dnsmessage.TypeALL, 0, false},
		{"ok.test.", 65, 0, false}, // HTTPS: no keys for Encrypted Client Hello
		{"no.test.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"no.test.", dnsmessage.TypeTXT, dnsmessage.RCodeNameError, false},
		{"secret!data.ok.test.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"192.0.2.1.", dnsmessage.TypeA, dnsmessage.RCodeNameError, false},
		{"localhost.", dnsmessage.TypeA, 0, true},
		{"x.localhost.", dnsmessage.TypeAAAA, 0, true},
		{".", dnsmessage.TypeNS, 0, false},
		{"1.2.0.192.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, false},
		{"1.0.18.198.in-addr.arpa.", dnsmessage.TypePTR, dnsmessage.RCodeNameError, false},
	} {
		t.Run(c.name+c.typ.String(), func(t *testing.T) {
			m := ask(t, responder(t, true), query(t, c.name, c.typ, false))
			if m.RCode != c.code || (len(m.Answers) == 1) != c.data {
				t.Errorf("got %v with %v, want %v with data: %t", m.RCode, m.Answers, c.code, c.data)
			}
			if len(m.Questions) != 1 || m.Questions[0].Name.String() != c.name {
				t.Errorf("the question came back as %v", m.Questions)
			}
			if m.AuthenticData || m.Truncated {
				t.Errorf("the header claims too much: %+v", m.Header)
			}
		})
	}
}

func TestNoIPv6Data(t *testing.T) {
	t.Parallel()
	if m := ask(t, responder(t, false), query(t, "ok.test.", dnsmessage.TypeAAAA, false)); m.RCode != 0 || len(m.Answers) != 0 {
		t.Errorf("got %v with %v, want no data", m.RCode, m.Answers)
	}
}

func TestReverseLookup(t *testing.T) {
	t.Parallel()
	r := responder(t, true)
	v4, v6, err := r.Names.Addrs(host(t, "ok.test"))
	if err != nil {
		t.Fatal(err)
	}
	b := v4.As4()
	reverse4 := fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", b[3], b[2], b[1], b[0])
	var reverse6 strings.Builder
	for b16, i := v6.As16(), 15; i >= 0; i-- {
		fmt.Fprintf(&reverse6, "%x.%x.", b16[i]&15, b16[i]>>4)
	}
	for _, name := range []string{reverse4, reverse6.String() + "ip6.arpa."} {
		m := ask(t, r, query(t, name, dnsmessage.TypePTR, false))
		if len(m.Answers) != 1 || m.Answers[0].Body.(*dnsmessage.PTRResource).PTR.String() != "ok.test." {
			t.Errorf("%s: got %v %v, want ok.test.", name, m.RCode, m.Answers)
		}
	}
}

func TestExtendedErrorNeedsOPT(t *testing.T) {
	t.Parallel()
	m := ask(t, responder(t, true), query(t, "no.test.", dnsmessage.TypeA, true))
	if len(m.Additionals) != 1 {
		t.Fatalf("the response has %v, want an OPT record", m.Additionals)
	}
	opt := m.Additionals[0].Body.(*dnsmessage.OPTResource)
	if len(opt.Options) != 1 || opt.Options[0].Code != 15 || string(opt.Options[0].Data) != "\x00\x0fnot_allowed" {
		t.Errorf("the options are %v", opt.Options)
	}
	if m := ask(t, responder(t, true), query(t, "no.test.", dnsmessage.TypeA, false)); len(m.Additionals) != 0 {
		t.Errorf("a query without OPT got %v", m.Additionals)
	}
}

func TestMessagesThatAreNoQueries(t *testing.T) {
	t.Parallel()
	r := responder(t, true)
	q := query(t, "ok.test.", dnsmessage.TypeA, false)
	edit := func(change func([]byte)) []byte {
		b := append([]byte{}, q...)
		change(b)
		return b
	}
	for name, b := range map[string][]byte{
		"empty": {}, "short": q[:11], "a response": edit(func(b []byte) { b[2] |= 0x80 }),
	} {
		if got := r.Respond(b); got != nil {
			t.Errorf("%s: got a response of %d bytes, want none", name, len(got))
		}
	}
	for name, c := range map[string]struct {
		query []byte
		code  dnsmessage.RCode
	}{
		"two questions":    {edit(func(b []byte) { b[5] = 2 }), dnsmessage.RCodeFormatError},
		"no question":      {edit(func(b []byte) { b[5] = 0 }), dnsmessage.RCodeFormatError},
		"a pointer":        {edit(func(b []byte) { b[12], b[13] = 0xc0, 12 }), dnsmessage.RCodeFormatError},
		"cut short":        {q[:len(q)-2], dnsmessage.RCodeFormatError},
		"an update":        {edit(func(b []byte) { b[2] |= 5 << 3 }), dnsmessage.RCodeNotImplemented},
		"class CHAOS":      {edit(func(b []byte) { b[len(b)-1] = 3 }), dnsmessage.RCodeRefused},
		"an answer is due": {edit(func(b []byte) { b[7] = 1 }), dnsmessage.RCodeFormatError},
	} {
		if m := ask(t, r, c.query); m.RCode != c.code || len(m.Answers) != 0 {
			t.Errorf("%s: got %v with %v, want %v", name, m.RCode, m.Answers, c.code)
		}
	}
}

func TestFullPoolIsAFault(t *testing.T) {
	t.Parallel()
	r := responder(t, true)
	r.Names = newNames(t, "10.0.0.0/24")
	var last dnsmessage.RCode
	for i := range 300 {
		last = ask(t, r, query(t, fmt.Sprintf("h%d.ok.test.", i), dnsmessage.TypeA, false)).RCode
	}
	if last != dnsmessage.RCodeServerFailure {
		t.Errorf("the answer of a full pool is %v, want SERVFAIL", last)
	}
}

func FuzzRespond(f *testing.F) {
	f.Add(query(f, "ok.test.", dnsmessage.TypeA, true))
	f.Add(query(f, "no.test.", dnsmessage.TypeAAAA, false))
	f.Fuzz(func(t *testing.T, b []byte) {
		out := responder(t, true).Respond(b)
		if out == nil {
			return
		}
		var m dnsmessage.Message
		if err := m.Unpack(out); err != nil || !m.Response {
			t.Fatalf("the response %x is not valid: %v", out, err)
		}
		if len(out) > 512 && len(m.Questions) == 0 {
			t.Fatalf("the response has %d bytes", len(out))
		}
	})
}
