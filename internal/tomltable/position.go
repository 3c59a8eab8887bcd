package tomltable

import (
	"bytes"
	"strconv"
)

// Position is a place in a file. The zero value is not a place.
type Position struct {
	// File is the path as it was given.
	File string

	// Line and Column count from 1. Column counts bytes, as the Go tools do.
	// Both are 0 for the file as a whole.
	Line   int
	Column int
}

// String returns "file:line:column", "file" for the file as a whole, and "" for
// the zero Position.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ":" + strconv.Itoa(p.Column)
}

// pos is a place in a known file. It is small, because one is kept for every
// element of a long array.
type pos struct {
	line, column uint32
}

func (p pos) in(file string) Position {
	return Position{File: file, Line: int(p.line), Column: int(p.column)}
}

// lineCounter turns offsets into positions. Offsets mostly grow, so it counts
// from the last one on: a million of them cost one pass over the file.
type lineCounter struct {
	data  []byte
	last  int // the offset that line and start belong to
	line  int // lines before last
	start int // offset of the line that last is in
}

func (c *lineCounter) pos(off int) pos {
	if off < c.last {
		c.last, c.line, c.start = 0, 0, 0
	}
	between := c.data[c.last:off]
	if i := bytes.LastIndexByte(between, '\n'); i >= 0 {
		c.line += bytes.Count(between, []byte{'\n'})
		c.start = c.last + i + 1
	}
	c.last = off
	return pos{uint32(c.line + 1), uint32(off - c.start + 1)}
}
