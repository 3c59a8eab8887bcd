package httprule

// This file finds paths that servers read in more than one way, and iterates over
// the segments of a path.

import "strings"

// maxPath is the longest path that is judged, in bytes. It bounds the time that
// patterns take, and is more than servers accept in a request line by default.
const maxPath = 8 << 10

// pathProblem describes why servers may read path in more than one way, or
// returns the empty string. A path with encoded slashes is reported as such, and
// has no problem if both of its readings have none.
//
// The readings it guards against, for each kind of character:
//
//   - dot segments: removed by some (RFC 3986 section 5.2.4), also if encoded
//   - %2F, %5C, and a raw backslash: a separator for some
//   - %25: decoded twice by some
//   - %00 to %1F and %7F: the end of the path, or dropped
//   - overlong UTF-8, such as %C0%AF: decoded to ASCII by some
//   - an incomplete escape: kept, dropped or refused
//   - a semicolon: begins a parameter of the segment (RFC 3986 section 3.3), which
//     some remove before they look for dot segments
//   - empty segments: merged by some
//   - #, blanks, control characters and bytes above 0x7e: no path has them (RFC
//     3986 section 3.3), so every server reads them in its own way
func pathProblem(path string) (problem string, encodedSlash bool) {
	if path == "" || path[0] != '/' {
		return "it does not begin with a slash", false
	}
	if len(path) > maxPath {
		return "it is longer than 8192 bytes", false
	}
	var segment segmentCheck
	for i := 1; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '/':
			problem = segment.end(false)
		case c == '%':
			if c, problem = escape(path[i:]); problem != "" {
				return problem, encodedSlash
			}
			i += 2
			if c == '/' {
				encodedSlash = true
				problem = segment.end(false)
			} else {
				segment.add(c)
			}
		default:
			problem = rawProblem(c)
			segment.add(c)
		}
		if problem != "" {
			return problem, encodedSlash
		}
	}
	return segment.end(true), encodedSlash
}

// segmentCheck is the part of a segment read so far.
type segmentCheck struct {
	length int  // in decoded bytes
	other  bool // it has a byte other than a dot
}

func (s *segmentCheck) add(c byte) {
	s.length++
	s.other = s.other || c != '.'
}

// end ends the segment and returns its problem. Only the last one may be empty.
func (s *segmentCheck) end(last bool) string {
	length, other := s.length, s.other
	*s = segmentCheck{}
	switch {
	case length == 0 && !last:
		return "it has an empty segment (//)"
	case !other && (length == 1 || length == 2):
		return `it has a dot segment ("." or "..")`
	}
	return ""
}

// rawProblem describes the problem with the byte c of a path.
func rawProblem(c byte) string {
	switch {
	case c == ';':
		return "it has a semicolon"
	case c == '\\':
		return "it has a backslash"
	case c == '#':
		return "it has a number sign (#)"
	case c == ' ':
		return "it has a blank"
	case c < ' ' || c == 0x7f:
		return "it has a control character"
	case c > 0x7f:
		return "it has a byte that is not ASCII; clients send those as %XX"
	}
	return ""
}

// escape decodes the escape that s begins with, and describes its problem.
func escape(s string) (c byte, problem string) {
	c, ok := decodeEscape(s)
	if !ok {
		return 0, "it has an incomplete escape (% without two hexadecimal digits)"
	}
	switch {
	case c < ' ' || c == 0x7f:
		return c, "it has an encoded control character"
	case c == '\\':
		return c, "it has an encoded backslash (%5C)"
	case c == '%':
		return c, "it has an encoded percent sign (%25)"
	case c >= 0x80 && overlong(c, s[3:]):
		return c, "it has an overlong encoding in UTF-8"
	}
	return c, ""
}

// overlong reports whether c begins a longer UTF-8 sequence than its character
// needs (RFC 3629 section 3). Decoders that do not check that decode it to the
// character, such as a slash. rest begins with the next byte's escape.
func overlong(c byte, rest string) bool {
	if c == 0xc0 || c == 0xc1 || c >= 0xf8 {
		return true
	}
	second, ok := decodeEscape(rest)
	return ok && (c == 0xe0 && 0x80 <= second && second < 0xa0 || c == 0xf0 && 0x80 <= second && second < 0x90)
}

// decodeEscape decodes "%XX" at the beginning of s.
func decodeEscape(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, low := unhex(s[1]), unhex(s[2])
	return high<<4 | low&0xf, high <= 0xf && low <= 0xf
}

// unhex returns the value of a hexadecimal digit, or 0xff if c is none.
func unhex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// segmentAt returns the segment of path that begins at i, and where the next one
// begins: after the end of path if it is the last. If split is set, an encoded
// slash separates segments too.
func segmentAt(path string, i int, split bool) (segment string, next int) {
	for j := i; j < len(path); j++ {
		if path[j] == '/' {
			return path[i:j], j + 1
		}
		if split && path[j] == '%' && len(path) > j+2 && path[j+1] == '2' && path[j+2]|0x20 == 'f' {
			return path[i:j], j + 3
		}
	}
	return path[i:], len(path) + 1
}

// hasSegments reports whether path, which has no problem, ends with segments,
// without the slash before them.
func hasSegments(path, segments string) bool {
	begin := len(path) - len(segments)
	return begin > 0 && path[begin-1] == '/' && strings.HasSuffix(path, segments)
}
