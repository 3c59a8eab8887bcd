// Servers, clients and origins for the tests.

package http1

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// testTransport is a Transport with net/http's types. It implements
// http.RoundTripper and RoundTripHooks, and counts its connections.
type testTransport struct {
	*Transport
	dialAddr      string          // the address of all connections; empty means that of the request
	informational func(*Response) // nil ignores them
	dials         atomic.Int32
}

func (t *testTransport) Dial(ctx context.Context, addr string) (net.Conn, error) {
	t.dials.Add(1)
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", cmp.Or(t.dialAddr, addr))
}

func (t *testTransport) Acquire(net.Conn) error { return nil }

func (t *testTransport) Release(net.Conn) {}

func (t *testTransport) Informational(r *Response) {
	if t.informational != nil {
		t.informational(r)
	}
}

func (t *testTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	out := &Request{
		Context: r.Context(), Addr: r.URL.Host, Method: r.Method, Target: r.URL.RequestURI(), Host: r.Host,
		Body: r.Body, ContentLength: r.ContentLength, Trailer: r.Trailer,
		Hooks: t,
	}
	for name, values := range r.Header {
		for _, value := range values {
			out.Fields = append(out.Fields, Field{name, value})
		}
	}
	slices.SortStableFunc(out.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	resp, err := t.Send(out)
	if err != nil {
		return nil, err
	}
	return toNetHTTP(resp, r), nil
}

// toNetHTTP converts a response to net/http's type.
func toNetHTTP(from *Response, r *http.Request) *http.Response {
	resp := &http.Response{StatusCode: from.Status, Header: make(http.Header), ContentLength: from.ContentLength, Request: r, Close: from.closes}
	fillHeader(resp.Header, from.Fields, nil)
	resp.Body = &trailing{from.Body, from, resp}
	return resp
}

// trailing is a body that sets the Trailer of a response at its end.
type trailing struct {
	io.ReadCloser
	from *Response
	to   *http.Response
}

func (b *trailing) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && len(b.from.Trailer) > 0 {
		b.to.Trailer = make(http.Header)
		fillHeader(b.to.Trailer, b.from.Trailer, nil)
	}
	return n, err
}

func newTestTransport(t testing.TB) *testTransport {
	tr := &testTransport{Transport: &Transport{ContinueTimeout: time.Minute}}
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// startServer serves s on a loopback port and returns its address. The test
// waits for every connection before it ends.
func startServer(t testing.TB, s *Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.ServeConn(context.Background(), c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.Shutdown()
		wg.Wait()
	})
	return l.Addr().String()
}

func startServerFunc(t testing.TB, f http.HandlerFunc) string {
	return startServer(t, &Server{Handler: f})
}

// newTestClient returns a net/http client with its own connections.
func newTestClient(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Minute}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// sendHalfClosed sends text and the end of the stream, and returns what the
// server sends until it closes the connection.
func sendHalfClosed(t testing.TB, addr, text string) string {
	t.Helper()
	return exchangeBytes(t, addr, text, true)
}

// sendOpen is sendHalfClosed without the end of the stream.
func sendOpen(t testing.TB, addr, text string) string {
	t.Helper()
	return exchangeBytes(t, addr, text, false)
}

func exchangeBytes(t testing.TB, addr, text string, ends bool) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	if ends {
		c.(*net.TCPConn).CloseWrite()
	}
	got, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("reading the response to %.60q: %v after %q", text, err, got)
	}
	return string(got)
}

// startOrigin starts an origin server that calls f for connection n and returns its address.
func startOrigin(t testing.TB, f func(n int, c net.Conn, br *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(n, c, bufio.NewReader(c))
			}()
		}
	}()
	return l.Addr().String()
}

// startFixedOrigin starts an origin server that responds to one request per connection with text.
func startFixedOrigin(t testing.TB, text string) string {
	return startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if _, err := http.ReadRequest(br); err == nil {
			io.WriteString(c, text)
		}
	})
}

func newTestRequest(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fetch sends a request and reads the whole response.
func fetch(rt http.RoundTripper, r *http.Request) (status int, body string, err error) {
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset") }

// echoPaths responds to each request with its path, and to /none without a body.
func echoPaths(_ int, c net.Conn, br *bufio.Reader) {
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		path, extra := r.URL.Path, "X-Path: "+r.URL.Path+"\r\n"
		if path == "/none" {
			path, extra = "", ""
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(path), extra, path)
	}
}
