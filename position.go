// Where a configuration value stands, and the errors that say so.

package networkproxy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"example.com/networkproxy/internal/tomltable"
)

// Position says where a configuration value stands. The zero value means that
// it stands in no file: it is a default, or was set from Go.
type Position struct {
	// File is the path as it was given.
	File string `json:"file"`

	// Line and Column count from 1. Column counts bytes, as the Go tools do.
	// Both are 0 when the whole file is meant.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// String returns "file:line:column", "file" when the whole file is meant, and
// "" for the zero Position.
func (o Position) String() string {
	return tomltable.Position(o).String()
}

// ConfigError is one thing that is wrong with a configuration. Loading reports
// all that it finds, joined as by [errors.Join]; errors.As finds the first.
type ConfigError struct {
	// Position is where it stands; zero for a value set from Go.
	Position Position

	// Key is the dotted key, with an index for an element of an array:
	// "network_proxy.policy.denied_domains[3]". Empty when the file as a
	// whole is wrong.
	Key string

	// Value is the offending text or boolean; empty when there is none to
	// show.
	Value string

	// Problem says what is wrong and what to do about it.
	Problem string

	// Err is the cause, for errors.Is and errors.As: a file system error, a
	// [LimitError], what a pattern is refused for. It may be nil. Where
	// Problem is not empty, that includes what the user needs of it.
	Err error
}

// Error returns "file:line:column: key = value: problem", without the parts
// that are empty.
func (e *ConfigError) Error() string {
	var parts []string
	if e.Position != (Position{}) {
		parts = append(parts, e.Position.String())
	}
	switch {
	case e.Key != "" && e.Value != "":
		parts = append(parts, e.Key+" = "+showValue(e.Value))
	case e.Key != "":
		parts = append(parts, e.Key)
	}
	switch {
	case e.Problem != "":
		parts = append(parts, e.Problem)
	case e.Err != nil:
		parts = append(parts, e.Err.Error())
	}
	return strings.Join(parts, ": ")
}

// Unwrap returns Err.
func (e *ConfigError) Unwrap() error { return e.Err }

// LimitError says that a value exceeds a managed limit. It is the cause of the
// [ConfigError] that names the value.
type LimitError struct {
	// Limit is what the limit asks for, as a sentence.
	Limit string

	// Position is where the limit stands.
	Position Position
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("exceeds a managed limit: %s (%s)", e.Limit, e.Position)
}

// showValue quotes a value for an error, so that nothing in it can pass for
// another line of a log, and cuts a long one. Booleans stay bare.
func showValue(v string) string {
	if v == "true" || v == "false" {
		return v
	}
	return tomltable.Quote(v)
}

// errorList collects what is wrong with a configuration and reports the first
// of it: a file of the wrong kind can hold a million mistakes. The zero value
// is empty.
type errorList struct {
	list []error
	more int
}

// maxErrors is how many errors are reported one by one.
const maxErrors = 20

// len is how many errors were added.
func (l *errorList) len() int { return len(l.list) + l.more }

// full reports whether another error would only be counted.
func (l *errorList) full() bool { return len(l.list) == maxErrors }

// add adds an error, or each of those that a joined one holds. Nil is none.
func (l *errorList) add(err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			l.add(e)
		}
		return
	}
	switch {
	case err == nil:
	case l.full():
		l.more++
	default:
		l.list = append(l.list, err)
	}
}

// join joins the errors; nil when there are none.
func (l *errorList) join() error {
	if l.more > 0 {
		return errors.Join(append(slices.Clone(l.list), fmt.Errorf("and %d more", l.more))...)
	}
	return errors.Join(l.list...)
}
