// The scan against a server that is not ours: whatever crypto/tls takes for a
// ClientHello, the scan finds, with the same name, or refuses.

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

// sent is a connection on which a client has sent all it will.
type sent struct {
	captured
	stream io.Reader
}

func (s *sent) Read(p []byte) (int, error) { return s.stream.Read(p) }

// served is the name that crypto/tls, as a server, reads in a stream. ok tells
// that it got as far as to read one.
func served(stream []byte) (name string, ok bool) {
	enough := errors.New("enough")
	tls.Server(&sent{stream: bytes.NewReader(stream)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, ok = h.ServerName, true
			return nil, enough
		},
	}).Handshake()
	return name, ok
}

// compare fails the test if a server goes by a hello that the scan lets through
// without that name.
func compare(t *testing.T, stream []byte) {
	t.Helper()
	name, ok := served(stream)
	if !ok {
		return
	}
	got := scanAll(stream, max(len(stream), 1), nil)
	if got.err != nil {
		return
	}
	if len(got.names) == 0 || got.names[0] != name {
		t.Fatalf("crypto/tls reads the name %q, the scan %q and event %d, in\n%x", name, got.names, got.last, stream)
	}
}

// TestOracleClients compares what crypto/tls writes and reads with what the scan
// finds, over its configurations.
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
			c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA} // which every version up to 1.2 has
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
		name, ok := served(stream)
		if !ok {
			t.Fatalf("crypto/tls does not read what it writes for %+v", c)
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

// echConfigList is a published configuration of Encrypted Client Hello (RFC 9849
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

// TestOracleMutations compares on hellos with random damage, and behind random
// records.
func TestOracleMutations(t *testing.T) {
	t.Parallel()
	rng := mathrand.New(mathrand.NewPCG(3, 4))
	seeds := seedStreams()
	read := 0
	for range 20_000 {
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
		compare(t, stream)
		if _, ok := served(stream); ok {
			read++
		}
	}
	if read < 5000 {
		t.Errorf("crypto/tls read only %d of the streams", read)
	}
}

// seedStreams are streams to begin from.
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

func FuzzScan(f *testing.F) {
	for _, stream := range seedStreams() {
		f.Add(stream, uint16(7))
	}
	f.Fuzz(func(t *testing.T, stream []byte, n uint16) {
		compare(t, stream)

		// How the bytes come makes no difference to what is found.
		whole, pieces := scanAll(stream, max(len(stream), 1), nil), scanAll(stream, int(n)+1, nil)
		if !slices.Equal(whole.names, pieces.names) || (whole.err == nil) != (pieces.err == nil) || whole.err == nil && whole.last != pieces.last {
			t.Fatalf("whole: %+v, in pieces of %d: %+v", whole, int(n)+1, pieces)
		}
		if last := whole.last; last == Found || last > Over {
			t.Fatalf("ended with event %d", last)
		}
	})
}
