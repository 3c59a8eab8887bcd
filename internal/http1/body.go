// Decoding of message bodies, of requests and of responses.

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strings"
)

// lengthBody is a body framed by Content-Length.
type lengthBody struct {
	br        *bufio.Reader
	remaining int64
}

// Read returns io.ErrUnexpectedEOF if the connection ends before the body.
func (b *lengthBody) Read(p []byte) (n int, err error) {
	if b.remaining > 0 {
		n, err = b.br.Read(p[:min(int64(len(p)), b.remaining)])
		b.remaining -= int64(n)
	}
	switch {
	case b.remaining == 0:
		return n, io.EOF
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *lengthBody) Close() error { return nil }

// closeDelimitedBody is a body that ends with the connection.
type closeDelimitedBody struct{ br *bufio.Reader }

func (b closeDelimitedBody) Read(p []byte) (int, error) { return b.br.Read(p) }
func (b closeDelimitedBody) Close() error               { return nil }

// chunkedBody is a body in the chunked transfer coding (RFC 9112 section 7.1).
type chunkedBody struct {
	br        *bufio.Reader
	chunks    io.Reader // returns io.EOF after the last chunk, before the trailer section
	trailer   trailer
	maxFields int  // lines of the trailer section that may still follow
	maxBytes  int  // bytes of the trailer section that may still follow
	lastChunk bool // the last chunk was read
	err       error
}

// trailer receives a trailer section.
type trailer interface {
	// addTrailerLine receives a line that is not empty, without its line end.
	addTrailerLine(line string) error
}

// Read returns io.EOF after the trailer section.
func (b *chunkedBody) Read(p []byte) (n int, err error) {
	if b.err != nil {
		return 0, b.err
	}
	if !b.lastChunk {
		n, err = b.chunks.Read(p)
		if err != io.EOF {
			b.err = err
			return n, err
		}
		b.lastChunk = true
		if n > 0 {
			if next, _ := b.br.Peek(min(2, b.br.Buffered())); string(next) != "\r\n" {
				return n, nil // the trailer section may not have arrived yet
			}
		}
	}
	if b.err = b.readTrailer(); b.err == nil {
		b.err = io.EOF
	}
	return n, b.err
}

func (b *chunkedBody) Close() error { return nil }

// readTrailer reads the trailer section and the empty line after it.
func (b *chunkedBody) readTrailer() error {
	for {
		line, err := b.readTrailerLine()
		if err != nil || line == "" {
			return err
		}
		if b.maxFields--; b.maxFields < 0 {
			return errTrailerTooLarge
		}
		if err := b.trailer.addTrailerLine(line); err != nil {
			return err
		}
	}
}

// readTrailerLine returns the next line without its line end.
func (b *chunkedBody) readTrailerLine() (string, error) {
	var line []byte // the beginning of a line that does not fit the buffer
	for {
		part, err := b.br.ReadSlice('\n')
		if len(line) == 0 && string(part) == "\r\n" {
			return "", nil
		}
		if b.maxBytes -= len(part); b.maxBytes < 0 {
			return "", errTrailerTooLarge
		}
		switch {
		case err == bufio.ErrBufferFull:
			line = append(line, part...)
			continue
		case err == io.EOF:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		}
		if len(line) > 0 {
			part = append(line, part...)
		}
		text, ok := bytes.CutSuffix(part, crlf)
		if !ok {
			return "", errBareLF
		}
		return string(text), nil
	}
}

var errTrailerTooLarge = errors.New("the trailer section is too large")

// requestTrailer is the trailer section of a request. It is parsed as strictly
// as a request header.
type requestTrailer struct {
	fields   http.Header // its keys are the announced fields; others are dropped
	lastName string      // the name of the previous field; empty if there is none
}

// addTrailerLine drops the field of a folded line and of a line with white
// space before its colon. Both are unusual, but have only one reading here.
func (t *requestTrailer) addTrailerLine(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		if t.lastName == "" {
			return errors.New("the trailer section begins with a folded line (RFC 9112 section 5.2)")
		}
		if hasControl(line, true) {
			return errors.New("a control character in a folded trailer (RFC 9110 section 5.5)")
		}
		delete(t.fields, t.lastName)
		return nil
	}
	name, _, _ := strings.Cut(line, ":")
	trimmed := strings.TrimRight(name, " \t")
	f, err := parseField(trimmed + line[len(name):])
	if err != nil {
		return err
	}
	t.lastName = textproto.CanonicalMIMEHeaderKey(f.Name)
	if values, announced := t.fields[t.lastName]; announced && trimmed == name {
		t.fields[t.lastName] = append(values, f.Value)
	}
	return nil
}

// addTrailerLine parses a trailer line as leniently as a line of the header. A
// folded line drops the field that it continues.
func (r *Response) addTrailerLine(line string) error {
	if line[0] == ' ' || line[0] == '\t' {
		r.Trailer = r.Trailer[:max(0, len(r.Trailer)-1)]
		return nil
	}
	f, err := parseResponseField(line)
	if err == nil {
		r.Trailer = append(r.Trailer, f)
	}
	return err
}
