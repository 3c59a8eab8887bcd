package httprule

// This file checks the body of a request of Git LFS.

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// maxDepth limits how deep the JSON of Git LFS is nested. Its own has four levels.
const maxDepth = 32

// lfsProblem describes why the body is not a batch request of Git LFS for a
// download, or returns the empty string.
//
// The JSON must have one reading. Readers differ in which of two equal members
// they use, and some ignore case (encoding/json of Go) or end names at a NUL. So
// no object may have two names that differ in case only, and names are printable
// ASCII.
func lfsProblem(held *holder) string {
	for held.fill(len(held.data) + 1) {
	}
	data := held.data
	switch {
	case len(data) > maxLFS:
		return "it is longer than 1 MiB"
	case !utf8.Valid(data):
		return "it is not UTF-8"
	case !json.Valid(data):
		return "it is not JSON"
	}
	r := jsonReader{tokens: json.NewDecoder(bytes.NewReader(data))}
	r.tokens.UseNumber()
	if problem := r.value(""); problem != "" {
		return problem
	}
	switch {
	case r.operation == "":
		return "it is not an object with a member operation"
	case r.operation != "download":
		return "its operation is not download"
	}
	return ""
}

// jsonReader reads JSON that is valid.
type jsonReader struct {
	tokens    *json.Decoder
	depth     int    // of open arrays and objects
	operation string // of the outermost object
}

// value reads a value, which is the member called name of an object or has the
// empty name, and describes its problem.
func (r *jsonReader) value(name string) string {
	token, err := r.tokens.Token()
	if err != nil {
		return "it is not JSON"
	}
	switch token {
	case json.Delim('{'):
		return r.nested(r.members)
	case json.Delim('['):
		return r.nested(r.elements)
	}
	if r.depth == 1 && name == "operation" {
		r.operation, _ = token.(string)
	}
	return ""
}

// nested reads the rest of an array or object, whose content read reads.
func (r *jsonReader) nested(read func() string) string {
	if r.depth++; r.depth > maxDepth {
		return "its JSON is nested too deep"
	}
	if problem := read(); problem != "" {
		return problem
	}
	r.depth--
	if _, err := r.tokens.Token(); err != nil {
		return "it is not JSON"
	}
	return ""
}

func (r *jsonReader) elements() string {
	for r.tokens.More() {
		if problem := r.value(""); problem != "" {
			return problem
		}
	}
	return ""
}

func (r *jsonReader) members() string {
	seen := make(map[string]bool)
	for r.tokens.More() {
		token, err := r.tokens.Token()
		if err != nil {
			return "it is not JSON"
		}
		name, _ := token.(string)
		for i := range len(name) {
			if name[i] < ' ' || name[i] > '~' {
				return "its JSON has a name with a character that is not printable ASCII"
			}
		}
		folded := strings.ToLower(name)
		if seen[folded] {
			return "its JSON has an object with the same name twice"
		}
		seen[folded] = true
		if problem := r.value(name); problem != "" {
			return problem
		}
	}
	return ""
}
