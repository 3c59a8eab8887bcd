package http1

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestMalformedHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		status     int
		want       string
	}{
		{"bare LF", "GET http://x/ HTTP/1.1\nHost: x\n\n", 400, "LF alone"},
		{"bare LF in a header", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", 400, "LF alone"},
		{"bare CR in a value", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", 400, "control character"},
		{"NUL in a value", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\x00\r\n\r\n", 400, "control character"},
		{"NUL in the target", "GET http://x/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "control character"},
		{"folded", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "folded"},
		{"folded first line", "GET http://x/ HTTP/1.1\r\n Host: x\r\n\r\n", 400, "folded"},
		{"space before colon", "GET http://x/ HTTP/1.1\r\nHost : x\r\n\r\n", 400, "white space before the colon"},
		{"no colon", "GET http://x/ HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", 400, "no name"},
		{"empty name", "GET http://x/ HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n", 400, "no name"},
		{"odd name", "GET http://x/ HTTP/1.1\r\nHost: x\r\na b: v\r\n\r\n", 400, ""},
		{"two spaces", "GET  http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 400, "request line"},
		{"trailing space", "GET http://x/ HTTP/1.1 \r\nHost: x\r\n\r\n", 400, "request line"},
		{"HTTP/0.9", "GET http://x/\r\n\r\n", 400, "request line"},
		{"HTTP/1.2", "GET http://x/ HTTP/1.2\r\nHost: x\r\n\r\n", 505, "version"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version"},
		{"lower-case version", "GET http://x/ http/1.1\r\nHost: x\r\n\r\n", 400, "version"},
		{"no Host", "GET http://x/ HTTP/1.1\r\n\r\n", 400, "no Host"},
		{"two Hosts", "GET http://x/ HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", 400, "more than one Host"},
		{"two lengths", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "more than one Content-Length"},
		{"signed length", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", 400, "not a number"},
		{"list of lengths", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", 400, "not a number"},
		{"huge length", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na", 400, ""},
		{"length and chunked", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "both"},
		{"gzip, chunked", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "not supported"},
		{"chunked twice", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "more than one Transfer-Encoding"},
		{"chunked in 1.0", "POST http://x/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0"},
		{"vertical tab coding", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400, "control character"},
		{"an unknown expectation", "GET http://x/ HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", 417, "expectation"},
		{"a Host that is none", "GET http://x/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "not a valid host"},
		{"an endless method", strings.Repeat("A", 65) + " http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", 501, "a method of 65 bytes"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00", 400, "TLS handshake"},
		{"cut short", "GET http://x/ HT", 400, "disconnected in the middle"},
		{"only line ends", "\r\n\r\n\r\n\r\n\r\n\r\n", 400, "empty lines"},
		{"too large", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", 431, "too large"},
		{"too many", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20<<10) + "\r\n", 431, "too large"},
		{"too many short fields", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A:\r\n", 256) + "\r\n", 431, "more than 256 fields"},
		{"too many fields of the same name", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("Via: a\r\n", 256) + "\r\n", 431, "more than 256 fields"},
		{"too many trailers announced", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a" + strings.Repeat(",a", 300) + "\r\n\r\n0\r\n\r\n", 431, "more than 256 fields"},
		{"too many trailers announced in two fields", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + strings.Repeat("Trailer: a"+strings.Repeat(",a", 128)+"\r\n", 2) + "\r\n0\r\n\r\n", 431, "more than 256 fields"},
	}
	var mu sync.Mutex
	reported := make(map[string]bool)
	addr := startServer(t, &Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a malformed request reached the handler") }),
		Malformed: func(_ context.Context, _ net.Conn, err error) {
			mu.Lock()
			defer mu.Unlock()
			reported[err.Error()] = true
		},
	})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := sendHalfClosed(t, addr, test.text)
			want := fmt.Sprintf("HTTP/1.1 %d ", test.status)
			if !strings.HasPrefix(got, want) || !strings.Contains(got, test.want) || strings.Count(got, want) > 1 {
				t.Errorf("got %q, want one response %q with %q", got, want, test.want)
			}
			_, text, _ := strings.Cut(got, "\r\n\r\n")
			reason := strings.TrimPrefix(strings.TrimSpace(text), "networkproxy cannot carry this request: ")
			mu.Lock()
			defer mu.Unlock()
			if !reported[reason] {
				t.Errorf("Malformed was not called with %q", reason)
			}
		})
	}
}

func TestHeaderSizesAndSegments(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%d %s;", len(r.Header.Get("A")), r.Host)
	})
	for _, n := range []int{0, 1, bufferSize - 70, bufferSize - 40, bufferSize, bufferSize + 1, 20 << 10, 60 << 10} {
		one := fmt.Sprintf("GET http://x/ HTTP/1.1\r\nHost: h\r\nA: %s\r\n\r\n", strings.Repeat("a", n))
		got := sendHalfClosed(t, addr, "\r\n"+one+one+strings.Replace(one, "\r\nHost", "\r\nConnection: close\r\nHost", 1))
		if want := fmt.Sprintf("%d x;", n); strings.Count(got, want) != 3 {
			t.Errorf("a header with a value of %d bytes: got %.300q, want 3 responses", n, got)
		}
	}

	// Send one byte at a time.
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range []byte("GET / HTTP/1.1\r\nHost: slow\r\nA: b\r\n\r\n") {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(resp.Body); string(got) != "1 slow;" {
		t.Errorf("sent byte by byte: got %q, want %q", got, "1 slow;")
	}
}

// The limit on fields is exact in headers and trailer sections. The trailer
// section has the same limit in bytes and the same grammar as a header.
func TestFieldBounds(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{
		MaxHeaderBytes: 16 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%d %s %v %q", len(r.Header), body, err, r.Trailer["A"])
		}),
	})
	fields := func(n int) (text string) {
		for i := range n {
			text += fmt.Sprintf("F%d:\r\n", i)
		}
		return text
	}
	const chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n"
	for _, tt := range []struct{ name, request, want string }{
		{"as many fields as may be", "GET / HTTP/1.1\r\nHost: x\r\n" + fields(255) + "\r\n", "255  <nil>"},
		{"one more", "GET / HTTP/1.1\r\nHost: x\r\n" + fields(256) + "\r\n", "431"},
		{"as many names in Connection as may be", "GET / HTTP/1.1\r\nHost: x\r\nConnection: a" + strings.Repeat(",a", 254) + "\r\n\r\n", "1  <nil>"},
		{"one name more", "GET / HTTP/1.1\r\nHost: x\r\nConnection: a" + strings.Repeat(",a", 255) + "\r\n\r\n", "431"},
		{"as many trailers as may be", chunked + "\r\n1\r\nx\r\n0\r\n" + fields(255) + "a: 1\r\n\r\n", `0 x <nil> ["1"]`},
		{"one trailer more", chunked + "\r\n1\r\nx\r\n0\r\n" + fields(256) + "a: 1\r\n\r\n", "the trailer section is too large"},
		{"trailers up to the bound in bytes", chunked + "\r\n1\r\nx\r\n0\r\n" + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 16) + "\r\n", "0 x <nil>"},
		{"trailers beyond it", chunked + "\r\n1\r\nx\r\n0\r\n" + strings.Repeat("A: "+strings.Repeat("a", 1000)+"\r\n", 17) + "\r\n", "the trailer section is too large"},
		{"an endless trailer", chunked + "\r\n1\r\nx\r\n0\r\nA: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", "the trailer section is too large"},
		{"a trailer that was not announced", chunked + "\r\n1\r\nx\r\n0\r\nB: 1\r\n\r\n", "0 x <nil> []"},
		{"a bare LF in the trailers", chunked + "\r\n1\r\nx\r\n0\r\nA: 1\n\r\n", "LF alone"},
		{"a folded trailer", chunked + "\r\n1\r\nx\r\n0\r\nA: 1\r\n 2\r\n\r\n", "0 x <nil> []"},
		{"a control character in a folded trailer", chunked + "\r\n1\r\nx\r\n0\r\nA: 1\r\n 2\r3\r\n\r\n", "control character"},
		{"a folded first trailer", chunked + "\r\n1\r\nx\r\n0\r\n A: 1\r\n\r\n", "folded"},
		{"a trailer with a space before its colon", chunked + "\r\n1\r\nx\r\n0\r\nA : 1\r\n\r\n", "0 x <nil> []"},
		{"a trailer that is not a field", chunked + "\r\n1\r\nx\r\n0\r\nA\r\n\r\n", "no name"},
		{"trailers cut short", chunked + "\r\n1\r\nx\r\n0\r\nA: 1\r\n", "unexpected EOF"},
		{"no end", chunked + "\r\n1\r\nx\r\n0\r\n", "unexpected EOF"},
		{"a long chunk extension", chunked + "\r\n1;" + strings.Repeat("e", 5000) + "\r\nx\r\n0\r\n\r\n", "too long"},
		{"long chunk extensions", chunked + "\r\n" + strings.Repeat("1;"+strings.Repeat("e", 3000)+"\r\nx\r\n", 10) + "0\r\n\r\n", "too much non-data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := sendHalfClosed(t, addr, tt.request); !strings.Contains(got, tt.want) {
				t.Errorf("got %.300q, want %q", got, tt.want)
			}
		})
	}
}

func TestHeaderTimeout(t *testing.T) {
	t.Parallel()
	addr := startServer(t, &Server{
		Handler:       http.NotFoundHandler(),
		HeaderTimeout: 30 * time.Millisecond,
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET / HTTP/1.1\r\nHos")
	if got, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 408 ") {
		t.Errorf("got %q, %v, want status 408", got, err)
	}
}
