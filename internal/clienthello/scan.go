// Package clienthello finds the TLS ClientHello at the beginning of a client's
// stream and reads its server name (RFC 8446 sections 4.1.2 and 5.1, RFC 6066
// section 3). It decrypts nothing and takes no part in the handshake.
//
// It knows no policy: its caller compares the name with another one. A
// [Scanner] and a [ServerScanner] each follow one stream and are for one
// goroutine. They never block and keep no more than one hello in memory.
//
// The package is strict, and its measure is what servers accept and not what
// clients send. If a server might read a name that this package does not see,
// the result is an error and never "not TLS".
//
// Servers accept three things that a look at the first bytes misses:
//
//   - A second ClientHello. After a HelloRetryRequest (RFC 8446 section 4.1.4)
//     servers use the name in the second one, whatever the first one said.
//     OpenSSL before 1.1 also lets a client start again after its ServerHello.
//     So the scan continues until the server can accept no further ClientHello.
//     It needs the [ServerScanner] for that, because only the server's response
//     shows whether a record after the client's change_cipher_spec is a hello or
//     encrypted.
//   - Records before the first ClientHello. crypto/tls skips warning alerts,
//     and OpenSSL skips empty handshake records.
//   - A ClientHello in SSL 2.0 format (RFC 5246 appendix E.2). OpenSSL still
//     responds to it, and it has no field for a name.
//
// The package cannot see TLS that starts inside another protocol (STARTTLS),
// TLS over datagrams (QUIC, DTLS), or encrypted data: a renegotiation, and the
// inner hello of Encrypted Client Hello (RFC 9849).
package clienthello

// This file reads records and reassembles hellos.

import "fmt"

const (
	// MaxHello is the maximum size of a ClientHello in bytes. Those of browsers
	// have about 2,000.
	MaxHello = 16 << 10

	// MaxPending is the maximum size of a ClientHello in bytes including its
	// record headers. A long hello in tiny records reaches this limit first.
	MaxPending = 24 << 10
)

// Content types of records (RFC 8446 section 5.1).
const (
	typeChangeCipherSpec = 20
	typeAlert            = 21
	typeHandshake        = 22
	typeApplicationData  = 23
)

const (
	headerSize      = 5       // of a record
	maxFragment     = 1 << 14 // in a record
	messageHeader   = 4       // of a handshake message: type and length
	typeClientHello = 1       // of a handshake message
	sslMajor        = 3       // the first byte of every TLS version
	impossibleMajor = 0x10    // crypto/tls, the most lenient server, reads no first record of this version or above
)

// Event is the result of a scan.
type Event uint8

const (
	// Undecided means that more bytes are needed to recognise the protocol.
	Undecided Event = iota
	// Partial means that a ClientHello has begun and more bytes are needed.
	Partial
	// Found means that a ClientHello is complete; see [Scanner.Hello]. Scan the
	// same data again for what follows it.
	Found
	// Consumed means that all data was scanned and may go to the server. A
	// ClientHello may still follow. The next scan takes only the bytes after
	// this data.
	Consumed
	// Done means that the stream is not TLS or that no ClientHello can follow.
	Done
)

// Error reports bytes that a server might accept as a ClientHello, or as the
// start of one, but that this package cannot read as one.
type Error struct {
	Problem string // as in "the hello <problem>"
}

func (e *Error) Error() string { return "clienthello: the hello " + e.Problem }

func problemf(format string, args ...any) error {
	return &Error{Problem: fmt.Sprintf(format, args...)}
}

// Scanner scans the stream of one client. The zero value is at its beginning. A
// Scanner is for one goroutine.
type Scanner struct {
	// Negotiated must be set before a scan once [ServerScanner] reports that the
	// server has sent its ServerHello. Until then a client can send no encrypted
	// handshake record, so each one counts as a hello.
	Negotiated bool

	hello Hello
	found bool // a hello has been found
	done  bool

	offset     int    // bytes of data scanned so far
	start      int    // where in data the hello begins
	recordLeft int    // remaining bytes of a handshake record
	message    []byte // the received part of a hello
	skip       int    // remaining bytes of an irrelevant record
	ssl2Prefix []byte // the received part of an SSL 2.0 hello
}

// Hello returns the ClientHello found last.
func (s *Scanner) Hello() Hello { return s.hello }

// Scan scans data. After [Consumed], and at first, data begins with the first
// byte not scanned yet. After any other event, data is the previous data with
// later bytes appended. Scan must not be called after it has returned an error.
// The error is an *[Error].
func (s *Scanner) Scan(data []byte) (Event, error) {
	for {
		event, again, err := s.step(data)
		switch {
		case err != nil:
			return Done, err
		case s.recordLeft > 0 && s.offset-s.start > MaxPending:
			return Done, problemf("does not end within %d bytes", MaxPending)
		case !again:
			return event, nil
		}
	}
}

// step scans one element and reports whether to scan another.
func (s *Scanner) step(data []byte) (e Event, again bool, err error) {
	if s.done {
		return Done, false, nil
	}
	rest := data[s.offset:]
	switch {
	case len(rest) == 0 && s.recordLeft == 0 && len(s.message) == 0:
		s.offset = 0
		if !s.found && len(s.ssl2Prefix) == 0 {
			return Undecided, false, nil
		}
		return Consumed, false, nil
	case s.skip > 0:
		n := min(s.skip, len(rest))
		s.skip -= n
		s.offset += n
		return 0, true, nil
	case s.recordLeft > 0:
		if len(rest) == 0 {
			return Partial, false, nil
		}
		n := min(s.recordLeft, len(rest))
		s.message = append(s.message, rest[:n]...)
		s.recordLeft -= n
		s.offset += n
		return s.handshakeMessage()
	case len(s.message) > 0:
		return s.continuationRecord(rest)
	case len(s.ssl2Prefix) > 0:
		return s.ssl2(rest)
	case !s.found:
		return s.firstRecord(rest)
	}
	return s.nextRecord(rest)
}

