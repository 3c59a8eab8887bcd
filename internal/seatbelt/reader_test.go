package seatbelt

import (
	"fmt"
	"strings"
)

// list is an S-expression in parentheses. Its elements are of type list, string (a quoted
// string, without its quotes) or symbol.
type (
	list   []any
	symbol string
)

// readAll reads the S-expressions of a profile.
func readAll(text string) (rules []list, err error) {
	r := reader{rest: text}
	for r.space(); r.rest != ""; r.space() {
		value, err := r.value()
		if err != nil {
			return nil, err
		}
		rule, ok := value.(list)
		if !ok {
			return nil, fmt.Errorf("%v stands outside of parentheses", value)
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

type reader struct{ rest string }

func (r *reader) space() { r.rest = strings.TrimLeft(r.rest, " \t\n") }

func (r *reader) value() (any, error) {
	switch {
	case strings.HasPrefix(r.rest, "("):
		r.rest = r.rest[1:]
		elements := list{}
		for {
			r.space()
			if rest, ends := strings.CutPrefix(r.rest, ")"); ends {
				r.rest = rest
				return elements, nil
			}
			e, err := r.value()
			if err != nil {
				return nil, err
			}
			elements = append(elements, e)
		}
	case strings.HasPrefix(r.rest, `"`):
		return r.quoted()
	}
	end := strings.IndexAny(r.rest, " \t\n()\"\\;'`,")
	if end <= 0 {
		return nil, fmt.Errorf("cannot read %.20q", r.rest)
	}
	s := symbol(r.rest[:end])
	r.rest = r.rest[end:]
	return s, nil
}

// quoted reads a string. A backslash is followed by itself or a quote.
func (r *reader) quoted() (string, error) {
	var b strings.Builder
	for i := 1; i < len(r.rest); i++ {
		switch c := r.rest[i]; c {
		case '"':
			r.rest = r.rest[i+1:]
			return b.String(), nil
		case '\\':
			if i++; i == len(r.rest) || r.rest[i] != '"' && r.rest[i] != '\\' {
				return "", fmt.Errorf("unknown escape in %.40q", r.rest)
			}
			b.WriteByte(r.rest[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("the string %.40q does not end", r.rest)
}

// stringsIn returns the quoted strings in an expression.
func stringsIn(e any) (found []string) {
	switch e := e.(type) {
	case string:
		return []string{e}
	case list:
		for _, element := range e {
			found = append(found, stringsIn(element)...)
		}
	}
	return found
}
