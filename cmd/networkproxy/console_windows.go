package main

import (
	"context"
	"errors"
)

// console is not supported, because a read from the Windows console cannot be
// interrupted when the question ends.
type console struct{}

func openConsole() (*console, error) {
	return nil, errors.New("-ask is not supported on Windows: allow hosts with -allow, or learn them with -observe")
}

func (*console) show(string) {}

func (*console) close() {}

func (*console) discardInput() {}

func (*console) read(context.Context, []byte) (int, error) { return 0, errors.ErrUnsupported }
