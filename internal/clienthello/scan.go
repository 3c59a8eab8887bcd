// Package clienthello finds the TLS ClientHello at the beginning of a client's
// stream, without being a party to the handshake, and reads the server name in
// it (RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3).
//
// It is made for a gate that has to compare that name with another one. Where a
// server might read a name that this package does not see, the answer is an
// error and never "this is not TLS": it goes by what servers accept, not by what
// clients send. What it accepts itself is narrow, for the same reason.
//
// Three things that servers accept and a glance at the first bytes misses:
//
//   - A second ClientHello. After a HelloRetryRequest (RFC 8446 section 4.1.4)
//     servers go by the name in the second one, whatever the first one said.
//     OpenSSL before 1.1 also lets a client begin again after its ServerHello.
//     The scan therefore goes on until the server can take no other ClientHello.
//     To know that, it has to be told of the server's [Answer]: what a client
//     sends after a change_cipher_spec may be a hello or encrypted, and only the
//     server knows which.
//   - Records before the first ClientHello. crypto/tls passes over alerts of level
//     warning, OpenSSL over empty handshake records.
//   - A ClientHello in the form of SSL 2.0 (RFC 5246 appendix E.2), which OpenSSL
//     still answers, and which has no place for a name.
//
// Out of sight are TLS that begins inside another protocol (STARTTLS), TLS over
// datagrams (QUIC, DTLS), and what is encrypted: a renegotiation, and the inner
// hello of Encrypted Client Hello (RFC 9849).
package clienthello

// This file walks over records and puts hellos together.

import "fmt"

const (
	// MaxHello is the most bytes that a ClientHello may have. Those of browsers
	// have about 2,000.
	MaxHello = 16 << 10

	// MaxPending is the most bytes that a ClientHello may take with the headers of
	// its records. A long one in records of a few bytes each runs into it.
	MaxPending = 24 << 10
)

// The content types of records (RFC 8446 section 5.1).
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
	sslMajor        = 3       // the first byte of every version of TLS
	impossibleMajor = 0x10    // crypto/tls, the most lenient, reads no first record of this version or above
)

// Event is what a scan has come to.
type Event uint8

const (
	// Undecided: too little is there to tell what it is. More is needed.
	Undecided Event = iota
	// Partial: a ClientHello has begun. More is needed.
	Partial
	// Found: there is a ClientHello; see [Scanner.Hello]. Scan the same data again
	// for what follows.
	Found
	// Consumed: everything was looked at, and a ClientHello, or another one, may
	// follow. What was looked at may go to the server. The next scan is of what
	// comes then, and of that alone.
	Consumed
	// Done: this is not TLS, or no ClientHello can follow.
	Done
)

// Error says why bytes that a server might take for a ClientHello, or for the way
// to one, cannot be read as one.
type Error struct {
	Problem string // as in "the hello <problem>"
}

func (e *Error) Error() string { return "clienthello: the hello " + e.Problem }

func problemf(format string, args ...any) error {
	return &Error{Problem: fmt.Sprintf(format, args...)}
}

// Scanner follows the stream of one client. The zero value is at its beginning.
// It is for one goroutine.
type Scanner struct {
	// Negotiated is to be set before a scan if [Answer] reports that the server
	// has sent its ServerHello. Until then a client can send nothing that is
	// encrypted as a handshake record, so that each one counts as a hello.
	Negotiated bool

	hello Hello
	found bool // a hello has been found
	done  bool

	offset     int    // of the data, how much was looked at
	start      int    // of the data, where the hello begins
	recordLeft int    // bytes to come of a handshake record
	message    []byte // what is there of a hello
	skip       int    // bytes to come of a record that does not matter
	ssl2Prefix []byte // what is there of a hello of SSL 2.0
}

// Hello is the ClientHello that was found last.
func (s *Scanner) Hello() Hello { return s.hello }

