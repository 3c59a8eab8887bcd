package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
)

// terminal shows text and asks questions. Those who use it take turns, so that
// questions are asked one at a time and nothing is shown in an open one.
type terminal struct {
	screen io.Writer
	lines  <-chan string // typed by the user; closed at the end of input
	turn   chan struct{} // holds a token while somebody has the turn

	nextQuestion time.Time // the earliest time to ask; guarded by the turn
}

func newTerminal(keyboard io.Reader, screen io.Writer) *terminal {
	lines := make(chan string)
	go func() { // until the program exits, because a read from a terminal cannot be interrupted
		defer close(lines)
		for s := bufio.NewScanner(keyboard); s.Scan(); {
			lines <- s.Text()
		}
	}()
	return &terminal{screen: screen, lines: lines, turn: make(chan struct{}, 1)}
}

// take waits for the turn. The error is that of ctx.
func (t *terminal) take(ctx context.Context) error {
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if ctx.Err() != nil { // both were ready
		t.release()
		return context.Cause(ctx)
	}
	return nil
}

func (t *terminal) release() { <-t.turn }

// print prints text. The caller has the turn.
func (t *terminal) print(format string, args ...any) { fmt.Fprintf(t.screen, format, args...) }

// show waits for the turn and prints text.
func (t *terminal) show(format string, args ...any) {
	t.turn <- struct{}{}
	defer t.release()
	t.print(format, args...)
}

// showResult shows the result of a command. It marks each line and removes control
// characters, so that the command can neither imitate nor overwrite a question.
func (t *terminal) showResult(result string) {
	var text strings.Builder
	for line := range strings.Lines(result) {
		text.WriteString("  | " + strings.Map(printable, line) + "\n")
	}
	t.show("%s", text.String())
}

// printable returns r, or -1 if a terminal does not show it as it is.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return -1
	}
	return r
}

// ask asks a question until one of the choices is typed. The error says that ctx has
// ended, or that nobody is at the terminal. The caller has the turn.
func (t *terminal) ask(ctx context.Context, question, prompt string, choices ...string) (string, error) {
	select {
	case <-time.After(time.Until(t.nextQuestion)):
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	select {
	case <-t.lines: // typed before the question
	default:
	}
	t.print("%s", question)
	for {
		t.print("%s", prompt)
		select {
		case line, ok := <-t.lines:
			if !ok {
				t.print("\n")
				return "", errors.New("nobody is at the terminal")
			}
			if slices.Contains(choices, line) {
				return line, nil
			}
		case <-ctx.Done():
			t.print("(no longer needed)\n")
			t.nextQuestion = time.Now().Add(time.Second) // so that an answer to this question does not answer the next one
			return "", context.Cause(ctx)
		}
	}
}
