package http1

import (
	"net/textproto"
	"strings"
)

// fieldKind is what a field is to the framing of a message and to its parsers.
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

// cutCRLF cuts a line that is known to end with CRLF off a head.
func cutCRLF(text string) (line, rest string) {
	i := strings.IndexByte(text, '\r')
	for text[i+1] != '\n' { // a CR of its own; who reads the line refuses it
		i += 1 + strings.IndexByte(text[i+1:], '\r')
	}
	return text[:i], text[i+2:]
}

// hasControl reports whether s has a control character, a tab aside if tabs
// are permitted.
func hasControl(s string, tabs bool) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && !(tabs && c == '\t') || c == 0x7f {
			return true
		}
	}
	return false
}

// isToken reports whether s has only tchar of RFC 9110 section 5.6.2.
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

// equalsLower compares with a lower-case ASCII name of the same length.
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

// cutCRLF cuts a line, which may end with LF alone, off a head.
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

// listContains reports whether a list has a token.
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

// listsContain reports whether Trailer names a field.
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