// Scan looks at data, which is what the client has sent since the beginning or
// since the last [Between]: after another event, the same bytes and those that
// have come since. Once it has returned an error it must not be called again.
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

// step looks at one thing, and reports whether to go on to the next.
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

// end ends the scan.
func (s *Scanner) finish() (Event, bool, error) {
	s.done = true
	s.message = nil
	return Done, false, nil
}

// enter begins a handshake record of n bytes.
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

// beginning looks at the first bytes of the stream. It waits for no more of them
// than are needed to tell whether they are TLS: a client of another protocol may
// be waiting for an answer.
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
		return s.finish() // not a record that anybody passes over
	}
	if n > 0 {
		if len(b) == headerSize {
			return Undecided, false, nil
		}
		if b[headerSize] != typeClientHello {
			return s.finish() // no server begins with another message
		}
	}
	if b[1] != sslMajor {
		return 0, false, problemf("is in a record of version %d.%d", b[1], b[2])
	}
	return s.enterRecord(n)
}

// prelude looks at a first record that is no handshake record. A server might pass
// over it. If its version is none of TLS, it is short in order to be passed over:
// an alert of two bytes (one, where it is in pieces), a change_cipher_spec of one,
// an empty one of application data.
func (s *Scanner) leadingRecord(b []byte) (Event, bool, error) {
	ofTLS := len(b) > 1 && b[1] == sslMajor
	if !ofTLS && (len(b) > 3 && b[3] != 0 || len(b) >= headerSize && b[4] > maxPaddingLength(b[0])) {
		return s.finish()
	}
	if len(b) < headerSize {
		return Undecided, false, nil
	}
	return 0, false, problemf("comes after a record of content type %d", b[0])
}

func maxPaddingLength(contentType byte) byte {
	switch contentType {
	case typeAlert:
		return 2
	case typeChangeCipherSpec:
		return 1
	}
	return 0
}

// following looks at the first bytes of a record after a hello. Its version does
// not matter: RFC 8446 section 5.1 has servers ignore it. Nor does its length,
// unless it holds a hello: some servers pass over records of kinds and lengths
// that others refuse.
func (s *Scanner) nextRecord(b []byte) (Event, bool, error) {
	if s.Negotiated && (b[0] == typeChangeCipherSpec || b[0] == typeApplicationData) {
		return s.finish() // encrypted from here on
	}
	if b[0] >= 0x80 {
		return 0, false, problemf("is followed by what may have the form of SSL 2.0")
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

// continuation looks at the record that has the next fragment of a hello.
func (s *Scanner) continuationRecord(b []byte) (Event, bool, error) {
	switch {
	case len(b) > 0 && b[0] != typeHandshake:
		// RFC 8446 section 5.1: other records do not come in between.
		return 0, false, problemf("is interrupted by a record of content type %d", b[0])
	case len(b) < headerSize:
		return Partial, false, nil
	case b[1] != sslMajor:
		return 0, false, problemf("goes on in a record of version %d.%d", b[1], b[2])
	}
	return s.enterRecord(int(b[3])<<8 | int(b[4]))
}

// message looks at what is there of a handshake message.
func (s *Scanner) handshakeMessage() (Event, bool, error) {
	switch {
	case s.message[0] == typeClientHello:
	case s.Negotiated:
		return s.finish() // in the clear, and the way of every handshake of TLS 1.2
	default:
		return 0, false, problemf("is followed by a handshake message of type %d, before the server has answered it", s.message[0])
	}
	if len(s.message) < messageHeader {
		return 0, true, nil
	}
	size := messageHeader + int(s.message[1])<<16 + int(s.message[2])<<8 + int(s.message[3])
	switch {
	case size > MaxHello:
		return 0, false, problemf("has %d bytes, and no more than %d are read", size, MaxHello)
	case len(s.message)+s.recordLeft > size:
		return 0, false, problemf("shares a record with something else")
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
