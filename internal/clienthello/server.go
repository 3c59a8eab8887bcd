// What the server says to a ClientHello, as far as the scan has to know it.

package clienthello

const (
	typeHelloRequest = 0 // of a handshake message; means nothing during a handshake
	typeServerHello  = 2 // also of a HelloRetryRequest

	// answerHead is how much of a ServerHello tells whether it is a
	// HelloRetryRequest: the message's header, legacy_version and random.
	serverHelloPrefix = messageHeader + 2 + 32
)

// retryRandom is the random by which a HelloRetryRequest differs from another
// ServerHello (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// ServerScanner follows the stream of a server up to its ServerHello. It tells only one
// thing: whether the server has gone past the point where it could ask for
// another ClientHello. A stream that it cannot read is one that has not.
//
// The zero value is at the beginning of the stream. It is for one goroutine.
type ServerScanner struct {
	negotiated bool
	done       bool

	header     [headerSize]byte // of the record, as far as it is there
	headerLen  int              // bytes in header
	recordLeft int              // bytes to come of the record

	message    [serverHelloPrefix]byte // of the message, as far as it is there
	messageLen int                     // bytes in head
	skip       int                     // bytes to come of a HelloRetryRequest
}

// Negotiated reports whether the server has sent a ServerHello that is not a
// HelloRetryRequest.
func (s *ServerScanner) Negotiated() bool { return s.negotiated }

// Scan looks at the next bytes of the stream. It reports whether it needs to see
// those behind them.
func (s *ServerScanner) Scan(data []byte) (more bool) {
	for len(data) > 0 && !s.done {
		switch {
		case s.recordLeft == 0:
			n := copy(s.header[s.headerLen:], data)
			s.headerLen += n
			data = data[n:]
			if s.headerLen == headerSize {
				s.headerLen = 0
				s.record()
			}
		case s.header[0] != typeHandshake:
			n := min(s.recordLeft, len(data))
			s.recordLeft -= n
			data = data[n:]
		case s.skip > 0:
			n := min(s.skip, s.recordLeft, len(data))
			s.skip -= n
			s.recordLeft -= n
			data = data[n:]
		default:
			// Byte by byte: where a message ends is known only after its header.
			s.message[s.messageLen] = data[0]
			s.messageLen++
			s.recordLeft--
			data = data[1:]
			s.handshakeMessage()
		}
	}
	return !s.done
}

// record looks at the header of a record. Nothing but alerts and a
// change_cipher_spec comes before a ServerHello.
func (s *ServerScanner) record() {
	if s.header[0] < typeChangeCipherSpec || s.header[0] > typeHandshake || s.header[1] != sslMajor {
		s.done = true
	}
	s.recordLeft = int(s.header[3])<<8 | int(s.header[4])
}

// message looks at what is there of a handshake message.
func (s *ServerScanner) handshakeMessage() {
	if s.messageLen < messageHeader {
		return
	}
	size := messageHeader + int(s.message[1])<<16 + int(s.message[2])<<8 + int(s.message[3])
	switch {
	case s.message[0] == typeHelloRequest && size == messageHeader:
		s.messageLen = 0
	case s.message[0] != typeServerHello || size < serverHelloPrefix:
		s.done = true
	case s.messageLen < serverHelloPrefix:
	case string(s.message[messageHeader+2:]) == retryRandom:
		s.messageLen, s.skip = 0, size-serverHelloPrefix
	default:
		s.negotiated, s.done = s.message[messageHeader] == sslMajor, true
	}
}
