//go:build e2e && linux

// This file builds unusual ClientHellos and sequences of them, and parses the server's
// messages.

package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
)

// The names in the servers' certificates. Only the first is allowed.
const (
	servedAllowed = "allowed.example"
	servedOther   = "other.example"
)

// The content types of records (RFC 8446 section 5.1).
const (
	recordCCS       = 20
	recordAlert     = 21
	recordHandshake = 22
	recordData      = 23
)

// record returns a TLS record.
func record(contentType byte, version uint16, fragment []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{contentType}, version)
	b = binary.BigEndian.AppendUint16(b, uint16(len(fragment)))
	return append(b, fragment...)
}

func ccs() []byte { return record(recordCCS, 0x0303, []byte{1}) }

// hello is a ClientHello (RFC 8446 section 4.1.2). The zero value is for TLS 1.3 and
// has no server name and no key share, so that a server sends a HelloRetryRequest.
type hello struct {
	names       []byte // data of server_name; nil for none
	secondNames []byte // data of a second server_name; nil for none
	legacy      uint16 // legacy_version; 0 for 0x0303
	tls12       bool   // offer only TLS 1.2
	share       bool   // offer a key share
	session     []byte // session ID; nil for 32 bytes
	padding     int    // bytes of unknown extensions
	early       bool   // announce early data
	nameLast    bool   // put server_name after the other extensions
	trailing    int    // bytes after the extensions
	lengthened  int    // added to the length of the message
}

// name returns the data of server_name with one host_name for each argument.
func name(names ...string) []byte {
	var list []byte
	for _, n := range names {
		list = append(list, nameEntry(0, n)...)
	}
	return vector(2, list)
}

func nameEntry(kind byte, n string) []byte { return append([]byte{kind}, vector(2, []byte(n))...) }

// vector returns b with a length prefix of size bytes.
func vector(size int, b []byte) []byte {
	length := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	return append(length[4-size:], b...)
}

func extension(kind uint16, data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, kind), vector(2, data)...)
}

// message returns the handshake message.
func (h hello) message() []byte {
	var named []byte
	for _, data := range [][]byte{h.names, h.secondNames} {
		if data != nil {
			named = append(named, extension(0, data)...)
		}
	}
	exts := extension(10, vector(2, []byte{0, 29, 0, 23}))                                                   // supported_groups
	exts = append(exts, extension(11, []byte{1, 0})...)                                                      // ec_point_formats
	exts = append(exts, extension(13, vector(2, []byte{4, 3, 8, 4, 4, 1, 5, 3, 8, 5, 5, 1, 2, 3, 2, 1}))...) // signature_algorithms
	if !h.tls12 {
		exts = append(exts, extension(43, []byte{2, 3, 4})...) // supported_versions
		var shares []byte
		if h.share {
			shares = append([]byte{0, 29}, vector(2, bytes.Repeat([]byte{9}, 32))...)
		}
		exts = append(exts, extension(51, vector(2, shares))...)
	}
	if h.early {
		exts = append(exts, extension(42, nil)...)
	}
	for n := h.padding; n > 0; n -= 16000 {
		exts = append(exts, extension(uint16(0x4a4a+n), make([]byte, min(n, 16000)))...) // unknown extensions
	}
	if h.nameLast {
		exts = append(exts, named...)
	} else {
		exts = append(named, exts...)
	}
	if h.legacy == 0 {
		h.legacy = 0x0303
	}
	session := h.session
	if session == nil {
		session = bytes.Repeat([]byte{7}, 32)
	}
	body := binary.BigEndian.AppendUint16(nil, h.legacy)
	body = append(body, bytes.Repeat([]byte{5}, 32)...)
	body = append(body, vector(1, session)...)
	body = append(body, vector(2, []byte{0x13, 1, 0x13, 2, 0x13, 3, 0xc0, 0x2b, 0xc0, 0x2c, 0xc0, 0x23, 0xc0, 9, 0xc0, 0xa})...)
	body = append(body, 1, 0)
	body = append(body, vector(2, exts)...)
	body = append(body, make([]byte, h.trailing)...)
	length := vector(3, make([]byte, len(body)+h.lengthened))[:3]
	return slices.Concat([]byte{1}, length, body)
}

// layout defines how a message is split into records. The zero value uses as few
// records as possible.
type layout struct {
	version uint16 // 0 for 0x0301
	size    int    // bytes of the message per record; 0 for the maximum
	between []byte // inserted between the first and the second record
	before  []byte // inserted before the message in its first record
	after   []byte // appended to the message in its last record
}

