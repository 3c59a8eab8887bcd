// What the scan makes of streams: real hellos in every slicing, other protocols,
// and what servers accept although it hides a name.

package clienthello

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// captured is a connection that keeps what is written to it, and ends at once.
type captured struct{ bytes.Buffer }

func (*captured) Read([]byte) (int, error)         { return 0, io.EOF }
func (*captured) Close() error                     { return nil }
func (*captured) LocalAddr() net.Addr              { return nil }
func (*captured) RemoteAddr() net.Addr             { return nil }
func (*captured) SetDeadline(time.Time) error      { return nil }
func (*captured) SetReadDeadline(time.Time) error  { return nil }
func (*captured) SetWriteDeadline(time.Time) error { return nil }

// clientHello is what crypto/tls sends first.
func clientHello(c *tls.Config) []byte {
	conn := new(captured)
	c.InsecureSkipVerify = true // which goes without a name, too
	tls.Client(conn, c).Handshake()
	return conn.Bytes()
}

func named(name string) []byte { return clientHello(&tls.Config{ServerName: name}) }

// record puts a fragment into a record.
func record(contentType byte, fragment []byte) []byte {
	n := len(fragment)
	return append([]byte{contentType, 3, 1, byte(n >> 8), byte(n)}, fragment...)
}

// fragmented is a stream of one record again, in records of n bytes.
func fragmented(stream []byte, n int) []byte {
	var out []byte
	for fragment := range slices.Chunk(stream[headerSize:], n) {
		out = append(out, record(typeHandshake, fragment)...)
	}
	return out
}

var (
	changeCipherSpec = record(typeChangeCipherSpec, []byte{1})
	warning          = record(typeAlert, []byte{1, 90}) // user_canceled
)

// outcome is a scan to its end or as far as the data goes.
type outcome struct {
	names []string
	last  Event
	err   error
}

// scanAll gives the data to a scan in pieces of n bytes, as Scan wants them.
func scanAll(data []byte, n int) (o outcome) {
	var s Scanner
	var pending []byte
	for piece := range slices.Chunk(data, n) {
		pending = append(pending, piece...)
		o.last, o.err = s.Scan(pending)
		for ; o.last == Found; o.last, o.err = s.Scan(pending) {
			o.names = append(o.names, s.Hello().ServerName)
		}
		switch {
		case o.err != nil || o.last == Over:
			return o
		case o.last == Between:
			pending = nil
		}
	}
	return o
}

