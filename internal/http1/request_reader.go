// Reading a request header into the buffer, before it is parsed.

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

var errRequestHeaderTooLarge = &statusError{http.StatusRequestHeaderFieldsTooLarge, "the request header is too large"}

// bufferSize is the size of a connection's read buffer, which fits most
// headers. A larger header gets a larger buffer.
const bufferSize = 4 << 10

// readRequestHeader waits for a complete header and returns it with its final
// empty line. The returned bytes are not consumed from the returned reader,
// which is a new one if the header needed a larger buffer. Empty lines before
// the request line are skipped (RFC 9112 section 2.2). io.EOF means that the
// client ended the stream before a first byte. wait is called before
// readRequestHeader waits for more than arrived with the first byte.
func readRequestHeader(br *bufio.Reader, conn io.Reader, limit int, wait func()) ([]byte, *bufio.Reader, error) {
	if err := skipEmptyLines(br, wait); err != nil {
		return nil, br, err
	}
	seen := 0
	for {
		if seen > 0 {
			wait()
		}
		// Peeking at one more byte than is buffered waits for the next read.
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
			return nil, br, errRequestHeaderTooLarge
		case err == io.EOF:
			return nil, br, io.ErrUnexpectedEOF
		case err != nil:
			return nil, br, err
		}
		seen = len(data)
		if seen == br.Size() {
			// Move the buffered part to a buffer that fits every header.
			rest := io.MultiReader(bytes.NewReader(bytes.Clone(data)), conn)
			br = bufio.NewReaderSize(rest, limit+bufferSize)
			seen = 0
		}
	}
}

// checkPartialHeader rejects input that cannot become a header: a TLS
// handshake or a bare LF. Clients of other protocols would otherwise wait for
// a response until the timeout.
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

// skipEmptyLines skips a few empty lines and waits for the first byte of a
// request.
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
