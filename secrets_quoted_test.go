// Tests that errors about malformed values name the field, and do not quote the
// value, both in the log and in the response.

package networkproxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy"
)

// TestMalformedValuesAreNotQuoted sends a secret in each malformed value that is
// reported, from the client and from the origin server.
func TestMalformedValuesAreNotQuoted(t *testing.T) {
	t.Parallel()
	const get = "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n"
	const post = "POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n"
	for _, tt := range []struct {
		name, request, response string // response is the origin server's response; empty: a valid one
		message                 string
	}{
		{"Expect", get + "Expect: " + secret + "\r\n\r\n", "", "Expect"},
		{"Content-Length", post + "Content-Length: " + secret + "\r\n\r\n", "", "Content-Length"},
		{"Transfer-Encoding", post + "Transfer-Encoding: " + secret + "\r\n\r\n", "", "Transfer-Encoding"},
		{"Trailer", chunked + "Trailer: Content-Length, " + secret + "\r\n\r\n0\r\n\r\n", "", ""},
		{"Trailer alone", chunked + "Trailer: a b " + secret + "\r\n\r\n0\r\n\r\n", "", ""},
		{"Host", "GET http://o.example/ HTTP/1.1\r\nHost: a/" + secret + "\r\n\r\n", "", "Host"},
		{"control character", get + "Authorization: \x01" + secret + "\r\n\r\n", "", `value of "Authorization"`},
		{"method", secret + "/a http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n", "", "method"},
		{"version after a space in a query", "GET http://o.example/?a " + secret + "\r\nHost: o.example\r\n\r\n", "", "version"},
		{"version with a prefix", "GET http://o.example/?a HTTP/" + secret + "\r\nHost: o.example\r\n\r\n", "", "version"},
		{"scheme", "GET " + secret + "://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n", "", "scheme"},
		{"scheme without slashes", "GET " + secret + ":password HTTP/1.1\r\nHost: o.example\r\n\r\n", "", "scheme"},
		{"query of CONNECT", "CONNECT o.example:443?" + secret + " HTTP/1.1\r\nHost: o.example\r\n\r\n", "", "invalid"},
		{"query of CONNECT without its mark", "CONNECT o.example&key=" + secret + ":443 HTTP/1.1\r\nHost: o.example\r\n\r\n", "", "invalid"},
		{"encoded query in a host", "GET http://o.example%3fkey=" + secret + "/ HTTP/1.1\r\nHost: o.example\r\n\r\n", "", ""},
		{"query behind a backslash", `GET http://o.example\` + secret + "/ HTTP/1.1\r\nHost: o.example\r\n\r\n", "", ""},
		{"x-unix-socket", get + "X-Unix-Socket: " + secret + "\r\n\r\n", "", "x-unix-socket"},
		{"x-unix-socket path", get + "X-Unix-Socket: /run/../" + secret + "\r\n\r\n", "", "x-unix-socket"},
		{"trailer line", chunked + "Trailer: A\r\n\r\n0\r\nA " + secret + "\r\n\r\n", "", "invalid_content"},
		{"trailer value", chunked + "Trailer: A\r\n\r\n0\r\nA: \x01" + secret + "\r\n\r\n", "", "invalid_content"},
		{"chunk size", chunked + "\r\n" + secret + "\r\n\r\n", "", "invalid_content"},
		{"chunk extension", chunked + "\r\n0;\x01" + secret + "\n\r\n", "", "invalid_content"},

		{"origin: Content-Length", get + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n", "Content-Length"},
		{"origin: Content-Lengths", get + "\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: " + secret + "\r\n\r\n", "Content-Length"},
		{"origin: Transfer-Encoding", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + secret + "\r\n\r\n", "Transfer-Encoding"},
		{"origin: Transfer-Encodings", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: " + secret + "\r\n\r\n", "Transfer-Encoding"},
		{"origin: Trailer", get + "\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Content-Length," + secret + "\r\n\r\n0\r\n\r\n", ""},
		{"origin: status", get + "\r\n", "HTTP/1.1 " + secret + "\r\n\r\n", ""},
		{"origin: version", get + "\r\n", secret + " 200 OK\r\n\r\n", ""},
		{"origin: name", get + "\r\n", "HTTP/1.1 200 OK\r\nSet Cookie " + secret + ": a\r\nContent-Length: 0\r\n\r\n", ""},
		{"origin: Upgrade", get + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + secret + "\r\n\r\n", ""},
		{"origin: upgrade with a Content-Length", get + "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: " + secret + "\r\n\r\n", "Content-Length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), func(b *networkproxy.Builder) { networkproxy.SetUnixSockets(b, true) })
			if tt.response != "" {
				l.scripted("o.example", tt.response)
			} else {
				l.origin("o.example", 80, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
			}
			w := l.dialHTTP(t)
			w.send(tt.request)
			w.CloseWrite()
			got := w.readAll()
			if !strings.HasPrefix(got, "HTTP/1.1 ") {
				t.Fatalf("got the response %q", got)
			}
			if strings.Contains(got, secret) {
				t.Errorf("the response contains the value: %q", got)
			}
			if !strings.Contains(got, tt.message) {
				t.Errorf("the response %q lacks %q", got, tt.message)
			}
			l.Close()
			if log := l.log.String(); strings.Contains(log, secret) {
				t.Errorf("the log contains the value, or lacks the field: %s", log)
			}
		})
	}
}

// The admin API also names the field.
func TestAdminDoesNotQuoteTheHost(t *testing.T) {
	t.Parallel()
	l := start(t, allow(), nil)
	c, err := net.Dial("tcp", l.AdminAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(testDeadline())
	fmt.Fprintf(c, "GET /health HTTP/1.1\r\nHost: %s.example\r\nConnection: close\r\n\r\n", secret)
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 403 ") || strings.Contains(string(got), secret) {
		t.Errorf("got %q, %v", got, err)
	}
}
