// The server's response to a ClientHello.

package clienthello

const (
	typeHelloRequest = 0 // of a handshake message; ignored during a handshake
	typeServerHello  = 2 // also the type of a HelloRetryRequest

	// serverHelloPrefix is the length of the part of a ServerHello that
	// identifies a HelloRetryRequest: the message header, legacy_version and
	// random.
	serverHelloPrefix = messageHeader + 2 + 32
)

// retryRandom is the random value that distinguishes a HelloRetryRequest from
// other ServerHellos (RFC 8446 section 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91" +
	"\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// ServerScanner scans the stream of a server up to its ServerHello. It reports
// only whether the server has passed the point where it could ask for another
// ClientHello. A stream that it cannot read has not.
//
// The zero value is at the beginning of the stream. A ServerScanner is for one
// goroutine.
type ServerScanner struct {
	negotiated bool
	done       bool

	header     [headerSize]byte // the received part of the record header
	headerLen  int              // received bytes of header
	recordLeft int              // remaining bytes of the record

	message    [serverHelloPrefix]byte // the received part of the message
	messageLen int                     // received bytes of message
	skip       int                     // remaining bytes of a HelloRetryRequest
}

// Negotiated reports whether the server has sent a ServerHello other than a
// HelloRetryRequest.
func (s *ServerScanner) Negotiated() bool { return s.negotiated }

// Scan scans the next bytes of the stream. It reports whether it needs the
// bytes after them.
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
			// Read byte by byte, because only its header tells where a message
			// ends.
			s.message[s.messageLen] = data[0]
			s.messageLen++
			s.recordLeft--
			data = data[1:]
			s.handshakeMessage()
		}
	}
	return !s.done
}

// record scans the header of a record. Only alerts and change_cipher_spec may
// precede a ServerHello.
func (s *ServerScanner) record() {
	if s.header[0] < typeChangeCipherSpec || s.header[0] > typeHandshake || s.header[1] != sslMajor {
		s.done = true
	}
	s.recordLeft = int(s.header[3])<<8 | int(s.header[4])
}

// handshakeMessage scans the received part of a handshake message.
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
