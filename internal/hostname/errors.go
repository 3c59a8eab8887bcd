package hostname

// This file holds Error and the quoting of untrusted text.

import (
	"fmt"
	"strconv"
)

// maxQuoted is the most bytes of untrusted text in an error message.
const maxQuoted = 80

// Error is the error for text that is not a host, a host and port, or a port.
type Error struct {
	// Text is the whole input, unchanged. Quote it before showing it.
	Text string
	// Problem describes the mistake and the fix. It is safe to show.
	Problem string
}

// Error returns the problem with the text quoted and truncated: one line of
// ASCII of bounded length.
func (e *Error) Error() string {
	return fmt.Sprintf("invalid host %s: %s", Quote(e.Text), e.Problem)
}

// Quote returns text as a Go string literal in ASCII, truncated after 80 bytes of
// text. The result is safe in logs and messages even if text is untrusted.
func Quote(text string) string {
	if len(text) <= maxQuoted {
		return strconv.QuoteToASCII(text)
	}
	return fmt.Sprintf("%s... (%d bytes)", strconv.QuoteToASCII(text[:maxQuoted]), len(text))
}
