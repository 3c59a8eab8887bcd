package domain

// This file holds the error of this package.

import (
	"fmt"

	"example.com/networkproxy/internal/hostname"
)

// Error says that a text is not a pattern.
type Error struct {
	// Text is what was given, whole and untouched: quote it before it is shown.
	Text string
	// Problem says what is wrong and what was likely meant, in a form that is
	// safe to show.
	Problem string
}

// Error returns the text, quoted and cut, and the problem: one line of ASCII
// whose length does not grow with the text.
func (e *Error) Error() string {
	return fmt.Sprintf("invalid pattern %s: %s", hostname.Quote(e.Text), e.Problem)
}
