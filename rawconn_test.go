// A client that writes and reads bytes, for requests that no HTTP library would
// send, and responses that none would show unchanged.

package networkproxy_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// rawConn is a connection to a listener of the proxy.
type rawConn struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

// dialHTTP connects to the HTTP proxy.
func (l *lab) dialHTTP(t testing.TB) *rawConn {
	t.Helper()
	return dialRaw(t, l.HTTPAddr())
}

func dialRaw(t testing.TB, addr string) *rawConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(testTimeout))
	return &rawConn{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

// send writes text.
func (w *rawConn) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.TCPConn, text); err != nil {
		w.t.Fatalf("send %.80q: %v", text, err)
	}
}

// get sends a GET request.
func (w *rawConn) get(url string, fields ...string) {
	w.t.Helper()
	w.request("GET", url, fields...)
}

func (w *rawConn) request(method, target string, fields ...string) {
	w.t.Helper()
	host := strings.TrimPrefix(target, "http://")
	if i := strings.IndexAny(host, "/?"); i >= 0 {
		host = host[:i]
	}
	w.send(method + " " + target + " HTTP/1.1\r\nHost: " + host + "\r\n" + lines(fields) + "\r\n")
}

// lines returns header fields with their line ends.
func lines(fields []string) string {
	var b strings.Builder
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String()
}

// rawResponse is a response with its complete body.
type rawResponse struct {
	*http.Response
	body string
}

// readHeader reads the header of a response to method.
func (w *rawConn) readHeader(method string) *http.Response {
	w.t.Helper()
	resp, err := http.ReadResponse(w.r, &http.Request{Method: method})
	if err != nil {
		w.t.Fatalf("reading a response: %v", err)
	}
	return resp
}

// readResponse reads one response to method.
func (w *rawConn) readResponse(method string) rawResponse {
	w.t.Helper()
	resp := w.readHeader(method)
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("reading the body of the response %s: %v", resp.Status, err)
	}
	return rawResponse{resp, string(body)}
}

// readN reads n bytes.
func (w *rawConn) readN(n int) string {
	w.t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(w.r, b); err != nil {
		w.t.Fatalf("reading %d bytes: got %q, %v", n, b, err)
	}
	return string(b)
}

// readLine reads one line and returns it without its end.
func (w *rawConn) readLine() string {
	w.t.Helper()
	s, err := w.r.ReadString('\n')
	if err != nil {
		w.t.Fatalf("reading a line: got %q, %v", s, err)
	}
	return strings.TrimRight(s, "\r\n")
}

// readAll reads until the connection is closed or reset.
func (w *rawConn) readAll() string {
	w.t.Helper()
	b, err := io.ReadAll(w.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("the connection is still open after %q", b)
	}
	return string(b)
}

// Refusal is the JSON body of the proxy's own responses.
type Refusal struct {
	Status, Host, Protocol, Method, Reason, Source, Decision, Rule, Message, Hint string
	Port                                                                          int
}

func (r rawResponse) refusal(t testing.TB) Refusal {
	t.Helper()
	var f Refusal
	d := json.NewDecoder(strings.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		t.Errorf("response %s: the body %.200q is not a refusal: %v", r.Status, r.body, err)
	}
	return f
}

// connectRaw is like connect, but returns a rawConn.
func (l *lab) connectRaw(t testing.TB, target string) *rawConn {
	t.Helper()
	w := l.dialHTTP(t)
	w.request("CONNECT", target)
	if a := w.readHeader("CONNECT"); a.StatusCode != http.StatusOK {
		t.Fatalf("CONNECT %s: got %s, want %d", target, a.Status, http.StatusOK)
	}
	return w
}

// scripted makes name:80 lead to an origin server that reads the header of a
// request, sends it to the returned channel, writes response, and waits for the
// end of the connection.
func (l *lab) scripted(name, response string) <-chan string {
	headers := make(chan string, 16)
	l.serve(name, 80, func(c *net.TCPConn) {
		c.SetDeadline(time.Now().Add(testTimeout))
		r := bufio.NewReader(c)
		headers <- readHeader(r)
		io.WriteString(c, response)
		c.CloseWrite()
		io.Copy(io.Discard, r)
	})
	return headers
}

// readHeader reads up to the empty line, and includes it.
func readHeader(r *bufio.Reader) string {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		b.WriteString(line)
		if err != nil || line == "\r\n" {
			return b.String()
		}
	}
}

// health is the response to GET /health.
type health struct {
	Status, Detail                            string
	Mode                                      networkproxy.Mode
	Generation, Allowed, Refused, Failed, Cut uint64
	Connections                               int
}

func (l *lab) health(t testing.TB) health {
	t.Helper()
	var h health
	a := l.adminRaw(t, "GET", "/health", "")
	if err := json.Unmarshal([]byte(a.body), &h); err != nil {
		t.Fatalf("/health: got %s %q: %v", a.Status, a.body, err)
	}
	return h
}

// adminRaw makes a request to the admin API with fields like "Name: value".
func (l *lab) adminRaw(t testing.TB, method, path, body string, fields ...string) rawResponse {
	t.Helper()
	w := dialRaw(t, l.AdminAddr())
	defer w.Close()
	if body != "" {
		fields = append(fields, "Content-Length: "+strconv.Itoa(len(body)))
	}
	if !slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, "Host:") }) {
		fields = append(fields, "Host: "+l.AdminAddr())
	}
	w.send(method + " " + path + " HTTP/1.1\r\n" + lines(fields) + "\r\n" + body)
	return w.readResponse(method)
}
