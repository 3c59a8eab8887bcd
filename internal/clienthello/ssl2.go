// Recognition of a ClientHello in SSL 2.0 format. It is refused, because it may
// ask for TLS 1.2 (RFC 5246 appendix E.2) and names no server.

package clienthello

// The format: a length of 15 bits with the highest bit of two bytes set, the
// message type, the requested version, three lengths, and the fields of these
// lengths.
const (
	ssl2Header     = 2
	ssl2Fixed      = 9       // from the message type to the last length
	ssl2MaxLength  = 1 << 14 // servers read none that are longer
	ssl2MaxSession = 32      // the longest session identifier
)

// maybeSSL2 reports whether b may be the beginning of such a hello. It follows
// what GnuTLS accepts: any version from 3.0, and bytes after the last field.
func maybeSSL2(b []byte) bool {
	at := func(i, missing int) int {
		if i < len(b) {
			return int(b[i])
		}
		return missing
	}
	number := func(i, missing int) int { return at(i, missing)<<8 | at(i+1, missing) }
	size := at(0, 0)&0x7f<<8 | at(1, 0xff)
	suites, session, challenge := number(5, 0), number(7, 0), number(9, 0)
	return at(0, 0) >= 0x80 && size <= ssl2MaxLength|0xff &&
		at(2, typeClientHello) == typeClientHello && at(3, sslMajor) >= sslMajor &&
		session <= ssl2MaxSession && ssl2Fixed+suites+session+challenge <= size
}

// ssl2 scans the next bytes of a possible SSL 2.0 hello. They need not be held
// back meanwhile, because a server does nothing before it has the whole hello.
func (s *Scanner) ssl2(b []byte) (Event, bool, error) {
	n := min(len(b), ssl2Header+ssl2Fixed-len(s.ssl2Prefix))
	s.ssl2Prefix = append(s.ssl2Prefix, b[:n]...)
	s.offset += n
	switch {
	case !maybeSSL2(s.ssl2Prefix):
		return s.finish()
	case len(s.ssl2Prefix) < ssl2Header+ssl2Fixed:
		return 0, true, nil
	}
	return 0, false, problemf("has the SSL 2.0 format, which RFC 6176 prohibits")
}
