// Comparison with independent servers: the scan must find every ClientHello
// that crypto/tls accepts, with the same name, or refuse it.

package clienthello

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// finishedConn is a connection on which the client has sent its whole stream.
type finishedConn struct {
	captured
	stream io.Reader
}

func (s *finishedConn) Read(p []byte) (int, error) { return s.stream.Read(p) }

// readByTLS returns the name that a crypto/tls server reads in a stream. ok
// reports whether it read a hello.
func readByTLS(stream []byte) (name string, ok bool) {
	enough := errors.New("enough")
	tls.Server(&finishedConn{stream: bytes.NewReader(stream)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, enough
		},
	}).Handshake()
	return name, ok
}

// compareWithTLS fails the test if a server accepts a hello that the scan
// passes without the same name.
func compareWithTLS(t *testing.T, stream []byte) {
	t.Helper()
	name, ok := readByTLS(stream)
	if !ok {
		return
	}
	got := scanAll(stream, max(len(stream), 1), nil)
	if got.err != nil {
		return
	}
	if len(got.names) == 0 || got.names[0] != name {
		t.Fatalf("crypto/tls read the name %q, the scan %q and event %d, in\n%x", name, got.names, got.last, stream)
	}
}

// TestOracleClients compares the hellos of crypto/tls, in many configurations,
// with the result of the scan.
func TestOracleClients(t *testing.T) {
	t.Parallel()
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	names := []string{"", "a.example", "A.Example", "203.0.113.7", "xn--bcher-kva.example", strings.Repeat("a.", 120) + "example"}
	versions := []uint16{0, tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}
	curves := []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519MLKEM768}
	echList := echConfigList(t, "public.example")
	for range 300 {
		c := &tls.Config{
			ServerName:             names[rng.IntN(len(names))],
			MinVersion:             tls.VersionTLS10,
			MaxVersion:             versions[rng.IntN(len(versions))],
			SessionTicketsDisabled: rng.IntN(2) == 0,
		}
		for range rng.IntN(4) {
			c.CurvePreferences = append(c.CurvePreferences, curves[rng.IntN(len(curves))])
			c.NextProtos = append(c.NextProtos, strings.Repeat("h", 1+rng.IntN(200)))
		}
		if rng.IntN(2) == 0 {
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA} // supported by every version up to 1.2
			for range rng.IntN(20) {
				c.CipherSuites = append(c.CipherSuites, tls.CipherSuites()[rng.IntN(len(tls.CipherSuites()))].ID)
			}
		}
		ech := c.ServerName != "" && (c.MaxVersion == 0 || c.MaxVersion == tls.VersionTLS13) && rng.IntN(2) == 0
		if ech {
			c.MinVersion = tls.VersionTLS13
			c.EncryptedClientHelloConfigList = echList
		}
		stream := clientHello(c)
		name, ok := readByTLS(stream)
		if !ok {
			t.Fatalf("crypto/tls cannot read its own hello for %+v", c)
		}
		if ech != (name == "public.example") {
			t.Fatalf("the outer name is %q for %+v", name, c)
		}
		if n := 1 + rng.IntN(len(stream)); rng.IntN(2) == 0 {
			stream = fragmented(stream, n)
		}
		var s Scanner
		event, err := s.Scan(stream)
		if h := s.Hello(); event != Found || h.ServerName != name || h.ECH != ech {
			t.Fatalf("event %d, %v, %+v; want the name %q and ECH %t", event, err, h, name, ech)
		}
	}
}

// echConfigList returns a configuration of Encrypted Client Hello (RFC 9849
// section 4) for DHKEM(X25519), HKDF-SHA256 and AES-128-GCM.
func echConfigList(t *testing.T, publicName string) []byte {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	vector := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	contents := slices.Concat(
		[]byte{7, 0, 0x20}, vector(key.PublicKey().Bytes()), // config_id, kem_id, public_key
		vector([]byte{0, 1, 0, 1}),       // cipher_suites
		[]byte{0, byte(len(publicName))}, // maximum_name_length, then public_name
		[]byte(publicName), []byte{0, 0},
	)
	return vector(append([]byte{0xfe, 0x0d}, vector(contents)...))
}

// TestOracleMutations compares randomly damaged hellos, and hellos after random
// records.
func TestOracleMutations(t *testing.T) {
	t.Parallel()
	rng := mathrand.New(mathrand.NewPCG(3, 4))
	seeds := seedStreams()
	read, streams := 0, scaled(20_000)
	for range streams {
		stream := slices.Clone(seeds[rng.IntN(len(seeds))])
		for range rng.IntN(3) {
			i := rng.IntN(min(len(stream), 120)) // headers and the first extensions
			switch rng.IntN(3) {
			case 0:
				stream[i] = byte(rng.Uint32())
			case 1:
				stream = slices.Insert(stream, i, byte(rng.Uint32()))
			default:
				stream[i] ^= 1 << rng.IntN(8)
			}
		}
		compareWithTLS(t, stream)
		if _, ok := readByTLS(stream); ok {
			read++
		}
	}
	if read < streams/4 {
		t.Errorf("crypto/tls read only %d of the streams", read)
	}
}

