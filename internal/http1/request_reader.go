// The head of a request, before it is parsed: read whole, within a limit, and
// held to the letter of the grammar.

package http1

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
)

var (
	crlf       = []byte("\r\n")
	doubleCRLF = []byte("\r\n\r\n")
)

var errHeaderTooLarge = &statusError{http.StatusRequestHeaderFieldsTooLarge, "the request's header is too large"}

// bufferSize is the read buffer of a connection. Most heads fit; a larger one
// gets a larger buffer.
const bufferSize = 4 << 10

// readRequestHeader waits for a whole head and returns it, still in the buffer, with
// its final empty line. It returns another reader where the head needed a
// larger buffer. Empty lines before the request line are skipped (RFC 9112
// section 2.2). io.EOF means that the client ended before a first byte. wait
// is called before it waits for more than has come with the first byte.
func readRequestHeader(br *bufio.Reader, conn io.Reader, limit int, wait func()) ([]byte, *bufio.Reader, error) {
	if err := skipEmptyLines(br, wait); err != nil {
		return nil, br, err
	}
	seen := 0
	for {
		if seen > 0 {
			wait()
		}
		// One more byte than there is waits for the next read.
		data, err := br.Peek(min(max(seen+1, br.Buffered()), br.Size()))
		searchFrom := max(0, seen-len(doubleCRLF)+1)
		if i := bytes.Index(data[searchFrom:], doubleCRLF); i >= 0 {
			return data[:searchFrom+i+len(doubleCRLF)], br, nil
		}
		if err := checkPartialHeader(data, seen); err != nil {
			return nil, br, err
		}
		switch {
		case len(data) >= limit:
			return nil, br, errHeaderTooLarge
		case err == io.EOF:
			return nil, br, io.ErrUnexpectedEOF
		case err != nil:
			return nil, br, err
		}
		seen = len(data)
		if seen == br.Size() {
			// What is buffered moves to a buffer that holds every head.
			rest := io.MultiReader(bytes.NewReader(bytes.Clone(data)), conn)
			br = bufio.NewReaderSize(rest, limit+bufferSize)
			seen = 0
		}
	}
}

// checkPartialHeader refuses early what will not become a head, so that a client which
// speaks something else, and waits for an answer, gets one: TLS, a bare LF.
func checkPartialHeader(data []byte, seen int) error {
	if data[0] == 0x16 {
		return errors.New("a TLS handshake on the plain port: use http:// in the proxy's URL, not https://")
	}
	for i := max(seen, 1); i < len(data); i++ {
		if data[i] == '\n' && data[i-1] != '\r' {
			return errBareLF
		}
	}
	return nil
}

var errBareLF = errors.New("a line ends with LF alone (RFC 9112 section 2.2)")

// skipEmptyLines waits for the first byte of a request.
func skipEmptyLines(br *bufio.Reader, wait func()) error {
	for range 4 {
		b, err := br.Peek(1)
		if err != nil {
			return err
		}
		if b[0] != '\r' && b[0] != '\n' {
			return nil
		}
		wait()
		if b, err = br.Peek(2); err != nil || string(b) != "\r\n" {
			return errBareLF
		}
		br.Discard(2)
	}
	return errors.New("empty lines instead of a request")
}
