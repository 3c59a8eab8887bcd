// What the server says to a ClientHello, as far as the scan has to know it.

package clienthello

const (
	typeHelloRequest = 0 // of a handshake message; means nothing during a handshake
	typeServerHello  = 2 // also of a HelloRetryRequest

	// answerHead is how much of a ServerHello tells whether it is a
	// HelloRetryRequest: the message's header, legacy_version and random.
	answerHead = messageHeader + 2 + 32
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
	over       bool

	header [headerSize]byte // of the record, as far as it is there
	have   int              // bytes in header
	left   int              // bytes to come of the record

	head [answerHead]byte // of the message, as far as it is there
	read int              // bytes in head
	skip int              // bytes to come of a HelloRetryRequest
}

// Negotiated reports whether the server has sent a ServerHello that is not a
// HelloRetryRequest.
func (a *ServerScanner) Negotiated() bool { return a.negotiated }

// Scan looks at the next bytes of the stream. It reports whether it needs to see
// those behind them.
func (a *ServerScanner) Scan(data []byte) (more bool) {
	for len(data) > 0 && !a.over {
		switch {
		case a.left == 0:
			n := copy(a.header[a.have:], data)
			a.have += n
			data = data[n:]
			if a.have == headerSize {
				a.have = 0
				a.record()
			}
		case a.header[0] != typeHandshake:
			n := min(a.left, len(data))
			a.left -= n
			data = data[n:]
		case a.skip > 0:
			n := min(a.skip, a.left, len(data))
			a.skip -= n
			a.left -= n
			data = data[n:]
		default:
			// Byte by byte: where a message ends is known only after its header.
			a.head[a.read] = data[0]
			a.read++
			a.left--
			data = data[1:]
			a.message()
		}
	}
	return !a.over
}

// record looks at the header of a record. Nothing but alerts and a
// change_cipher_spec comes before a ServerHello.
func (a *ServerScanner) record() {
	if a.header[0] < typeChangeCipherSpec || a.header[0] > typeHandshake || a.header[1] != sslMajor {
		a.over = true
	}
	a.left = int(a.header[3])<<8 | int(a.header[4])
}

// message looks at what is there of a handshake message.
func (a *ServerScanner) message() {
	if a.read < messageHeader {
		return
	}
	size := messageHeader + int(a.head[1])<<16 + int(a.head[2])<<8 + int(a.head[3])
	switch {
	case a.head[0] == typeHelloRequest && size == messageHeader:
		a.read = 0
	case a.head[0] != typeServerHello || size < answerHead:
		a.over = true
	case a.read < answerHead:
	case string(a.head[messageHeader+2:]) == retryRandom:
		a.read, a.skip = 0, size-answerHead
	default:
		a.negotiated, a.over = a.head[messageHeader] == sslMajor, true
	}
}