func (l layout) encode(message []byte) []byte {
	if l.version == 0 {
		l.version = 0x0301
	}
	if l.size == 0 {
		l.size = 1 << 14
	}
	var out []byte
	for fragment := range slices.Chunk(slices.Concat(l.before, message, l.after), l.size) {
		if len(out) > 0 && l.between != nil {
			out = append(out, l.between...)
			l.between = nil
		}
		out = append(out, record(recordHandshake, l.version, fragment)...)
	}
	return out
}

// ssl2Hello is a ClientHello in the format of SSL 2.0 (RFC 5246 appendix E.2). It has
// no server name.
type ssl2Hello struct {
	version                              uint16
	suites, session, challenge, trailing int // sizes in bytes; suites are in addition to the usual ones
	lengthened, longSuites, longSession  int // added to the length fields
}

func (h ssl2Hello) record() []byte {
	suites := append([]byte{0, 0, 0x2f, 0, 0xc0, 0x2b, 0, 0xc0, 0x2c, 0, 0xc0, 9}, make([]byte, h.suites)...)
	b := binary.BigEndian.AppendUint16([]byte{1}, h.version)
	for _, length := range []int{len(suites) + h.longSuites, h.session + h.longSession, h.challenge} {
		b = binary.BigEndian.AppendUint16(b, uint16(length))
	}
	b = slices.Concat(b, suites, make([]byte, h.session+h.challenge+h.trailing))
	return append(binary.BigEndian.AppendUint16(nil, uint16(0x8000+len(b)+h.lengthened)), b...)
}

// sequence is the data that one client sends.
type sequence struct {
	name        string
	sent        []byte // sent first
	then        []byte // sent after the server's first messages; nil for none
	validHellos int    // valid hellos for servedAllowed at the start of the sequence
}

// transcript is the unencrypted part of a server's messages.
type transcript struct {
	retries, hellos int    // HelloRetryRequests and other ServerHellos
	certificate     string // the name in the last unencrypted certificate
}

// served reports whether the server accepted a hello that is not for servedAllowed. A
// HelloRetryRequest alone does not count.
func (r transcript) served(s sequence) bool {
	answered := r.hellos
	if r.retries > 0 && r.hellos > 0 {
		answered++ // the HelloRetryRequest answers the first hello
	}
	return answered > s.validHellos || r.certificate == servedOther
}

// retry is the random value of a HelloRetryRequest (RFC 8446 section 4.1.3).
var retry = []byte("\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c")

// parseTranscript parses a server's messages up to the first encrypted one.
func parseTranscript(stream []byte) (r transcript) {
	var messages []byte
	for len(stream) >= 5 && stream[0] != recordData {
		n := min(5+int(binary.BigEndian.Uint16(stream[3:])), len(stream))
		if stream[0] == recordHandshake {
			messages = append(messages, stream[5:n]...)
		}
		stream = stream[n:]
	}
	for len(messages) >= 4 {
		n := 4 + int(messages[1])<<16 + int(messages[2])<<8 + int(messages[3])
		if n > len(messages) {
			break
		}
		switch body := messages[4:n]; {
		case messages[0] == 2 && len(body) >= 34 && bytes.Equal(body[2:34], retry):
			r.retries++
		case messages[0] == 2:
			r.hellos++
		case messages[0] == 11 && len(body) > 6:
			if cert, err := x509.ParseCertificate(body[6:min(6+int(body[4])<<8+int(body[5]), len(body))]); err == nil {
				r.certificate = strings.Join(cert.DNSNames, " ")
			}
		}
		messages = messages[n:]
	}
	return r
}

// play sends a sequence and reads the server's messages to the end. It half-closes the
// connection, so that the server ends, too.
func play(conn *net.TCPConn, s sequence) (transcript, error) {
	var received []byte
	if _, err := conn.Write(s.sent); err != nil {
		return transcript{}, nil // refused before all was sent
	}
	if s.then != nil {
		first := make([]byte, 4096)
		n, err := conn.Read(first)
		received = append(received, first[:n]...)
		if err == nil {
			if _, err := conn.Write(s.then); err != nil {
				return parseTranscript(received), nil
			}
		}
	}
	conn.CloseWrite()
	rest, err := io.ReadAll(conn)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return transcript{}, fmt.Errorf("the server did not end the connection: %w", err)
	}
	return parseTranscript(append(received, rest...)), nil
}

