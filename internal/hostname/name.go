package hostname

// This file holds the rules for names: allowed text, normalisation, and the
// canonical form.

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxName  = 253 // bytes of a name without its trailing dot: RFC 1035 section 3.1 in text form
	maxLabel = 63  // bytes of a label: RFC 1035 section 2.3.4

	// maxText limits the input of normalisation, because its cost is not linear.
	// It is enough for every name: 253 bytes of A-labels encode fewer than 253
	// characters of at most four bytes each.
	maxText = 4 * maxName
)

// lookupProfile is the lookup profile of package idna (UTS #46, non-transitional,
// with the Bidi rule of RFC 5893) without its rules for ASCII characters, hyphens
// and lengths. nameProblem has this package's rules for those. A Profile is
// immutable after New.
var lookupProfile = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.Transitional(false),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

// normalise returns the canonical form of the name s, which has passed textProblem.
func normalise(s string) (name, problem string) {
	name = strings.ToLower(s)
	if !isASCII(s) || mayHaveACE(name) {
		var err error
		if name, err = lookupProfile.ToASCII(s); err != nil {
			return "", "it is not a valid internationalised name (UTS #46)"
		}
		// The result must be stable: a later reader may map it again.
		if again, err := lookupProfile.ToASCII(name); err != nil || again != name {
			return "", "it is an internationalised name without a stable form (UTS #46)"
		}
	}
	// Only a dot in the input may be dropped as the root's. A last label that the
	// mapping removed ("a.xn--") also leaves a dot at the end.
	if endsInStop(s) {
		name = strings.TrimSuffix(name, ".")
	}
	if problem := nameProblem(name); problem != "" {
		return "", problem
	}
	return name, ""
}

// endsInStop reports whether s ends in one of the full stops of UTS #46 section
// 4.
func endsInStop(s string) bool {
	last, _ := utf8.DecodeLastRuneInString(s)
	return strings.ContainsRune(".\u3002\uff0e\uff61", last)
}

// textProblem describes the problem with text that neither an address nor a name
// can contain, or returns the empty string. It sees the input before any mapping,
// so that it can name the character.
func textProblem(s string) string {
	if len(s) > maxText {
		return "it is too long; a name has at most 253 bytes"
	}
	if !utf8.ValidString(s) {
		return "it is not UTF-8"
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c == 0:
			return "it has a NUL byte"
		case c < 0x20 || c == 0x7f:
			return "it has a control character"
		case c == ' ':
			return "it has a space"
		case c == '@':
			return "it has an @; leave user and password out"
		case c == '/' || c == '\\' || c == '?' || c == '#':
			return "it has a " + string(rune(c)) + "; write the host only, not a URL or a path"
		case c == '*':
			return "it has a wildcard; write one host"
		case strings.IndexByte("!\"$&'()+,;<=>^`{|}", c) >= 0:
			return "it has the character " + string(rune(c)) + ", which no host has"
		}
	}
	return ""
}

// nameProblem describes why s is not a canonical name, or returns the empty
// string. It does not allocate. It does not check the encoding in labels that
// begin with xn--; normalise does.
func nameProblem(s string) string {
	if s == "" {
		return "it is an empty name"
	}
	if len(s) > maxName {
		return "it is too long; a name has at most 253 bytes"
	}
	start := 0
	for i := range len(s) {
		c := s[i]
		if isNameByte(c) || c == '_' {
			continue
		}
		if c != '.' {
			return "it has a character that no name has"
		}
		if problem := labelProblem(s[start:i]); problem != "" {
			return problem
		}
		start = i + 1
	}
	last := s[start:]
	if problem := labelProblem(last); problem != "" {
		return problem
	}
	if isNumber(last) {
		return "it reads as an IPv4 address in an uncommon form, or ends like one; " +
			"write an address as four decimal numbers, such as 192.0.2.1, without a trailing dot"
	}
	return ""
}

// labelProblem describes the problem with the length of a label, or returns the
// empty string.
func labelProblem(label string) string {
	switch {
	case label == "":
		return "it has an empty label; write one dot between labels"
	case len(label) > maxLabel:
		return "it has a label of more than 63 bytes"
	}
	return ""
}

// isNumber reports whether a name with this last label "ends in a number" in the
// sense of the WHATWG URL standard: decimal or octal digits, or 0x and zero or more
// hexadecimal digits. It also accepts 0b and binary digits, which strtoul reads
// since C23. If it returns false, inet_aton in an operating system's resolver does
// not read the name as IPv4.
func isNumber(label string) bool {
	if label[0] < '0' || label[0] > '9' {
		return false
	}
	digits := "0123456789"
	if rest, ok := strings.CutPrefix(label, "0x"); ok {
		label, digits = rest, "0123456789abcdef"
	} else if rest, ok := strings.CutPrefix(label, "0b"); ok {
		label, digits = rest, "01"
	}
	return strings.Trim(label, digits) == ""
}

// isNameByte reports whether c is a lower-case letter, a digit or a hyphen.
func isNameByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-'
}

// mayHaveACE reports whether the lower-case text s may have a label in ASCII
// compatible encoding (RFC 5890 section 2.3.2.5). It has false positives.
func mayHaveACE(s string) bool { return strings.Contains(s, "xn--") }

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
