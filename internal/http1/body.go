package http1

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strings"
)

// hasBody is the content of a message that says its length.
type lengthBody struct {
	br        *bufio.Reader
	remaining int64
}

// Read reads up to the length, and says io.ErrUnexpectedEOF where less comes.
func (c *lengthBody) Read(p []byte) (n int, err error) {
	if c.remaining > 0 {
		n, err = c.br.Read(p[:min(int64(len(p)), c.remaining)])
		c.remaining -= int64(n)
	}
	switch {
	case c.remaining == 0:
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (c *lengthBody) Close() error { return nil }

// chunkedContent is the content of a message in the chunked coding (RFC 9112
// section 7.1). Its trailer section is held to the grammar of a head, and
// bounded like one.
type chunkedContent struct {
	br      *bufio.Reader
	chunks  io.Reader   // up to the last chunk, without the trailer section
	trailer http.Header // takes the fields that are announced: its keys
	fields  int         // how many more may come
	bytes   int         // how long they may still be
	last    bool        // the last chunk was read
	name    string      // of the last trailer
	err     error       // of an earlier read
}

// Read returns io.EOF behind the trailer section.
func (c *chunkedContent) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.last {
		n, err = c.chunks.Read(p)
		if err != io.EOF {
			c.err = err
			return n, err
		}
		if c.last = true; n > 0 {
			return n, nil // the trailer section may not have come yet
		}
	}
	c.err = c.readTrailer()
	if c.err == nil {
		c.err = io.EOF
	}
	return n, c.err
}

func (c *chunkedContent) readTrailer() error {
	for {
		line, err := c.br.ReadSlice('\n')
		switch {
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err == bufio.ErrBufferFull:
			return errTrailerTooLarge
		case err != nil:
			return err
		case len(line) < 2 || line[len(line)-2] != '\r':
			return errBareLF
		case len(line) == 2:
			return nil
		}
		c.fields--
		c.bytes -= len(line)
		if c.fields < 0 || c.bytes < 0 {
			return errTrailerTooLarge
		}
		if err := c.addTrailer(string(line[:len(line)-2])); err != nil {
			return err
		}
	}
}

// addTrailer takes one line. A folded line, or one with white space before
// its colon, is unusual but cannot be read as anything else here: its field is
// dropped.
func (c *chunkedContent) addTrailer(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		if c.name == "" {
			return errors.New("the trailer section begins with a folded line (RFC 9112 section 5.2)")
		}
		delete(c.trailer, c.name)
		return nil
	}
	name, _, _ := strings.Cut(line, ":")
	trimmed := strings.TrimRight(name, " \t")
	f, err := parseField(trimmed + line[len(name):])
	if err != nil {
		return err
	}
	c.name = textproto.CanonicalMIMEHeaderKey(f.Name)
	if values, announced := c.trailer[c.name]; announced && trimmed == name {
		c.trailer[c.name] = append(values, f.Value)
	}
	return nil
}

var errTrailerTooLarge = errors.New("the trailer section is too large")

func (c *chunkedContent) Close() error { return nil }

// chunkedAnswer is the content of a response in the chunked coding (RFC 9112
// section 7.1), with its trailer section.
type chunkedAnswer struct {
	br     *bufio.Reader
	chunks io.Reader // up to the last chunk, without the trailer section
	answer *Response // gets the trailer fields
	fields int       // how many may come
	bytes  int       // how long they may be
	last   bool      // the last chunk was read
	err    error     // of an earlier read
}

// Read returns io.EOF behind the trailer section.
func (c *chunkedAnswer) Read(p []byte) (n int, err error) {
	if c.err != nil {
		return 0, c.err
	}
	if !c.last {
		n, err = c.chunks.Read(p)
		if err != io.EOF {
			c.err = err
			return n, err
		}
		c.last = true
		if n > 0 {
			if next, _ := c.br.Peek(min(2, c.br.Buffered())); string(next) != "\r\n" {
				return n, nil // the trailer section may not have come yet
			}
		}
	}
	if c.err = c.readTrailer(); c.err == nil {
		c.err = io.EOF
	}
	return n, c.err
}

func (c *chunkedAnswer) readTrailer() error {
	text, err := readLines(c.br, &c.bytes, 0)
	if errors.Is(err, errTooLong) {
		return errors.New("the origin's trailer section is too large")
	}
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
		return fmt.Errorf("the origin's trailer section: %w", errBareLF)
	}
	for n := 0; err == nil; n++ {
		var line string
		if line, text = cutLine(text); line == "" {
			return nil
		}
		if n == c.fields {
			return errTooManyResponseFields(c.fields)
		}
		var f Field
		if line[0] == ' ' || line[0] == '\t' {
			c.answer.Trailer = c.answer.Trailer[:max(0, len(c.answer.Trailer)-1)] // what it belongs to is not known whole
			continue
		}
		if f, err = parseResponseField(line); err == nil {
			c.answer.Trailer = append(c.answer.Trailer, f)
		}
	}
	return err
}

func (c *chunkedAnswer) Close() error { return nil }

// closeDelimitedBody is content that ends with the connection.
type closeDelimitedBody struct{ br *bufio.Reader }

func (c closeDelimitedBody) Read(p []byte) (int, error) { return c.br.Read(p) }

func (c closeDelimitedBody) Close() error { return nil }
