// Lexical rules of HTTP/1.1, shared by the parsers.

package http1

import (
	"net/textproto"
	"strings"
)

// fieldKind is the meaning that a field has for the parsers and for message
// framing.
type fieldKind uint8

const (
	fieldOther fieldKind = iota
	fieldHost
	fieldExpect
	fieldConnection
	fieldContentLength    // Content-Length
	fieldTransferEncoding // Transfer-Encoding
	fieldTrailer
)

// kindOf returns the kind of a field name.
func kindOf(name string) fieldKind {
	switch len(name) {
	case len("Host"):
		if equalsLower(name, "host") {
			return fieldHost
		}
	case len("Expect"):
		if equalsLower(name, "expect") {
			return fieldExpect
		}
	case len("Trailer"):
		if equalsLower(name, "trailer") {
			return fieldTrailer
		}
	case len("Connection"):
		if equalsLower(name, "connection") {
			return fieldConnection
		}
	case len("Content-Length"):
		if equalsLower(name, "content-length") {
			return fieldContentLength
		}
	case len("Transfer-Encoding"):
		if equalsLower(name, "transfer-encoding") {
			return fieldTransferEncoding
		}
	}
	return fieldOther
}

// cutCRLF cuts the first line from text, which must contain a CRLF.
func cutCRLF(text string) (line, rest string) {
	i := strings.IndexByte(text, '\r')
	for text[i+1] != '\n' { // a bare CR, which the caller rejects
		i += 1 + strings.IndexByte(text[i+1:], '\r')
	}
	return text[:i], text[i+2:]
}

// hasControl reports whether s contains a control character. A tab does not
// count if tabs is true.
func hasControl(s string, tabs bool) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && !(tabs && c == '\t') || c == 0x7f {
			return true
		}
	}
	return false
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if !tokenChars.has(s[i]) {
			return false
		}
	}
	return s != ""
}

// charSet is a set of ASCII characters.
type charSet [2]uint64

func newCharSet(s string) (set charSet) {
	for _, c := range []byte(s) {
		set[c/64] |= 1 << (c % 64)
	}
	return set
}

func (set *charSet) has(c byte) bool { return c < 128 && set[c/64]&(1<<(c%64)) != 0 }

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

var tokenChars = newCharSet(alphanumeric + "!#$%&'*+-.^_`|~")

// equalsLower reports whether name equals lower, ignoring ASCII case. lower
// must be in lower case and as long as name.
func equalsLower(name, lower string) bool {
	for i := range len(lower) {
		c := name[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// cutLine cuts the first line from text. The line may end with LF alone.
func cutLine(text string) (line, rest string) {
	i := strings.IndexByte(text, '\n')
	if i < 0 {
		return text, ""
	}
	line, rest = text[:i], text[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

// listContains reports whether a comma-separated list contains a token.
func listContains(list, token string) bool {
	if strings.IndexByte(list, ',') < 0 {
		return strings.EqualFold(list, token)
	}
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(part, " \t"), token) {
			return true
		}
	}
	return false
}

// listsContain reports whether one of the comma-separated lists contains a
// token.
func listsContain(lists []string, want string) bool {
	for _, list := range lists {
		for token := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(textproto.TrimString(token), want) {
				return true
			}
		}
	}
	return false
}

func listsClose(fields []string) bool { return listsContain(fields, "close") }
