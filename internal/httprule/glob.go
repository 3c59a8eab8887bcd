package httprule

// This file holds patterns of text, and of paths as lists of segments. Both are
// matched in time proportional to the product of the lengths.

import "strings"

const (
	maxPattern  = 256 // bytes of a pattern
	maxWildRuns = 8   // "**" in a pattern of paths

	patternPrefix = "pattern:" // begins a glob
	literalPrefix = "literal:" // begins text that is taken as it stands
)

// unit is one element of a pattern, or one character of the text that is matched:
// a byte, possibly kept as an escape.
type unit uint16

const (
	escaped unit = 0x100 // set for a byte that stands in a path as %XX
	anyOne  unit = 0x200 // "?": one unit
	anyRun  unit = 0x201 // "*": any number of units
)

// encoding is how text writes its characters.
type encoding uint8

const (
	plain   encoding = iota // as bytes
	inPath                  // escapes of unreserved characters are decoded (RFC 3986 section 6.2.2.2)
	decoded                 // all escapes are decoded
	inForm                  // and a plus sign is a space
)

// at returns the unit of s at i and where the next one begins.
func (e encoding) at(s string, i int) (unit, int) {
	c := s[i]
	switch {
	case e == plain:
	case c == '+' && e == inForm:
		return ' ', i + 1
	case c == '%':
		b, ok := decodeEscape(s[i:])
		switch {
		case !ok:
		case e == inPath && !isUnreserved(b):
			return escaped | unit(b), i + 3
		default:
			return unit(b), i + 3
		}
	}
	return unit(c), i + 1
}

// isUnreserved reports whether c means the same with and without an escape (RFC
// 3986 section 2.3).
func isUnreserved(c byte) bool {
	return isAlphanumeric(c) || c == '-' || c == '.' || c == '_' || c == '~'
}

// glob is a pattern of text. The zero value matches the empty text.
type glob []unit

// match reports whether p matches all of s. If a part of s does not match, it
// goes back to the last "*" only: an earlier "*" could not make up for it.
func (p glob) match(s string, e encoding) bool {
	k, i := 0, 0
	star, retry := -1, 0
	for i < len(s) {
		u, next := e.at(s, i)
		switch {
		case k < len(p) && p[k] == anyRun:
			star, retry = k, i
			k++
		case k < len(p) && (p[k] == u || p[k] == anyOne):
			k, i = k+1, next
		case star >= 0:
			_, retry = e.at(s, retry)
			k, i = star+1, retry
		default:
			return false
		}
	}
	for k < len(p) && p[k] == anyRun {
		k++
	}
	return k == len(p)
}

// literal returns the pattern of exactly s.
func literal(s string, e encoding) glob {
	var p glob
	for i := 0; i < len(s); {
		var u unit
		u, i = e.at(s, i)
		p = append(p, u)
	}
	return p
}

// compile returns the glob that s describes: "*" is any number of characters, "?"
// is one, and "\*" is an asterisk. ok is false if there is another backslash.
func compile(s string, e encoding) (p glob, ok bool) {
	for i := 0; i < len(s); {
		switch {
		case s[i] == '*':
			p = append(p, anyRun)
			i++
		case s[i] == '?':
			p = append(p, anyOne)
			i++
		case strings.HasPrefix(s[i:], `\*`):
			p = append(p, '*')
			i += 2
		case s[i] == '\\':
			return nil, false
		default:
			var u unit
			u, i = e.at(s, i)
			p = append(p, u)
		}
	}
	return p, true
}

// parseValue parses the pattern of a parameter or field value.
func parseValue(text string) (glob, string) {
	switch {
	case len(text) > maxPattern:
		return nil, "is longer than 256 bytes"
	case text == "*":
		return nil, `is the literal value "*"; write "pattern:*" for any value, or "literal:*"`
	}
	if s, ok := strings.CutPrefix(text, literalPrefix); ok {
		return literal(s, plain), ""
	}
	s, ok := strings.CutPrefix(text, patternPrefix)
	if !ok {
		return literal(text, plain), ""
	}
	p, ok := compile(s, plain)
	if !ok {
		return nil, `has a backslash; in a pattern, only "\*" is an escape`
	}
	return p, ""
}

// segmentKind is the kind of an element of a path pattern.
type segmentKind uint8

