// The CONNECT client.

package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"example.com/networkproxy/internal/hostname"
)

// maxResponseBytes bounds the response to CONNECT: its header, informational
// responses included, and the body of a refusal.
const maxResponseBytes = 64 << 10

// Connect asks the HTTP proxy at the other end of conn for a tunnel to target
// (CONNECT, RFC 9110 section 9.3.6) and returns its final response.
// authorization is the value of Proxy-Authorization; if it is empty, the field
// is not sent.
//
// A 2xx status means that conn is the tunnel now. Connect reads no byte after
// the header, so everything that target sends can still be read from conn. With
// any other status the response's body says why, in at most 64 KiB; it is read
// from conn.
//
// Connect sets no deadline. To interrupt it, set one or close conn. Its errors
// do not quote the proxy, so they are safe to log.
func Connect(conn net.Conn, target hostname.Target, authorization string) (*http.Response, error) {
	var b strings.Builder
	b.WriteString("CONNECT " + target.String() + " HTTP/1.1\r\nHost: " + target.String() + "\r\n")
	if authorization != "" {
		b.WriteString("Proxy-Authorization: " + authorization + "\r\n")
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return nil, err
	}

	limited := &io.LimitedReader{R: conn, N: maxResponseBytes}
	r := bufio.NewReader(&oneByteReader{limited})
	for {
		// Informational responses (RFC 9110 section 15.2) come before the final
		// one. The framing fields of a 2xx response mean nothing (section 9.3.6).
		resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
		switch {
		case errors.As(err, new(net.Error)):
			return nil, err
		case limited.N == 0 && err != nil:
			return nil, fmt.Errorf("response header larger than %d bytes", maxResponseBytes)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, errors.New("connection closed before the end of the response header")
		case err != nil:
			return nil, errors.New("response is not HTTP/1.1")
		case resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols:
			return resp, nil
		}
	}
}

// isSuccess reports whether a status opens the tunnel.
func isSuccess(status int) bool { return status >= 200 && status <= 299 }

// oneByteReader reads one byte at a time, so that a bufio.Reader above it reads
// nothing ahead. The header is short, and the connection needs no wrapper
// afterwards, which would hide it from splice.
type oneByteReader struct{ r io.Reader }

func (s *oneByteReader) Read(b []byte) (int, error) {
	return s.r.Read(b[:min(len(b), 1)])
}
