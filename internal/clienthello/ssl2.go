// A ClientHello in the form of SSL 2.0 is recognised, and refused: it may ask
// for TLS 1.2 (RFC 5246 appendix E.2), and names no server.

package clienthello

// Of that form: a length of 15 bits with the highest bit of two bytes set, the
// message type, the version asked for, three lengths, and what they are of.
const (
	ssl2Header  = 2
	ssl2Fixed   = 9       // from the message type to the last length
	ssl2Longest = 1 << 14 // OpenSSL reads no longer ones
)

// likeSSL2 reports whether b may be the beginning of one. A client of a binary
// protocol (telnet's answers, say) must be told apart by its first few bytes.
func likeSSL2(b []byte) bool {
	at := func(i int) int { return int(b[i]) }
	if at(0) < 0x80 || at(0)&0x7f > ssl2Longest>>8 {
		return false
	}
	if len(b) > 2 && at(2) != typeClientHello || len(b) > 3 && at(3) != sslMajor {
		return false
	}
	for _, i := range [...]int{5, 7, 9} { // no length is larger than the whole
		if i < len(b) && at(i) > at(0)&0x7f {
			return false
		}
	}
	if len(b) < ssl2Header+ssl2Fixed {
		return true
	}
	size := (at(0)&0x7f)<<8 | at(1)
	return size == ssl2Fixed+(at(5)<<8|at(6))+(at(7)<<8|at(8))+(at(9)<<8|at(10))
}

func (s *Scanner) ssl2(b []byte) (Event, bool, error) {
	if len(b) < ssl2Header+ssl2Fixed {
		return Undecided, false, nil
	}
	return 0, false, problemf("has the form of SSL 2.0, which RFC 6176 forbids")
}
