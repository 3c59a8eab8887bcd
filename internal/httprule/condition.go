package httprule

// This file matches conditions on the query and the header, and finds the methods
// of a request.

import (
	"net/http"
	"strings"
)

// condition is the values that a parameter or field may have.
type condition struct {
	name   string // of a field: folded
	values []glob
}

func (c *condition) matches(value string, e encoding) bool {
	for _, v := range c.values {
		if v.match(value, e) {
			return true
		}
	}
	return false
}

// cutPair returns the first pair of a query in form encoding and the rest. Pairs
// end at "&", and if semicolons is set also at ";", as some servers read them.
func cutPair(query string, semicolons bool) (name, value, rest string) {
	end := len(query)
	for i := range len(query) {
		if query[i] == '&' || semicolons && query[i] == ';' {
			end, rest = i, query[i+1:]
			break
		}
	}
	name, value, _ = strings.Cut(query[:end], "=")
	return name, value, rest
}

// decodes reports whether every "%" in s begins an escape.
func decodes(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if _, ok := decodeEscape(s[i:]); !ok {
				return false
			}
			i += 2
		}
	}
	return true
}

// isForm reports whether s in form encoding is the text want.
func isForm(s, want string) bool {
	k := 0
	for i := 0; i < len(s); k++ {
		var u unit
		u, i = inForm.at(s, i)
		if k == len(want) || u != unit(want[k]) {
			return false
		}
	}
	return k == len(want)
}

// allowsQuery reports whether every occurrence of each parameter of r.query in
// query has a value that is listed, and each occurs. Semicolons must not matter:
// the query is read with and without them as separators.
func (r *Rule) allowsQuery(query string) bool {
	if len(r.query) == 0 && !r.queryOnly {
		return true
	}
	return decodes(query) && r.allowsPairs(query, false) &&
		(strings.IndexByte(query, ';') < 0 || r.allowsPairs(query, true))
}

func (r *Rule) allowsPairs(query string, semicolons bool) bool {
	for i := range r.query {
		occurs := false
		for rest := query; rest != ""; {
			var name, value string
			name, value, rest = cutPair(rest, semicolons)
			if !isForm(name, r.query[i].name) {
				continue
			}
			if !r.query[i].matches(value, inForm) {
				return false
			}
			occurs = true
		}
		if !occurs {
			return false
		}
	}
	return !r.queryOnly || r.hasOnlyNamed(query, semicolons)
}

// hasOnlyNamed reports whether r.query names every parameter of query. An empty
// pair is no parameter.
func (r *Rule) hasOnlyNamed(query string, semicolons bool) bool {
	for rest := query; rest != ""; {
		var name, value string
		name, value, rest = cutPair(rest, semicolons)
		named := name == "" && value == ""
		for i := range r.query {
			named = named || isForm(name, r.query[i].name)
		}
		if !named {
			return false
		}
	}
	return true
}

// deniesQuery reports whether some occurrence of each parameter of r.query in
// query has a value that is listed. A query that does not decode counts as such.
func (r *Rule) deniesQuery(query string) bool {
	if len(r.query) == 0 || !decodes(query) {
		return true
	}
	for i := range r.query {
		if !r.query[i].occursIn(query, false) && !r.query[i].occursIn(query, true) {
			return false
		}
	}
	return true
}

func (c *condition) occursIn(query string, semicolons bool) bool {
	for rest := query; rest != ""; {
		var name, value string
		name, value, rest = cutPair(rest, semicolons)
		if isForm(name, c.name) && c.matches(value, inForm) {
			return true
		}
	}
	return false
}

// allowsHeader reports whether every occurrence of each field of r.headers has a
// value that is listed, and each occurs and reaches the origin server.
func (r *Rule) allowsHeader(header http.Header) bool {
	for i := range r.headers {
		c, occurs := &r.headers[i], false
		for name, values := range header {
			if isField(name, "connection") && lists(values, c.name) {
				return false // the field is removed on the way
			}
			if !isField(name, c.name) {
				continue
			}
			for _, value := range values {
				if !c.matches(strings.Trim(value, " \t"), plain) {
					return false
				}
				occurs = true
			}
		}
		if !occurs {
			return false
		}
	}
	return true
}

// deniesHeader reports whether some occurrence of each field of r.headers, or some
// element of a list in one (RFC 9110 section 5.6.1), has a value that is listed.
func (r *Rule) deniesHeader(header http.Header) bool {
	for i := range r.headers {
		if !r.headers[i].occursInHeader(header) {
			return false
		}
	}
	return true
}

func (c *condition) occursInHeader(header http.Header) bool {
	for name, values := range header {
		if !isField(name, c.name) {
			continue
		}
		for _, value := range values {
			if c.matches(strings.Trim(value, " \t"), plain) {
				return true
			}
			for element := range strings.SplitSeq(value, ",") {
				if c.matches(strings.Trim(element, " \t"), plain) {
					return true
				}
			}
		}
	}
	return false
}

// lists reports whether one of the values, lists of names, has the folded name.
func lists(values []string, name string) bool {
	for _, value := range values {
		for element := range strings.SplitSeq(value, ",") {
			if isField(strings.Trim(element, " \t"), name) {
				return true
			}
		}
	}
	return false
}

// foldName returns the name of a field in lower case and with hyphens for
// underscores. Servers that pass fields on as variables (RFC 3875 section 4.1.18)
// do not tell these apart, so that a second spelling could replace the value that
// was judged.
func foldName(name string) string {
	return strings.ReplaceAll(strings.ToLower(name), "_", "-")
}

// isField reports whether foldName(name) is folded.
func isField(name, folded string) bool {
	if len(name) != len(folded) {
		return false
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case 'A' <= c && c <= 'Z':
			c += 'a' - 'A'
		case c == '_':
			c = '-'
		}
		if c != folded[i] {
			return false
		}
	}
	return true
}

// isOverride reports whether a field replaces the method of the request for many
// frameworks.
func isOverride(name string) bool {
	return isField(name, "x-http-method-override") || isField(name, "x-method-override") || isField(name, "x-http-method")
}

// overrides reports whether a field replaces the method.
func overrides(header http.Header) bool {
	for name := range header {
		if isOverride(name) {
			return true
		}
	}
	return false
}

// allowsMethods reports whether every method of the request is allowed: its own
// and those in override fields.
func (r *Rule) allowsMethods(q *Request) bool {
	if r.anyMethod {
		return true
	}
	return everyMethod(q, r.methods)
}

// everyMethod reports whether every method of the request is listed.
func everyMethod(q *Request, listed []string) bool {
	if !contains(listed, q.Method) {
		return false
	}
	for name, values := range q.Header {
		if !isOverride(name) {
			continue
		}
		for _, value := range values {
			if !contains(listed, strings.Trim(value, " \t")) {
				return false
			}
		}
	}
	return true
}

// deniesMethods reports whether a method of the request is listed. The value of
// an override field counts in any case, because frameworks fold it.
func (r *Rule) deniesMethods(q *Request) bool {
	if r.anyMethod || contains(r.methods, q.Method) {
		return true
	}
	for name, values := range q.Header {
		if !isOverride(name) {
			continue
		}
		for _, value := range values {
			for element := range strings.SplitSeq(value, ",") {
				for _, method := range r.methods {
					if strings.EqualFold(strings.Trim(element, " \t"), method) {
						return true
					}
				}
			}
		}
	}
	return false
}

func contains(list []string, s string) bool {
	for _, element := range list {
		if element == s {
			return true
		}
	}
	return false
}
