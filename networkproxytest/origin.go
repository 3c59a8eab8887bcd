// The kit's origin server, which parses requests strictly.

package networkproxytest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// origin is a web server that records its requests. It uses no HTTP library and is
// stricter than real servers: if it accepts a request, all servers find the same
// request in the bytes.
type origin struct {
	*server
	addr string

	mu       sync.Mutex
	requests []originRequest
	faults   []string
}

// originRequest is one complete request.
type originRequest struct {
	line   string // METHOD /path HTTP/1.1
	fields []string
	body   string
}

// String returns the request in the form of FramingCase.Forwarded.
func (r originRequest) String() string { return strings.TrimSuffix(r.line+" "+r.body, " ") }

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := new(origin)
	o.server = serve(t, o.handle)
	o.addr = o.server.addr()
	return o
}

// handle reads the requests of a connection and responds to each with 200.
func (o *origin) handle(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		got, err := o.read(r)
		if errors.Is(err, errCutShort) {
			return // no server takes a truncated request for a complete one
		}
		o.mu.Lock()
		if err != nil {
			o.faults = append(o.faults, err.Error())
			o.mu.Unlock()
			return
		}
		o.requests = append(o.requests, got)
		o.mu.Unlock()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		if slices.Contains(got.fields, "Connection: close") {
			return // only in a tunnel; the proxy does not forward the field
		}
	}
}

// received stops the origin. It returns the complete requests and the faults of
// malformed ones.
func (o *origin) received() (requests []originRequest, faults []string) {
	o.stop()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.requests, o.faults
}

// errCutShort is the error for a connection that ends inside a request.
var errCutShort = errors.New("cut short")

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ (/[!-~\x80-\xff]*|\*) HTTP/1\.1$`)
	fieldLine   = regexp.MustCompile("^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([^\\x00-\\x08\\x0a-\\x1f\\x7f]*)$")
	chunkSize   = regexp.MustCompile(`^[0-9a-f]{1,8}$`)
)

// read reads one request (RFC 9112). It returns an error for anything that servers
// could interpret differently.
func (o *origin) read(r *bufio.Reader) (originRequest, error) {
	var got originRequest
	var err error
	if got.line, err = readLine(r); err != nil {
		return got, err
	}
	if !requestLine.MatchString(got.line) {
		return got, fmt.Errorf("invalid request line %q", got.line)
	}
	framing := make(map[string][]string)
	for {
		field, err := readLine(r)
		if err != nil {
			return got, err
		}
		if field == "" {
			break
		}
		m := fieldLine.FindStringSubmatch(field)
		if m == nil {
			return got, fmt.Errorf("invalid header line %q", field)
		}
		name := strings.ToLower(m[1])
		framing[name] = append(framing[name], m[2])
		got.fields = append(got.fields, field)
	}
	hosts, lengths, codings := framing["host"], framing["content-length"], framing["transfer-encoding"]
	switch {
	case len(hosts) != 1 || hosts[0] != o.addr:
		return got, fmt.Errorf("the Host field is %q, want %q", hosts, o.addr)
	case len(lengths)+len(codings) > 1:
		return got, fmt.Errorf("more than one framing: lengths %q, codings %q", lengths, codings)
	case len(codings) == 1:
		if codings[0] != "chunked" {
			return got, fmt.Errorf("invalid coding %q", codings[0])
		}
		got.body, err = readChunks(r)
	case len(lengths) == 1:
		n, err := strconv.ParseUint(lengths[0], 10, 20)
		if err != nil {
			return got, fmt.Errorf("invalid length %q", lengths[0])
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return got, errCutShort
		}
		got.body = string(b)
	}
	return got, err
}

// readChunks reads a chunked body and its trailers. Trailers must not have fields
// that affect framing or routing.
func readChunks(r *bufio.Reader) (string, error) {
	var body strings.Builder
	for {
		size, err := readLine(r)
		if err != nil {
			return "", err
		}
		if !chunkSize.MatchString(size) {
			return "", fmt.Errorf("invalid chunk size %q", size)
		}
		n, _ := strconv.ParseUint(size, 16, 32)
		if n == 0 {
			break
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(r, b); err != nil {
			return "", errCutShort
		}
		if string(b[n:]) != "\r\n" {
			return "", fmt.Errorf("a chunk ends with %q, not CRLF", b[n:])
		}
		body.Write(b[:n])
	}
	for {
		trailer, err := readLine(r)
		if err != nil || trailer == "" {
			return body.String(), err
		}
		m := fieldLine.FindStringSubmatch(trailer)
		if m == nil {
			return "", fmt.Errorf("invalid trailer line %q", trailer)
		}
		switch strings.ToLower(m[1]) {
		case "host", "content-length", "transfer-encoding", "connection", "trailer", "upgrade":
			return "", fmt.Errorf("forbidden trailer %q", trailer)
		}
	}
}

// readLine reads a line and returns it without its CRLF.
func readLine(r *bufio.Reader) (string, error) {
	s, err := r.ReadString('\n')
	if err != nil {
		return "", errCutShort
	}
	text, ok := strings.CutSuffix(s, "\r\n")
	if !ok || strings.Contains(text, "\r") {
		return "", fmt.Errorf("invalid line end in %q", s)
	}
	return text, nil
}
