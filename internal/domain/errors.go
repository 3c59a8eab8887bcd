package domain

// This file holds Error.

import (
	"fmt"

	"example.com/networkproxy/internal/hostname"
)

// Error is the error for text that is not a pattern.
type Error struct {
	// Text is the whole input, unchanged. Quote it before showing it.
	Text string
	// Problem describes the mistake and suggests a fix. It is safe to show.
	Problem string
}

// Error returns the problem with the text quoted and truncated: one line of
// ASCII of bounded length.
func (e *Error) Error() string {
	return fmt.Sprintf("invalid pattern %s: %s", hostname.Quote(e.Text), e.Problem)
}