// finish ends the scan.
func (s *Scanner) finish() (Event, bool, error) {
	s.done = true
	s.message = nil
	return Done, false, nil
}

// enterRecord starts a handshake record of n bytes.
func (s *Scanner) enterRecord(n int) (Event, bool, error) {
	switch {
	case n == 0:
		return 0, false, problemf("has an empty record")
	case n > maxFragment:
		return 0, false, problemf("has a record of %d bytes", n)
	}
	if len(s.message) == 0 {
		s.start = s.offset
	}
	s.recordLeft = n
	s.offset += headerSize
	return 0, true, nil
}

// firstRecord scans the first bytes of the stream. It waits for no more bytes
// than it needs to recognise TLS, because a client of another protocol may be
// waiting for a response.
func (s *Scanner) firstRecord(b []byte) (Event, bool, error) {
	if b[0] >= 0x80 {
		return s.ssl2(b)
	}
	if b[0] < typeChangeCipherSpec || b[0] > typeApplicationData || len(b) > 1 && b[1] >= impossibleMajor {
		return s.finish()
	}
	if b[0] != typeHandshake {
		return s.leadingRecord(b)
	}
	if len(b) < headerSize {
		return Undecided, false, nil
	}
	n := int(b[3])<<8 | int(b[4])
	if n == 0 && b[1] != sslMajor {
		return s.finish() // no server skips such a record
	}
	if n > 0 {
		if len(b) == headerSize {
			return Undecided, false, nil
		}
		if b[headerSize] != typeClientHello {
			return s.finish() // no server accepts another message first
		}
	}
	if b[1] != sslMajor {
		return 0, false, problemf("is in a record of version %d.%d", b[1], b[2])
	}
	return s.enterRecord(n)
}

// leadingRecord scans a first record that is not a handshake record. A server
// might skip it. With a version that is not TLS, only short records are
// skipped: an alert of two bytes (or one, if fragmented), a change_cipher_spec
// of one, or empty application data.
func (s *Scanner) leadingRecord(b []byte) (Event, bool, error) {
	ofTLS := len(b) > 1 && b[1] == sslMajor
	if !ofTLS && (len(b) > 3 && b[3] != 0 || len(b) >= headerSize && b[4] > maxSkippedLength(b[0])) {
		return s.finish()
	}
	if len(b) < headerSize {
		return Undecided, false, nil
	}
	return 0, false, problemf("comes after a record of content type %d", b[0])
}

// maxSkippedLength returns the length of the longest record of a type that a
// server may skip in spite of its version.
func maxSkippedLength(contentType byte) byte {
	switch contentType {
	case typeAlert:
		return 2
	case typeChangeCipherSpec:
		return 1
	}
	return 0
}

// nextRecord scans the first bytes of a record after a hello. It ignores the
// version, as RFC 8446 section 5.1 requires of servers. Unless the record holds
// a hello, it also ignores the length, because some servers skip records of
// types and lengths that others refuse.
func (s *Scanner) nextRecord(b []byte) (Event, bool, error) {
	if s.Negotiated && (b[0] == typeChangeCipherSpec || b[0] == typeApplicationData) {
		return s.finish() // all later records are encrypted
	}
	if b[0] >= 0x80 {
		return 0, false, problemf("is followed by a possible SSL 2.0 hello")
	}
	if len(b) < headerSize {
		return Undecided, false, nil
	}
	n := int(b[3])<<8 | int(b[4])
	if b[0] == typeHandshake {
		return s.enterRecord(n)
	}
	s.skip = n
	s.offset += headerSize
	return 0, true, nil
}

// continuationRecord scans a record with the next fragment of a hello.
func (s *Scanner) continuationRecord(b []byte) (Event, bool, error) {
	switch {
	case len(b) > 0 && b[0] != typeHandshake:
		// RFC 8446 section 5.1: no other records in between.
		return 0, false, problemf("is interrupted by a record of content type %d", b[0])
	case len(b) < headerSize:
		return Partial, false, nil
	case b[1] != sslMajor:
		return 0, false, problemf("continues in a record of version %d.%d", b[1], b[2])
	}
	return s.enterRecord(int(b[3])<<8 | int(b[4]))
}

// handshakeMessage scans the received part of a handshake message.
func (s *Scanner) handshakeMessage() (Event, bool, error) {
	switch {
	case s.message[0] == typeClientHello:
	case s.Negotiated:
		return s.finish() // unencrypted, as in every TLS 1.2 handshake
	default:
		return 0, false, problemf("is followed by a handshake message of type %d before the server's response", s.message[0])
	}
	if len(s.message) < messageHeader {
		return 0, true, nil
	}
	size := messageHeader + int(s.message[1])<<16 + int(s.message[2])<<8 + int(s.message[3])
	switch {
	case size > MaxHello:
		return 0, false, problemf("has %d bytes; the limit is %d", size, MaxHello)
	case len(s.message)+s.recordLeft > size:
		return 0, false, problemf("shares a record with another message")
	case len(s.message) < size:
		return 0, true, nil
	}
	hello, err := parse(s.message[messageHeader:])
	if err != nil {
		return 0, false, err
	}
	s.hello, s.found = hello, true
	s.message = nil
	return Found, false, nil
}
