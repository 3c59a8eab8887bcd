//go:build !windows

package main

import (
	"fmt"
	"os"
)

// console is the controlling terminal of the process.
type console struct{ file *os.File }

// openConsole opens the controlling terminal, wherever the standard streams lead.
func openConsole() (*console, error) {
	file, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("-ask needs a terminal to ask on: %w", err)
	}
	return &console{file}, nil
}

// show writes text to the terminal.
func (c *console) show(text string) { c.file.WriteString(text) } // if this fails, so does the read of the answer

func (c *console) close() { c.file.Close() }
