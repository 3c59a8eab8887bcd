// Edits: header fields that a request rule removes and sets.

package credential

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Edit is what a request rule changes in the requests that it allows. It is immutable and
// safe for concurrent use.
type Edit struct {
	Strip  []string // canonical names of fields that are removed
	Inject []Injection

	// Plaintext permits Inject in requests that are not sent over TLS.
	Plaintext bool
}

// Injection is a field that is set to a secret. It takes the place of all fields of that
// name that the client has sent.
type Injection struct {
	Name   string // canonical
	Prefix string // before the secret, such as "Bearer "
	Rule   string // the host of the rule that it belongs to, for errors
	Source Source
}

// field is a field that is added to a request.
type field struct{ name, value string }

// Apply adds the changes of a rule to those of x. secure means that the request will be
// sent over TLS. If x sets a field already, it remains. The error is a
// *[NotAllowedError], or that of a source.
func (x *Exchange) Apply(ctx context.Context, e *Edit, secure bool) error {
	x.removed = append(x.removed, e.Strip...)
	for _, in := range e.Inject {
		if !secure && !e.Plaintext {
			return &NotAllowedError{in.Rule, "the field " + in.Name, "is not sent in plain text: use https://"}
		}
		if slices.ContainsFunc(x.added, func(f field) bool { return f.name == in.Name }) {
			continue
		}
		secret, err := in.Source.Secret(ctx)
		if err == nil {
			err = Check(secret)
		}
		if err != nil {
			return fmt.Errorf("the secret of a request rule for %s: %w", in.Rule, err)
		}
		x.removed = append(x.removed, in.Name)
		x.added = append(x.added, field{in.Name, in.Prefix + secret})
		x.Masks = append(x.Masks, Mask{secret: secret, text: strings.Repeat("*", len(secret))})
	}
	return nil
}

// Removes reports whether a field that the client has sent is not passed on. The name may
// be in any case, and have an underscore for a hyphen, because many servers read both as
// one variable (RFC 3875 section 4.1.18).
func (x *Exchange) Removes(name string) bool {
	if len(x.removed) == 0 {
		return false
	}
	name = strings.ReplaceAll(name, "_", "-")
	return slices.ContainsFunc(x.removed, func(removed string) bool {
		return strings.EqualFold(strings.ReplaceAll(removed, "_", "-"), name)
	})
}

// Added calls add for each field to add to the request, after the removal of others.
func (x *Exchange) Added(add func(name, value string)) {
	for _, f := range x.added {
		add(f.name, f.value)
	}
}
