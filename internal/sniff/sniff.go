// Package sniff tells the kind of a connection by the first bytes of its client.
package sniff

import (
	"bytes"
)

// Kind is the kind of a connection, by the first bytes of its client.
type Kind uint8

const (
	Silent      Kind = iota // the client has sent nothing
	Undecided               // too few bytes
	Opaque                  // neither of those below
	HTTPRequest             // HTTP/1: must be judged by request
	TLSHello                // a TLS record with a handshake
)

// MaxBytes is the number of bytes that are looked at. A line that is longer and may
// be a request line counts as one; the HTTP front refuses it.
const MaxBytes = 4096

// Classify returns the kind of a connection whose client has sent b.
//
// Servers accept more than RFC 9112 section 3 permits in a request line. Everything
// that one of them could take for a request is therefore HTTPRequest: empty lines
// before it, any method, any white space, LF without CR. The HTTP front refuses what
// it cannot read. A line without "HTTP/" is at most HTTP/0.9, which cannot name a host.
func Classify(b []byte) Kind {
	if len(b) == 0 {
		return Silent
	}
	if b[0] == 0x16 { // handshake, RFC 8446 section 5.1
		return TLSHello
	}
	line := bytes.TrimLeft(b, " \t\v\f\r\n")
	method := bytes.IndexFunc(line, func(r rune) bool { return !isTokenByte(r) })
	switch {
	case len(line) == 0, method < 0:
		return whileShort(b)
	case method == 0, !isSpace(line[method]):
		return Opaque
	}
	line = line[method:]
	end := bytes.IndexByte(line, '\n')
	if end >= 0 {
		line = line[:end]
	}
	if version := indexFold(line, "http/"); version > 0 && isSpace(line[version-1]) {
		return HTTPRequest
	}
	if end >= 0 || bytes.IndexByte(line, 0) >= 0 { // git:// has a NUL here, and no server takes one
		return Opaque
	}
	return whileShort(b)
}

// whileShort returns Undecided for bytes that may begin a request line, and
// HTTPRequest if there are already too many.
func whileShort(b []byte) Kind {
	if len(b) >= MaxBytes {
		return HTTPRequest
	}
	return Undecided
}

// isTokenByte reports whether r may be part of a method (RFC 9110 section 5.6.2).
func isTokenByte(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return r < 0x80 && r > 0 && bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), byte(r)) >= 0
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\v' || c == '\f' || c == '\r' || c == '\n'
}

// indexFold returns the index of text in b without regard to case, or -1.
func indexFold(b []byte, text string) int {
	for i := range len(b) - len(text) + 1 {
		if bytes.EqualFold(b[i:i+len(text)], []byte(text)) {
			return i
		}
	}
	return -1
}
