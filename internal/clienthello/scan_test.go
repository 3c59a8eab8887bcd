// Scans of real hellos in pieces of all sizes, of other protocols, and of
// streams that servers accept although they hide a name.

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

// captured is a connection that records writes and is at its end at once.
type captured struct{ bytes.Buffer }

func (*captured) Read([]byte) (int, error)         { return 0, io.EOF }
func (*captured) Close() error                     { return nil }
func (*captured) LocalAddr() net.Addr              { return nil }
func (*captured) RemoteAddr() net.Addr             { return nil }
func (*captured) SetDeadline(time.Time) error      { return nil }
func (*captured) SetReadDeadline(time.Time) error  { return nil }
func (*captured) SetWriteDeadline(time.Time) error { return nil }

// clientHello returns the first message of crypto/tls.
func clientHello(c *tls.Config) []byte {
	conn := new(captured)
	c.InsecureSkipVerify = true // permits an empty name
	tls.Client(conn, c).Handshake()
	return conn.Bytes()
}

func helloFor(name string) []byte { return clientHello(&tls.Config{ServerName: name}) }

// record returns a record with the fragment.
func record(contentType byte, fragment []byte) []byte {
	n := len(fragment)
	return append([]byte{contentType, 3, 1, byte(n >> 8), byte(n)}, fragment...)
}

// fragmented splits a stream of one record into records of n bytes.
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

// outcome is the result of a scan to its end, or of all data.
type outcome struct {
	names []string
	last  Event
	err   error
}

// scanAll scans the data in pieces of n bytes. The server's response arrives
// after the first hello.
func scanAll(data []byte, n int, response []byte) (o outcome) {
	var s Scanner
	var a ServerScanner
	var pending []byte
	for piece := range slices.Chunk(data, n) {
		pending = append(pending, piece...)
		o.last, o.err = s.Scan(pending)
		for ; o.last == Found; o.last, o.err = s.Scan(pending) {
			o.names = append(o.names, s.Hello().ServerName)
			a.Scan(response)
			response = nil
			s.Negotiated = a.Negotiated()
		}
		switch {
		case o.err != nil || o.last == Done:
			return o
		case o.last == Consumed:
			pending = nil
		}
	}
	return o
}