// scaled returns n, and a tenth of it under -short.
func scaled(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// seedStreams returns streams to mutate.
func seedStreams() [][]byte {
	hello := clientHello(&tls.Config{ServerName: "a.example", CurvePreferences: []tls.CurveID{tls.X25519}})
	old := clientHello(&tls.Config{ServerName: "a.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	empty := record(typeHandshake, nil)
	return [][]byte{
		hello,
		old,
		clientHello(&tls.Config{CurvePreferences: []tls.CurveID{tls.X25519}}),
		fragmented(hello, 1),
		fragmented(hello, 50),
		slices.Concat(warning, hello),
		slices.Concat(warning, warning, old),
		slices.Concat(changeCipherSpec, hello),
		slices.Concat(empty, hello),
		slices.Concat(hello, changeCipherSpec, old),
		slices.Concat(hello, changeCipherSpec, mutated(old, headerSize+messageHeader, 4)),
		slices.Concat(hello, record(typeAlert, []byte{1, 90, 1, 90}), fragmented(old, 40)),
		slices.Concat(hello, record(99, []byte{1}), mutated(old, headerSize+1, 1)),
		withExtension(hello, 42, nil),
		withExtension(hello, extECH, make([]byte, 60)),
		withExtension(hello, 0x1a1a, nil),
		withExtension(hello, extServerName, nil),
		withoutExtensions(hello),
		mutated(hello, 1, 9),
		ssl2Hello(),
		[]byte("GET / HTTP/1.1\r\n\r\n"),
		slices.Insert(make([]byte, 10), 0, typeHandshake),
	}
}

// lenient models a server that requests another hello forever and accepts as
// much as possible. It ignores versions and length limits, and skips all
// records other than handshake records, even within a hello, and all bytes
// after the fields that it knows. It returns the names in the hellos up to the
// first other message.
func lenient(stream []byte) (names []string) {
	var messages []byte
	for len(stream) >= headerSize && stream[0] < 0x80 {
		n := min(headerSize+int(stream[3])<<8+int(stream[4]), len(stream))
		if stream[0] == typeHandshake {
			messages = append(messages, stream[headerSize:n]...)
		}
		stream = stream[n:]
	}
	for len(messages) >= messageHeader && messages[0] == typeClientHello {
		n := messageHeader + int(messages[1])<<16 + int(messages[2])<<8 + int(messages[3])
		if n > len(messages) || n < messageHeader+2+32 {
			break
		}
		r := reader{rest: messages[messageHeader+2+32 : n]}
		r.vector(1)
		r.vector(2)
		r.vector(1)
		extensions := reader{rest: r.vector(2)}
		name := ""
		for !extensions.empty() {
			kind, data := extensions.number(2), extensions.vector(2)
			if kind == extServerName && len(data) > 5 {
				name = string(data[5:])
			}
		}
		if r.bad || extensions.bad {
			break
		}
		names = append(names, name)
		messages = messages[n:]
	}
	return names
}

// compareLenient fails the test if the lenient server reads a name that the
// scan passes unseen. It applies only if the scan has found a first hello.
func compareLenient(t *testing.T, stream []byte) {
	t.Helper()
	for _, answer := range [][]byte{nil, helloRetryRequest} {
		got := scanAll(stream, max(len(stream), 1), answer)
		if got.err != nil || len(got.names) == 0 || got.last == Partial {
			continue
		}
		if want := lenient(stream); len(want) > len(got.names) || !slices.Equal(want, got.names[:len(want)]) {
			t.Fatalf("the lenient server read the names %q, the scan %q and event %d, in\n%x", want, got.names, got.last, stream)
		}
	}
}

// TestOracleSecondHello compares two hellos, of which the second is randomly
// damaged, with random records in between.
func TestOracleSecondHello(t *testing.T) {
	t.Parallel()
	rng := mathrand.New(mathrand.NewPCG(5, 6))
	one, two := helloFor("a.example"), helloFor("b.example")
	let, seen, streams := 0, 0, scaled(30_000)
	for range streams {
		stream := slices.Clone(one)
		for range rng.IntN(4) {
			r := record([]byte{typeChangeCipherSpec, typeAlert, typeApplicationData, 24, byte(rng.Uint32())}[rng.IntN(5)], make([]byte, []int{1, 2, 0, 3, 500}[rng.IntN(5)]))
			r[1], r[2] = byte(rng.IntN(5)), byte(rng.Uint32())
			stream = append(stream, r...)
		}
		second := slices.Clone(two)
		if rng.IntN(2) == 0 {
			second = fragmented(two, 1+rng.IntN(200))
		}
		for range rng.IntN(4) {
			i := rng.IntN(min(len(second), 60))
			switch rng.IntN(3) {
			case 0:
				second[i] = byte(rng.Uint32())
			case 1:
				second = slices.Insert(second, i, byte(rng.Uint32()))
			default:
				second[i] ^= 1 << rng.IntN(8)
			}
		}
		stream = append(stream, second...)
		compareLenient(t, stream)
		if len(lenient(stream)) > 1 {
			seen++
			if scanAll(stream, len(stream), nil).err == nil {
				let++
			}
		}
	}
	if seen < streams/6 || let < streams/30 {
		t.Errorf("the lenient server accepted only %d second hellos, and the scan found %d of them", seen, let)
	}
}

func FuzzScan(f *testing.F) {
	for _, stream := range seedStreams() {
		f.Add(stream, uint16(7))
	}
	f.Fuzz(func(t *testing.T, stream []byte, n uint16) {
		compareWithTLS(t, stream)
		compareLenient(t, stream)

		// The sizes of the pieces must not change the result.
		whole, pieces := scanAll(stream, max(len(stream), 1), nil), scanAll(stream, int(n)+1, nil)
		if !slices.Equal(whole.names, pieces.names) || (whole.err == nil) != (pieces.err == nil) || whole.err == nil && whole.last != pieces.last {
			t.Fatalf("whole: %+v, in pieces of %d: %+v", whole, int(n)+1, pieces)
		}
		if last := whole.last; last == Found || last > Done {
			t.Fatalf("the scan ended with event %d", last)
		}
	})
}
