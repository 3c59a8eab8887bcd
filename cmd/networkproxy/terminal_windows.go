package main

import (
	"io"
	"os"
	"syscall"
)

// showsColors reports whether w is a console that interprets escape sequences, and
// NO_COLOR (no-color.org) is not set.
func showsColors(w io.Writer, getenv func(string) string) bool {
	const virtualTerminal = 0x4 // ENABLE_VIRTUAL_TERMINAL_PROCESSING
	mode, ok := consoleMode(w)
	return ok && mode&virtualTerminal != 0 && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

// isTerminal reports whether w is a console.
func isTerminal(w io.Writer) bool {
	_, ok := consoleMode(w)
	return ok
}

// consoleMode returns the mode of the console that w is.
func consoleMode(w io.Writer) (mode uint32, ok bool) {
	file, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	err := syscall.GetConsoleMode(syscall.Handle(file.Fd()), &mode)
	return mode, err == nil
}