// attacks returns hand-written sequences. Each was accepted by one of the servers at
// some time, and would pass a scanner that knows only the messages of real clients.
func attacks() []sequence {
	first := layout{}.encode(hello{names: name(servedAllowed)}.message())
	other := hello{names: name(servedOther), share: true}
	second := layout{}.encode(other.message())
	after := func(between []byte, h hello, l layout) []byte {
		return slices.Concat(first, between, l.encode(h.message()))
	}
	version := func(v uint16) hello { h := other; h.legacy = v; return h }
	large := other
	large.padding = 1<<16 + 100
	list := []sequence{
		{name: "another name", sent: second},
		{name: "no name", sent: layout{}.encode(hello{share: true}.message())},
		{name: "a second hello", sent: after(nil, other, layout{}), validHellos: 1},
		{name: "a second hello after a change_cipher_spec", sent: after(ccs(), other, layout{}), validHellos: 1},
		{name: "a second hello of version 4.3", sent: after(ccs(), version(0x0403), layout{}), validHellos: 1},
		{name: "a second hello of version 255.255", sent: after(nil, version(0xffff), layout{}), validHellos: 1},
		{name: "a second hello of more than 2^16 bytes", sent: after(nil, large, layout{}), validHellos: 1},
		{name: "a second hello in records of 40 bytes", sent: after(ccs(), other, layout{size: 40}), validHellos: 1},
		{name: "a second hello in records of one byte", sent: after(ccs(), other, layout{size: 1}), validHellos: 1},
		{name: "a second hello after a long alert", sent: after(record(recordAlert, 0x0303, []byte{1, 90, 1, 90}), other, layout{}), validHellos: 1},
		{name: "a second hello in the record of the first", sent: layout{after: other.message()}.encode(hello{names: name(servedAllowed)}.message()), validHellos: 1},
		{name: "a hello after an empty record", sent: slices.Concat(record(recordHandshake, 0x0301, nil), second)},
		{name: "a hello after an alert", sent: slices.Concat(record(recordAlert, 0x0301, []byte{1, 90}), second)},
		{name: "a hello after a long alert", sent: slices.Concat(record(recordAlert, 0x0301, []byte{1, 90, 0}), second)},
		{name: "an SSL 2.0 hello with a trailing byte", sent: ssl2Hello{version: 0x0303, challenge: 16, trailing: 1}.record()},
		{name: "an SSL 2.0 hello for version 4.3", sent: ssl2Hello{version: 0x0403, challenge: 16}.record()},
		{name: "an SSL 2.0 hello", sent: ssl2Hello{version: 0x0303, challenge: 16}.record()},
	}
	for _, s := range slices.Clone(list) {
		if s.validHellos > 0 && len(s.sent) > len(first) && bytes.HasPrefix(s.sent, first) {
			s.name, s.sent, s.then = s.name+", sent after the server's messages", first, s.sent[len(first):]
			list = append(list, s)
		}
	}
	return list
}

// pick returns a random choice. The first has a probability of at least one half.
func pick[T any](rng *rand.Rand, choices ...T) T {
	if rng.IntN(2) == 0 {
		return choices[0]
	}
	return choices[rng.IntN(len(choices))]
}

// junk returns a random unusual record.
func junk(rng *rand.Rand) []byte {
	version := pick[uint16](rng, 0x0303, 0x0301, 0x0300, 0x0304, 0, 0x0200, 0x0403, 0x0f0f, 0xffff)
	switch rng.IntN(6) {
	case 0, 1:
		return record(recordCCS, version, pick(rng, []byte{1}, nil, []byte{2}, []byte{1, 1}, []byte{1, 1, 1}))
	case 2, 3:
		return record(recordAlert, version, pick(rng, []byte{1, 90}, nil, []byte{1}, []byte{1, 0}, []byte{1, 90, 0}, []byte{1, 90, 1, 90}, []byte{0, 90}, []byte{3, 90}, []byte{2, 90}, bytes.Repeat([]byte{1, 112}, 20)))
	case 4:
		return record(recordHandshake, version, pick(rng, nil, []byte{0, 0, 0, 0}, []byte{5, 0, 0, 0}, []byte{24, 0, 0, 1, 0}, []byte{20, 0, 0, 0}, []byte{4, 0, 0, 0}))
	}
	return record(pick[byte](rng, recordData, 24, 0, 99, 255, 25), version, make([]byte, pick(rng, 0, 1, 17, 40, 300, 1<<14)))
}