func TestScan(t *testing.T) {
	t.Parallel()
	one := helloFor("a.example")
	two := helloFor("b.example")
	padded := func(n int) []byte { return withExtension(one, 0x0a0a, make([]byte, n-len(one)-4+headerSize)) }
	tests := []struct {
		name  string
		data  []byte
		names string // joined by spaces
		last  Event
		err   string // substring
	}{
		{"nothing", nil, "", Undecided, ""},
		{"a hello", one, "a.example", Consumed, ""},
		{"a hello cut short", one[:len(one)-1], "", Partial, ""},
		{"the first byte", one[:1], "", Undecided, ""},
		{"the first record header", one[:5], "", Undecided, ""},
		{"the first byte of the message", one[:6], "", Partial, ""},
		{"in records of one byte", fragmented(one, 1), "a.example", Consumed, ""},
		{"in records of seven bytes", fragmented(one, 7), "a.example", Consumed, ""},
		{"without a name", helloFor(""), "", Consumed, ""},

		// Valid streams after a hello.
		{"then an alert", slices.Concat(one, record(typeAlert, []byte{2, 48})), "a.example", Consumed, ""},
		{"then another hello", slices.Concat(one, two), "a.example b.example", Consumed, ""},
		{"then another hello, after a change_cipher_spec", slices.Concat(one, changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"then another hello, after several and alerts", slices.Concat(one, changeCipherSpec, warning, changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"then another hello, in records of one byte", slices.Concat(one, fragmented(two, 1)), "a.example b.example", Consumed, ""},
		{"then another hello, cut short", slices.Concat(one, two[:50]), "a.example", Partial, ""},
		{"then another hello, malformed", slices.Concat(one, mutated(two, headerSize+messageHeader+2+32, 33)), "a.example", Done, "truncated"},
		{"then an empty record", slices.Concat(one, record(typeHandshake, nil), two), "a.example", Done, "empty record"},
		{"early data, then another hello", slices.Concat(one, record(typeApplicationData, make([]byte, 9000)), two), "a.example b.example", Consumed, ""},
		{"much early data, then another hello", slices.Concat(one, bytes.Repeat(record(typeApplicationData, make([]byte, 1<<14)), 100), two), "a.example b.example", Consumed, ""},
		{"then the key exchange of TLS 1.2, before the server's response", slices.Concat(one, record(typeHandshake, []byte{16, 0, 0, 33})), "a.example", Done, "handshake message of type 16"},

		// Streams that servers accept and that hide a name or have none.
		{"after an alert", slices.Concat(warning, one), "", Done, "after a record of content type 21"},
		{"after half an alert", slices.Concat(record(typeAlert, []byte{1}), one), "", Done, "after a record of content type 21"},
		{"after an alert of another version", slices.Concat(mutated(warning, 1, 0x0f), one), "", Done, "after a record of content type 21"},
		{"after a change_cipher_spec", slices.Concat(changeCipherSpec, one), "", Done, "after a record of content type 20"},
		{"after an empty record of application data", slices.Concat(record(typeApplicationData, nil), one), "", Done, "after a record of content type 23"},
		{"after an empty handshake record", slices.Concat(record(typeHandshake, nil), one), "", Done, "empty record"},
		{"in a record of another version", mutated(one, 1, 2), "", Done, "record of version 2.1"},
		{"in a record of the last version that crypto/tls reads", mutated(one, 1, 0x0f), "", Done, "record of version 15.1"},
		{"after a long alert", slices.Concat(record(typeAlert, []byte{1, 90, 0}), one), "", Done, "after a record of content type 21"},
		{"after application data", slices.Concat(record(typeApplicationData, make([]byte, 40)), one), "", Done, "after a record of content type 23"},
		{"of SSL 2.0", ssl2Hello(), "", Done, "SSL 2.0"},
		{"of SSL 2.0, for version 4.3", mutated(ssl2Hello(), 3, 4), "", Done, "SSL 2.0"},
		{"of SSL 2.0, with a trailing byte", mutated(append(ssl2Hello(), 0), 1, byte(len(ssl2Hello())-1)), "", Done, "SSL 2.0"},
		{"of SSL 2.0, with lengths that leave bytes over", mutated(ssl2Hello(), 6, 0), "", Done, "SSL 2.0"},
		{"of SSL 2.0, with a session", mutated(mutated(ssl2Hello(), 8, 16), 10, 0), "", Done, "SSL 2.0"},

		// Streams that no server accepts. They are refused all the same.
		{"with an empty record inside", slices.Concat(fragmented(one, 9)[:14], record(typeHandshake, nil)), "", Done, "empty record"},
		{"with an alert inside", slices.Concat(fragmented(one, 9)[:14], warning), "", Done, "interrupted by a record of content type 21"},
		{"with a record of another version inside", slices.Concat(fragmented(one, 9)[:14], []byte{22, 2, 1, 0, 9}), "", Done, "version 2.1"},
		{"with another message in its record", record(typeHandshake, slices.Concat(one[5:], one[5:])), "", Done, "shares a record"},
		{"in a record that is too long", append([]byte{22, 3, 1, 0x40, 1}, one[5:]...), "", Done, "record of 16385 bytes"},
		{"that is as long as it may be", fragmented(padded(MaxHello), 9000), "a.example", Consumed, ""},
		{"that is too long", fragmented(padded(MaxHello+1), 9000)[:100], "", Done, "the limit is 16384"},
		{"of too many records", fragmented(padded(MaxHello), 9), "", Done, "within 24576 bytes"},
		{"of no length", []byte{22, 3, 1, 0, 4, 1, 0, 0, 0}, "", Done, "truncated"},

		// Other protocols: the scan waits for no more bytes than necessary.
		{"HTTP", []byte("G"), "", Done, ""},
		{"SSH", []byte("S"), "", Done, ""},
		{"PostgreSQL", []byte{0}, "", Done, ""},
		{"a Ctrl-V and a letter", []byte{0x16, 'a'}, "", Done, ""},
		{"a Ctrl-U and a letter", []byte{0x15, 'a'}, "", Done, ""},
		{"telnet: IAC DO ECHO", []byte{0xff, 0xfd, 1}, "", Done, ""},
		{"Thrift's compact protocol", []byte{0x82, 0x21, 1, 4, 'e', 'c'}, "", Done, ""},
		{"Thrift's compact protocol, its first bytes", []byte{0x82, 0x21, 1, 4}, "", Consumed, ""}, // not held back
		{"a pong of WebSocket", []byte{0x8a, 0x80, 1, 3, 3, 3}, "", Consumed, ""},                  // not held back
		{"a message of WebSocket", []byte{0x81, 0x85, 1, 3, 3, 0, 'h', 'e', 'l', 'l', 'o'}, "", Done, ""},
		{"a high bit and no message type", []byte{0x82, 0x21, 7}, "", Done, ""},
		{"a high bit and inconsistent lengths", mutated(ssl2Hello(), 1, 0), "", Done, ""},
		{"MySQL: 22 bytes of packet 1", []byte{22, 0, 0, 1, 0x85, 0xa6}, "", Done, ""},
		{"a record that begins with another message", record(typeHandshake, []byte{2}), "", Done, ""},
		{"an empty record of another version", []byte{22, 0, 0, 0, 0}, "", Done, ""},
		{"a long alert of another version", []byte{21, 4, 1, 0, 3}, "", Done, ""},
		{"a longer alert of another version", []byte{21, 0, 0, 1}, "", Done, ""},
		{"heartbeat", []byte{24}, "", Done, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for _, n := range []int{1, 2, 3, 5, 6, 100, max(len(tt.data), 1)} {
				got := scanAll(tt.data, n, nil)
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

// Responses of servers.
var (
	helloRetryRequest = record(typeHandshake, serverHello(retryRandom))
	serverHello12     = record(typeHandshake, serverHello(strings.Repeat("r", 32)))
)

func serverHello(random string) []byte {
	return slices.Concat([]byte{typeServerHello, 0, 0, 2 + 32 + 6, 3, 3}, []byte(random), []byte{0, 0xc0, 0x2f, 0, 0, 0})
}

// TestScanAfterServerHello checks that the server's response determines what
// may follow a hello.
func TestScanAfterServerHello(t *testing.T) {
	t.Parallel()
	one, two := helloFor("a.example"), helloFor("b.example")
	finished := record(typeHandshake, slices.Concat([]byte{typeClientHello, 0, 1, 0x2c, 3, 3}, make([]byte, 34))) // encrypted, and looks like a hello
	tests := []struct {
		name     string
		response []byte
		data     []byte // after the first hello
		names    string
		last     Event
		err      string
	}{
		{"a ServerHello, then the finish of TLS 1.3", serverHello12, slices.Concat(changeCipherSpec, record(typeApplicationData, make([]byte, 69))), "a.example", Done, ""},
		{"a ServerHello, then the finish of TLS 1.3 alone", serverHello12, record(typeApplicationData, make([]byte, 69)), "a.example", Done, ""},
		{"a ServerHello, then the key exchange of TLS 1.2", serverHello12, record(typeHandshake, []byte{16, 0, 0, 33}), "a.example", Done, ""},
		{"a ServerHello, then the finish of a resumed session of TLS 1.2", serverHello12, slices.Concat(changeCipherSpec, finished), "a.example", Done, ""},
		{"a ServerHello, then another hello in the clear", serverHello12, slices.Concat(warning, two), "a.example b.example", Consumed, ""},
		{"a ServerHello after alerts and a HelloRequest", slices.Concat(warning, record(typeHandshake, make([]byte, 4)), serverHello12), changeCipherSpec, "a.example", Done, ""},
		{"a ServerHello in records of one byte", fragmented(serverHello12, 1), changeCipherSpec, "a.example", Done, ""},
		{"a ServerHello after a HelloRetryRequest", slices.Concat(fragmented(helloRetryRequest, 7), changeCipherSpec, serverHello12), changeCipherSpec, "a.example", Done, ""},
		{"a ServerHello after a HelloRetryRequest in one record", record(typeHandshake, append(serverHello(retryRandom), serverHello12[headerSize:]...)), changeCipherSpec, "a.example", Done, ""},

		{"a HelloRetryRequest, then another hello", helloRetryRequest, slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"a HelloRetryRequest, then something like a hello", helloRetryRequest, slices.Concat(changeCipherSpec, finished), "a.example", Partial, ""},
		{"a HelloRetryRequest in records of one byte", fragmented(helloRetryRequest, 1), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"a HelloRetryRequest, then another message", helloRetryRequest, record(typeHandshake, []byte{16, 0, 0, 33}), "a.example", Done, "handshake message of type 16"},
		{"half a ServerHello", serverHello12[:40], slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"a ServerHello of no version of TLS", mutated(serverHello12, headerSize+messageHeader, 2), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"a ServerHello that is too short", record(typeHandshake, []byte{typeServerHello, 0, 0, 33}), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"another message", record(typeHandshake, []byte{11, 0, 0, 0}), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"text", []byte("220 ready\r\n"), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
		{"a ServerHello after text", slices.Concat([]byte("220 ready\r\n"), serverHello12), slices.Concat(changeCipherSpec, two), "a.example b.example", Consumed, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			data := slices.Concat(one, tt.data)
			for _, n := range []int{1, 2, 7, len(data)} {
				got := scanAll(data, n, tt.response)
				if strings.Join(got.names, " ") != tt.names || got.last != tt.last || (got.err != nil) != (tt.err != "") || got.err != nil && !strings.Contains(got.err.Error(), tt.err) {
					t.Errorf("in pieces of %d: names %q, then event %d (%v); want %q, %d, %q", n, got.names, got.last, got.err, tt.names, tt.last, tt.err)
				}
			}
		})
	}
}

// TestServerScannerInPieces checks that the sizes of the pieces do not matter.
func TestServerScannerInPieces(t *testing.T) {
	t.Parallel()
	stream := slices.Concat(warning, helloRetryRequest, changeCipherSpec, serverHello12)
	end := len(stream) - 6 // of the random value
	for n := 1; n <= len(stream); n++ {
		var a ServerScanner
		done := 0
		for piece := range slices.Chunk(stream, n) {
			more := a.Scan(piece)
			done += len(piece)
			if a.Negotiated() != (done >= end) || more != (done < end) {
				t.Fatalf("in pieces of %d: after %d of %d bytes: negotiated %t, more %t", n, done, end, a.Negotiated(), more)
			}
		}
	}
}

// TestSecondHello checks that everything a server may accept as a second hello
// is found or refused.
func TestSecondHello(t *testing.T) {
	t.Parallel()
	one, two := helloFor("a.example"), helloFor("b.example")
	const version = headerSize + messageHeader // of the hello
	set := func(i int, values ...byte) []byte {
		out := slices.Clone(two)
		copy(out[i:], values)
		return out
	}
	second := map[string][]byte{
		"as it should be":             two,
		"of version 4.3":              set(version, 4, 3),
		"of version 3.0":              set(version, 3, 0),
		"of version 0.0":              set(version, 0, 0),
		"of version 255.255":          set(version, 0xff, 0xff),
		"of record version 0.0":       set(1, 0, 0),
		"of record version 3.4":       set(1, 3, 4),
		"of record version 4.0":       set(1, 4, 0),
		"of record version 255.255":   set(1, 0xff, 0xff),
		"longer than 2^16":            set(headerSize+1, 1),
		"longer than 2^17":            set(headerSize+1, 2),
		"longer than anything":        set(headerSize+1, 0xff, 0xff, 0xff),
		"in a record that is too big": set(3, 0x48, 0),
		"in a record of any size":     set(3, 0xff, 0xff),
		"in records of one byte":      fragmented(two, 1),
		"in records of 40 bytes":      fragmented(two, 40), // as many as an encrypted Finished has
		"in records of 32 bytes":      fragmented(two, 32),
		"after an empty record":       slices.Concat(record(typeHandshake, nil), two),
		"after another message":       slices.Concat(record(typeHandshake, []byte{0, 0, 0, 0}), two),
		"with another message":        record(typeHandshake, slices.Concat([]byte{0, 0, 0, 0}, two[headerSize:])),
		"with an alert inside":        slices.Concat(fragmented(two, 40)[:90], warning, fragmented(two, 40)[90:]),
		"of another type":             set(headerSize, 2),
		"of SSL 2.0":                  ssl2Hello(),
		"with a trailing byte":        record(typeHandshake, append(slices.Clone(two[headerSize:]), 0)),
	}
	between := map[string][]byte{
		"at once":                       nil,
		"after a change_cipher_spec":    changeCipherSpec,
		"after several":                 bytes.Repeat(changeCipherSpec, 40),
		"after an empty one":            record(typeChangeCipherSpec, nil),
		"after a long one":              record(typeChangeCipherSpec, []byte{1, 1, 1}),
		"after an alert":                warning,
		"after a long alert":            record(typeAlert, slices.Repeat([]byte{1, 90}, 100)),
		"after alerts in pieces":        slices.Concat(record(typeAlert, []byte{1}), record(typeAlert, []byte{90})),
		"after early data":              record(typeApplicationData, make([]byte, 100)),
		"after no early data":           record(typeApplicationData, nil),
		"after a heartbeat":             record(24, make([]byte, 19)),
		"after an unknown record":       record(99, make([]byte, 5)),
		"after another unknown record":  record(255, make([]byte, 5)),
		"after an empty unknown record": record(0, nil),
		"after a record of version 9.9": mutated(mutated(changeCipherSpec, 1, 9), 2, 9),
		"after a record of full length": record(typeApplicationData, make([]byte, 1<<16-1)),
	}
	for responseName, response := range map[string][]byte{"no response": nil, "HelloRetryRequest": helloRetryRequest} {
		for before, records := range between {
			for name, hello := range second {
				t.Run(responseName+"/"+name+", "+before, func(t *testing.T) {
					t.Parallel()
					data := slices.Concat(one, records, hello)
					for _, n := range []int{1, 7, len(data)} {
						got := scanAll(data, n, response)
						found := slices.Equal(got.names, []string{"a.example", "b.example"})
						if held := got.err != nil || got.last == Partial; !found && (!held || name == "as it should be" && before != "after another unknown record") {
							t.Errorf("in pieces of %d: names %q, then event %d (%v)", n, got.names, got.last, got.err)
						}
					}
				})
			}
		}
	}
}

// TestScanMemoryIsBounded checks that the data which Scan asks the caller to
// keep is bounded for pieces of any size, and that Scan itself keeps no more
// than a hello.
func TestScanMemoryIsBounded(t *testing.T) {
	t.Parallel()
	var s Scanner
	data := bytes.Repeat([]byte{22, 3, 1, 0, 1, 0}, MaxPending) // a hello with one byte in each record
	data[5], data[17] = typeClientHello, MaxHello>>8-1
	for n := 0; ; n++ {
		if _, err := s.Scan(data[:n]); err != nil {
			if n < MaxPending || n > MaxPending+2*headerSize {
				t.Errorf("after %d bytes: %v", n, err)
			}
			return
		}
		if cap(s.message) > MaxHello {
			t.Fatalf("Scan keeps %d bytes", cap(s.message))
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
	bare := helloFor("")
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
		{"two names", withExtension(bare, 0, list(entry(0, "a.example"), entry(0, "b.example"))), "", "without exactly one host_name"},
		{"another kind of name", withExtension(bare, 0, list(entry(1, "a.example"))), "", "without exactly one host_name"},
		{"another kind of name, then a name", withExtension(bare, 0, list(entry(1, "x"), entry(0, "b.example"))), "", "without exactly one host_name"},
		{"no list", withExtension(bare, 0, nil), "", "not a valid list"},
		{"an empty list", withExtension(bare, 0, list()), "", "not a valid list"},
		{"bytes after the list", withExtension(bare, 0, append(list(entry(0, "a.example")), 0)), "", "not a valid list"},
		{"a list cut short", withExtension(bare, 0, list(entry(0, "a.example"))[:8]), "", "not a valid list"},
		{"a NUL", withExtension(bare, 0, list(entry(0, "a.example\x00.b.example"))), "", "not printable"},
		{"a space", withExtension(bare, 0, list(entry(0, "a.example "))), "", "not printable"},
		{"an escape", withExtension(bare, 0, list(entry(0, "\x1b[2Ja"))), "", "not printable"},
		{"beyond ASCII", withExtension(bare, 0, list(entry(0, "bücher.example"))), "", "not printable"},
		{"the extension twice", withExtension(helloFor("a.example"), 0, list(entry(0, "a.example"))), "", "twice"},
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

// TestMalformed truncates a hello anywhere, and extends it: it must parse only
// as a whole.
func TestMalformed(t *testing.T) {
	t.Parallel()
	body := helloFor("a.example")[headerSize+messageHeader:]
	extensions := len(withoutExtensions(helloFor("a.example"))) - headerSize - messageHeader
	for n := range body {
		if _, err := parse(body[:n]); err == nil && n != extensions {
			t.Errorf("truncated to %d of %d bytes, the hello parses", n, len(body))
		}
	}
	if _, err := parse(append(slices.Clone(body), 0)); err == nil {
		t.Error("with a trailing byte, the hello parses")
	}
}

// extensionsAt returns the offset of the length of the extensions in a stream
// of one record.
func extensionsAt(stream []byte) int {
	at := headerSize + messageHeader + 2 + 32
	at += 1 + int(stream[at])
	at += 2 + int(stream[at])<<8 + int(stream[at+1])
	at += 1 + int(stream[at])
	return at
}

// withExtension inserts an extension before the others in a stream of one
// record.
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

// withoutExtensions truncates a stream of one record before its extensions.
func withoutExtensions(stream []byte) []byte {
	body := stream[headerSize+messageHeader : extensionsAt(stream)]
	msg := append([]byte{1, 0, byte(len(body) >> 8), byte(len(body))}, body...)
	return record(typeHandshake, msg)
}

// mutated returns data with byte i replaced.
func mutated(data []byte, i int, b byte) []byte {
	data = slices.Clone(data)
	data[i] = b
	return data
}

// ssl2Hello returns a hello in SSL 2.0 format that asks for TLS 1.2.
func ssl2Hello() []byte {
	hello := []byte{typeClientHello, 3, 3, 0, 3, 0, 0, 0, 16, 0, 0, 0x2f}
	hello = append(hello, make([]byte, 16)...)
	return append([]byte{0x80, byte(len(hello))}, hello...)
}