const (
	oneMatching segmentKind = iota // a segment that matches the glob
	oneOfAny                       // any segment
	anyNumber                      // any number of segments
)

type segmentPattern struct {
	kind segmentKind
	glob glob
}

// match reports whether p matches a segment. An empty segment, which a slash at
// the end of a path makes, needs an empty glob.
func (p *segmentPattern) match(segment string, e encoding) bool {
	if p.kind == oneOfAny {
		return true
	}
	return (segment != "" || len(p.glob) == 0) && p.glob.match(segment, e)
}

// pathPattern is a pattern of whole paths: of the segments after each slash. "/a/"
// has the segments "a" and "".
type pathPattern []segmentPattern

// match reports whether p matches path, which has no problem. If split is set,
// encoded slashes separate segments too. It goes back to the last "**" only, as
// glob.match does.
func (p pathPattern) match(path string, e encoding, split bool) bool {
	k, i := 0, 1
	star, retry := -1, 0
	for i <= len(path) {
		if k < len(p) && p[k].kind == anyNumber {
			if k == len(p)-1 {
				return true
			}
			star, retry = k, i
			k++
			continue
		}
		segment, next := segmentAt(path, i, split)
		switch {
		case k < len(p) && p[k].match(segment, e):
			k, i = k+1, next
		case star >= 0:
			_, retry = segmentAt(path, retry, split)
			k, i = star+1, retry
		default:
			return false
		}
	}
	for k < len(p) && p[k].kind == anyNumber {
		k++
	}
	return k == len(p)
}

// decode makes p match text in the encoding decoded instead of inPath.
func (p pathPattern) decode() {
	for _, segment := range p {
		for i, u := range segment.glob {
			if u < anyOne {
				segment.glob[i] = u &^ escaped
			}
		}
	}
}

// parsePath parses an element of path_prefixes other than "*". The problem
// completes a sentence that begins with the quoted text.
func parsePath(text string) (p pathPattern, encodedSlash bool, problem string) {
	pattern, isPattern := strings.CutPrefix(text, patternPrefix)
	prefix, isLiteral := strings.CutPrefix(text, literalPrefix)
	switch {
	case len(text) > maxPattern:
		return nil, false, "is longer than 256 bytes"
	case isPattern:
		return parsePathGlob(pattern)
	case !isLiteral && strings.Contains(prefix, "*"):
		return nil, false, `has an asterisk, which a literal prefix takes as a character; write "pattern:" before a pattern, or "literal:" before the prefix`
	case strings.Contains(prefix, "?"):
		return nil, false, `has a question mark, where a query begins; write the path alone, and conditions on parameters under query`
	}
	problem, encodedSlash = pathProblem(prefix)
	if problem != "" {
		return nil, false, "matches nothing, because such paths are refused: " + problem
	}
	for i := 1; i <= len(prefix); {
		var segment string
		segment, i = segmentAt(prefix, i, false)
		p = append(p, segmentPattern{glob: literal(segment, inPath)})
	}
	if last := len(p) - 1; len(p[last].glob) == 0 {
		p[last].kind = oneOfAny // after the slash at the end
	}
	return append(p, segmentPattern{kind: anyNumber}), encodedSlash, ""
}

// parsePathGlob parses the text after "pattern:".
func parsePathGlob(text string) (p pathPattern, encodedSlash bool, problem string) {
	sample := strings.NewReplacer(`\*`, "x", "*", "x", "?", "x").Replace(text)
	if problem, encodedSlash = pathProblem(sample); problem != "" {
		return nil, false, "matches nothing, because such paths are refused: " + problem
	}
	runs := 0
	for segment := range strings.SplitSeq(text[1:], "/") {
		if segment == "**" {
			p = append(p, segmentPattern{kind: anyNumber})
			runs++
			continue
		}
		if strings.Contains(strings.ReplaceAll(segment, `\*`, ""), "**") {
			return nil, false, `has "**" beside other characters; it stands for whole segments, as in "pattern:/a/**/b"`
		}
		g, ok := compile(segment, inPath)
		if !ok {
			return nil, false, `has a backslash; in a pattern, only "\*" is an escape`
		}
		p = append(p, segmentPattern{glob: g})
	}
	if runs > maxWildRuns {
		return nil, false, `has more than 8 times "**"`
	}
	return p, encodedSlash, ""
}
