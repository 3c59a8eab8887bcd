//go:build !windows

package main

import (
	"io"
	"os"
)

// showsColors reports whether w is a terminal on which colors are wanted: not with
// NO_COLOR (no-color.org), and not if TERM is unset or "dumb".
func showsColors(w io.Writer, getenv func(string) string) bool {
	term := getenv("TERM")
	return getenv("NO_COLOR") == "" && term != "" && term != "dumb" && isTerminal(w)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