func TestScan(t *testing.T) {
	t.Parallel()
	one := named("a.example")
	two := named("b.example")
	early := withExtension(one, extEarlyData, nil)
	padded := func(n int) []byte { return withExtension(one, 0x0a0a, make([]byte, n-len(one)-4+headerSize)) }
	tests := []struct {
		name  string
		data  []byte
		names string // joined by spaces
		last  Event
		err   string // a part of it
	}{
		{"nothing", nil, "", Undecided, ""},
		{"a hello", one, "a.example", Between, ""},
		{"a hello cut short", one[:len(one)-1], "", Partial, ""},
		{"the first byte", one[:1], "", Undecided, ""},
		{"the first record header", one[:5], "", Undecided, ""},
		{"the first byte of the message", one[:6], "", Partial, ""},
		{"in records of one byte", fragmented(one, 1), "a.example", Between, ""},
		{"in records of seven bytes", fragmented(one, 7), "a.example", Between, ""},
		{"without a name", named(""), "", Between, ""},

		// What may follow a hello, and what may not be followed by one.
		{"then the finish of TLS 1.3", slices.Concat(one, changeCipherSpec, record(typeApplicationData, make([]byte, 69))), "a.example", Over, ""},
		{"then the key exchange of TLS 1.2", slices.Concat(one, record(typeHandshake, []byte{16, 0, 0, 33})), "a.example", Over, ""},
		{"then the finish of a resumed session of TLS 1.2", slices.Concat(one, changeCipherSpec, record(typeHandshake, bytes.Repeat([]byte{1}, 40))), "a.example", Over, ""},
		{"then an alert", slices.Concat(one, record(typeAlert, []byte{2, 48})), "a.example", Between, ""},
		{"then another hello", slices.Concat(one, two), "a.example b.example", Between, ""},
		{"then another hello, behind a change_cipher_spec", slices.Concat(one, changeCipherSpec, two), "a.example b.example", Between, ""},
		{"then another hello, behind several and alerts", slices.Concat(one, changeCipherSpec, warning, changeCipherSpec, two), "a.example b.example", Between, ""},
		{"then another hello, in records of one byte", slices.Concat(one, fragmented(two, 1)), "a.example b.example", Between, ""},
		{"then another hello, cut short", slices.Concat(one, two[:50]), "a.example", Partial, ""},
		{"then another hello, in a record of another version", slices.Concat(one, mutated(two, 1, 9)), "a.example b.example", Between, ""},
		{"then another hello, malformed", slices.Concat(one, mutated(two, headerSize+messageHeader+2+32, 33)), "a.example", Over, "cut short"},
		{"then an empty record", slices.Concat(one, record(typeHandshake, nil), two), "a.example", Over, "empty record"},
		{"early data announced, then another hello", slices.Concat(early, record(typeApplicationData, make([]byte, 9000)), two), "a.example b.example", Between, ""},
		{"early data announced, then enough of it", slices.Concat(early, bytes.Repeat(record(typeApplicationData, make([]byte, 1<<14)), maxEarly>>14+1)), "a.example", Over, ""},
		{"early data not announced, then another hello", slices.Concat(one, record(typeApplicationData, make([]byte, 9000)), two), "a.example", Over, ""},

		// What servers accept, and hides a name or has none.
		{"after an alert", slices.Concat(warning, one), "", Over, "after a record of content type 21"},
		{"after half an alert", slices.Concat(record(typeAlert, []byte{1}), one), "", Over, "after a record of content type 21"},
		{"after an alert of another version", slices.Concat(mutated(warning, 1, 0x0f), one), "", Over, "after a record of content type 21"},
		{"after a change_cipher_spec", slices.Concat(changeCipherSpec, one), "", Over, "after a record of content type 20"},
		{"after an empty record of application data", slices.Concat(record(typeApplicationData, nil), one), "", Over, "after a record of content type 23"},
		{"after an empty handshake record", slices.Concat(record(typeHandshake, nil), one), "", Over, "empty record"},
		{"in a record of another version", mutated(one, 1, 2), "", Over, "record of version 2.1"},
		{"in a record of the last version that crypto/tls reads", mutated(one, 1, 0x0f), "", Over, "record of version 15.1"},
		{"of SSL 2.0", ssl2Hello(), "", Over, "SSL 2.0"},

		// What no server accepts, and is not let through to see.
		{"with an empty record inside", slices.Concat(fragmented(one, 9)[:14], record(typeHandshake, nil)), "", Over, "empty record"},
		{"with an alert inside", slices.Concat(fragmented(one, 9)[:14], warning), "", Over, "interrupted by a record of content type 21"},
		{"with a record of another version inside", slices.Concat(fragmented(one, 9)[:14], []byte{22, 2, 1, 0, 9}), "", Over, "version 2.1"},
		{"with another message in its record", record(typeHandshake, slices.Concat(one[5:], one[5:])), "", Over, "shares a record"},
		{"in a record that is too long", append([]byte{22, 3, 1, 0x40, 1}, one[5:]...), "", Over, "record of 16385 bytes"},
		{"that is as long as it may be", fragmented(padded(MaxHello), 9000), "a.example", Between, ""},
		{"that is too long", fragmented(padded(MaxHello+1), 9000)[:100], "", Over, "no more than 16384 are read"},
		{"of too many records", fragmented(padded(MaxHello), 9), "", Over, "within 24576 bytes"},
		{"of no length", []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, "", Over, "cut short"},

		// Other protocols: no byte more than needed is waited for.
		{"HTTP", []byte("G"), "", Over, ""},
		{"SSH", []byte("S"), "", Over, ""},
		{"PostgreSQL", []byte{0}, "", Over, ""},
		{"a Ctrl-V and a letter", []byte{0x16, 'a'}, "", Over, ""},
		{"a Ctrl-U and a letter", []byte{0x15, 'a'}, "", Over, ""},
		{"telnet: IAC DO ECHO", []byte{0xff, 0xfd, 1}, "", Over, ""},
		{"Thrift's compact protocol", []byte{0x82, 0x21, 1, 4}, "", Over, ""},
		{"a high bit, and no message type", []byte{0x82, 0x21, 7}, "", Over, ""},
		{"a high bit, and lengths that do not add up", mutated(ssl2Hello(), 1, 0), "", Over, ""},
		{"MySQL: 22 bytes of packet 1", []byte{22, 0, 0, 1, 0x85, 0xa6}, "", Over, ""},
		{"a record that begins with another message", record(typeHandshake, []byte{2}), "", Over, ""},
		{"an empty record of another version", []byte{22, 0, 0, 0, 0}, "", Over, ""},
		{"a long alert", []byte{21, 3, 1, 0, 3}, "", Over, ""},
		{"a longer alert", []byte{21, 3, 1, 1}, "", Over, ""},
		{"application data", []byte{23, 3, 3, 0, 1}, "", Over, ""},
		{"heartbeat", []byte{24}, "", Over, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 2, 3, 5, 6, 100, max(len(tt.data), 1)} {
				got := scanAll(tt.data, n)
				if strings.Join(got.names, " ") != tt.names || got.last != tt.last {
					t.Errorf("in pieces of %d: names %q, then event %d (%v); want %q, %d", n, got.names, got.last, got.err, tt.names, tt.last)
				}
				var e *Error
				if (got.err != nil) != (tt.err != "") || got.err != nil && (!errors.As(got.err, &e) || !strings.Contains(e.Problem, tt.err)) {
					t.Errorf("in pieces of %d: error %v, want %q", n, got.err, tt.err)
				}
			}
		})
	}
}

