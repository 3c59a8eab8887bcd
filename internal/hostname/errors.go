package hostname

// This file holds the error of this package.

import (
	"fmt"
	"strconv"
)

// maxQuoted bounds the bytes of foreign text in an error message.
const maxQuoted = 80

// Error says that a text is not a host, a host and port, or a port.
type Error struct {
	// Text is what was given, whole and untouched: quote it before it is shown.
	Text string
	// Problem says what is wrong and what to do, in a form that is safe to show.
	Problem string
}

// Error returns the text, quoted and cut, and the problem: one line of ASCII
// whose length does not grow with the text.
func (e *Error) Error() string {
	return fmt.Sprintf("invalid host %s: %s", Quote(e.Text), e.Problem)
}

// Quote returns text as a Go string literal in ASCII, cut after 80 bytes of
// text, so that it can stand in a log line or a message whoever wrote it.
func Quote(text string) string {
	if len(text) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.QuoteToASCII(text[:maxQuoted]), len(text))
}