// sequences returns count random sequences, the same for each seed.
func sequences(seed uint64, count int) []sequence {
	rng := rand.New(rand.NewPCG(seed, 7))
	layouts := func() layout {
		return layout{
			version: pick[uint16](rng, 0x0301, 0x0303, 0x0300, 0x0304, 0x0302, 0, 0x0403, 0x0200, 0xffff),
			size:    pick(rng, 0, 1, 2, 4, 5, 9, 32, 36, 40, 64, 100, 200),
			between: pick(rng, nil, nil, ccs(), junk(rng)),
			before:  pick(rng, nil, nil, nil, nil, []byte{0, 0, 0, 0}),
			after:   pick(rng, nil, nil, nil, nil, nil, []byte{0}, []byte{0, 0, 0, 0}),
		}
	}
	changed := func(h hello) hello {
		for range rng.IntN(4) {
			switch rng.IntN(7) {
			case 0, 1:
				h.legacy = pick[uint16](rng, 0x0403, 0x0301, 0x0302, 0x0304, 0x0300, 0, 0xffff, 0x1003, 0x7f1c)
			case 2:
				h.session = pick(rng, []byte{}, []byte{1}, make([]byte, 33), make([]byte, 32))
			case 3:
				h.padding = pick(rng, 500, 1, 8000, 15000, 17000, 40000, 1<<16, 1<<17-1000)
			case 4:
				h.trailing = pick(rng, 1, 2, 4)
			case 5:
				h.lengthened = pick(rng, 1, -1, 4, 1<<16)
			case 6:
				h.nameLast, h.early = true, rng.IntN(2) == 0
			}
		}
		return h
	}
	several := func() (out []byte) {
		for range rng.IntN(4) {
			out = append(out, pick(rng, ccs(), junk(rng), junk(rng))...)
		}
		return out
	}
	var list []sequence
	for i := range count {
		s := sequence{name: fmt.Sprintf("sequence %d", i)}
		switch kind := rng.IntN(11); {
		case kind < 6: // a second hello
			first := hello{names: name(servedAllowed), early: rng.IntN(4) == 0, tls12: rng.IntN(10) == 0}
			other := changed(hello{names: pick(rng, name(servedOther), nil), share: true, tls12: first.tls12})
			s.validHellos, s.sent = 1, layout{size: pick(rng, 0, 1, 100)}.encode(first.message())
			rest := slices.Concat(several(), layouts().encode(other.message()))
			if rng.IntN(2) == 0 {
				s.then = rest
			} else {
				s.sent = append(s.sent, rest...)
			}
		case kind < 8: // a hello after other records
			other := changed(hello{names: pick(rng, name(servedOther), nil), share: true, tls12: rng.IntN(2) == 0})
			s.sent = slices.Concat(several(), layouts().encode(other.message()))
		case kind == 8: // the format of SSL 2.0
			h := ssl2Hello{version: pick[uint16](rng, 0x0303, 0x0304, 0x0301, 0x0300, 0x0403, 0x0002, 0x0200), challenge: pick(rng, 16, 32, 33, 8, 0)}
			for range rng.IntN(3) {
				switch rng.IntN(6) {
				case 0:
					h.suites = pick(rng, 3, 30, 1, 2, 9000, 15000, 16350, 17000)
				case 1:
					h.session = pick(rng, 32, 16, 1, 33, 40, 300)
				case 2:
					h.trailing = pick(rng, 1, 3, 50)
				case 3:
					h.lengthened = pick(rng, 1, -1, 50, 0x2000)
				case 4:
					h.longSuites = pick(rng, 1, -1, 3, -3)
				case 5:
					h.longSession = pick(rng, 1, -1, 16)
				}
			}
			s.sent = h.record()
			if rng.IntN(4) == 0 {
				s.validHellos, s.sent = 1, slices.Concat(layout{}.encode(hello{names: name(servedAllowed)}.message()), several(), s.sent)
			}
			s.sent = append(s.sent, several()...)
		default: // ambiguous names; with TLS 1.2 the server's certificate is visible
			ambiguous := pick(rng, name(servedAllowed, servedOther), name(servedOther, servedAllowed),
				vector(2, slices.Concat(nameEntry(1, servedAllowed), nameEntry(0, servedOther))),
				vector(2, slices.Concat(nameEntry(0, servedOther), nameEntry(1, servedAllowed))),
				name(servedAllowed+"\x00"+servedOther), name(servedOther+"\x00"), name(servedOther+"."), name(strings.ToUpper(servedOther)),
				append(name(servedAllowed), name(servedOther)...), []byte(servedOther), vector(2, []byte(servedOther)), nil)
			h := hello{tls12: true, names: ambiguous, nameLast: rng.IntN(2) == 0}
			switch rng.IntN(3) {
			case 0:
				h.secondNames = name(servedOther)
			case 1:
				h.names, h.secondNames = name(servedAllowed), ambiguous
			}
			s.validHellos, s.sent = 1, layouts().encode(changed(h).message())
		}
		list = append(list, s)
	}
	return list
}