// TestScanHoldsLittle: what Scan leaves to its caller to hold has a limit, however
// the bytes come, and what it keeps itself is no more than a hello.
func TestScanHoldsLittle(t *testing.T) {
	t.Parallel()
	var s Scanner
	data := bytes.Repeat([]byte{22, 3, 1, 0, 1, 0}, MaxPending) // a hello of one byte a record
	data[5], data[17] = typeClientHello, MaxHello>>8-1
	for n := 0; ; n++ {
		if _, err := s.Scan(data[:n]); err != nil {
			if n < MaxPending || n > MaxPending+2*headerSize {
				t.Errorf("after %d bytes: %v", n, err)
			}
			return
		}
		if cap(s.msg) > MaxHello {
			t.Fatalf("%d bytes are kept", cap(s.msg))
		}
	}
}

func TestHelloFields(t *testing.T) {
	t.Parallel()
	plain := &tls.Config{ServerName: "a.example"}
	tests := []struct {
		name   string
		stream []byte
		want   Hello
	}{
		{"TLS 1.3", clientHello(plain), Hello{ServerName: "a.example", Version: tls.VersionTLS12}},
		{"TLS 1.0 alone", clientHello(&tls.Config{ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}),
			Hello{ServerName: "a.example", Version: tls.VersionTLS10}},
		{"GREASE", withExtension(withExtension(clientHello(plain), 0x1a1a, nil), 0xfafa, []byte{0}), Hello{ServerName: "a.example", Version: tls.VersionTLS12}},
		{"ECH", withExtension(clientHello(plain), extECH, make([]byte, 200)), Hello{ServerName: "a.example", Version: tls.VersionTLS12, ECH: true}},
		{"without extensions", withoutExtensions(clientHello(plain)), Hello{Version: tls.VersionTLS12}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s Scanner
			if event, err := s.Scan(tt.stream); event != Found || err != nil {
				t.Fatalf("event %d, %v", event, err)
			}
			if got := s.Hello(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestServerNames(t *testing.T) {
	t.Parallel()
	list := func(entries ...[]byte) []byte {
		all := slices.Concat(entries...)
		return append([]byte{byte(len(all) >> 8), byte(len(all))}, all...)
	}
	entry := func(kind byte, name string) []byte {
		return append([]byte{kind, byte(len(name) >> 8), byte(len(name))}, name...)
	}
	long := strings.Repeat("a", 255)
	bare := named("")
	tests := []struct {
		name   string
		stream []byte
		want   string
		err    string
	}{
		{"a name", withExtension(bare, 0, list(entry(0, "A.Example."))), "A.Example.", ""},
		{"a long name", withExtension(bare, 0, list(entry(0, long))), long, ""},
		{"a name too long", withExtension(bare, 0, list(entry(0, long+"a"))), "", "256 bytes"},
		{"an empty name", withExtension(bare, 0, list(entry(0, ""))), "", "0 bytes"},
		{"two names", withExtension(bare, 0, list(entry(0, "a.example"), entry(0, "b.example"))), "", "something else than one host_name"},
		{"another kind of name", withExtension(bare, 0, list(entry(1, "a.example"))), "", "something else than one host_name"},
		{"another kind of name, then a name", withExtension(bare, 0, list(entry(1, "x"), entry(0, "b.example"))), "", "something else than one host_name"},
		{"no list", withExtension(bare, 0, nil), "", "not a list of names"},
		{"an empty list", withExtension(bare, 0, list()), "", "not a list of names"},
		{"bytes behind the list", withExtension(bare, 0, append(list(entry(0, "a.example")), 0)), "", "not a list of names"},
		{"a list cut short", withExtension(bare, 0, list(entry(0, "a.example"))[:8]), "", "not a list of names"},
		{"a NUL", withExtension(bare, 0, list(entry(0, "a.example\x00.b.example"))), "", "not printable"},
		{"a space", withExtension(bare, 0, list(entry(0, "a.example "))), "", "not printable"},
		{"an escape", withExtension(bare, 0, list(entry(0, "\x1b[2Ja"))), "", "not printable"},
		{"beyond ASCII", withExtension(bare, 0, list(entry(0, "bücher.example"))), "", "not printable"},
		{"the extension twice", withExtension(named("a.example"), 0, list(entry(0, "a.example"))), "", "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var s Scanner
			_, err := s.Scan(tt.stream)
			if got := s.Hello().ServerName; got != tt.want || (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// TestMalformed cuts a hello anywhere, and lengthens it: it parses whole or not at
// all.
func TestMalformed(t *testing.T) {
	t.Parallel()
	body := named("a.example")[headerSize+messageHeader:]
	extensions := len(withoutExtensions(named("a.example"))) - headerSize - messageHeader
	for n := range body {
		if _, err := parse(body[:n]); err == nil && n != extensions {
			t.Errorf("cut to %d of %d bytes, it parses", n, len(body))
		}
	}
	if _, err := parse(append(slices.Clone(body), 0)); err == nil {
		t.Error("with a byte behind it, it parses")
	}
}

// extensionsAt is where the length of the extensions stands in a stream of one
// record.
func extensionsAt(stream []byte) int {
	at := headerSize + messageHeader + 2 + 32
	at += 1 + int(stream[at])
	at += 2 + int(stream[at])<<8 + int(stream[at+1])
	at += 1 + int(stream[at])
	return at
}

// withExtension adds one in front of those that a stream of one record has.
func withExtension(stream []byte, kind uint16, data []byte) []byte {
	at := extensionsAt(stream)
	ext := append([]byte{byte(kind >> 8), byte(kind), byte(len(data) >> 8), byte(len(data))}, data...)
	out := slices.Concat(stream[:at+2], ext, stream[at+2:])
	adjust := func(at, size, by int) {
		n := by
		for i := range size {
			n += int(out[at+i]) << (8 * (size - 1 - i))
		}
		for i := range size {
			out[at+i] = byte(n >> (8 * (size - 1 - i)))
		}
	}
	adjust(3, 2, len(ext))
	adjust(6, 3, len(ext))
	adjust(at, 2, len(ext))
	return out
}

// withoutExtensions cuts a stream of one record in front of its extensions.
func withoutExtensions(stream []byte) []byte {
	body := stream[headerSize+messageHeader : extensionsAt(stream)]
	msg := append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return record(typeHandshake, msg)
}

// mutated is data with another byte at i.
func mutated(data []byte, i int, b byte) []byte {
	data = slices.Clone(data)
	data[i] = b
	return data
}

// ssl2Hello asks for TLS 1.2 in the form of SSL 2.0.
func ssl2Hello() []byte {
	hello := []byte{typeClientHello, 3, 3, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f}
	hello = append(hello, make([]byte, 16)...)
	return append([]byte{0x80, byte(len(hello))}, hello...)
}
