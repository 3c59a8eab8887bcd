// Tests of the end of client connections, and of its announcement in the response.

package networkproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

// closingLab returns a lab with three names: o.example, whose origin server reads
// everything; early.example, whose origin server responds before it reads the
// body; and gone.example, which does not resolve.
func closingLab(t *testing.T) *lab {
	l := start(t, allow("o.example", "early.example", "gone.example"), nil)
	l.dns.Set("gone.example", testnet.NXDomain())
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	l.serve("early.example", 8080, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		readHeader(r)
		io.WriteString(c, emptyResponse)
		io.Copy(io.Discard, r)
	})
	return l
}

// A connection that is closed after a response is closed with "Connection: close"
// (RFC 9112 section 9.6), even if the request's body never arrives.
func TestConnectionCloseIsAnnounced(t *testing.T) {
	t.Parallel()
	l := closingLab(t)
	const chunked = "Transfer-Encoding: chunked"
	mega := strings.Repeat("x", 1<<20)
	for _, tt := range []struct {
		name, target string
		fields       []string
		body         string
		status       int
	}{
		{"refused, a body that never arrives", "no.example", []string{"Content-Length: 9"}, "", 403},
		{"refused, a body that never ends", "no.example", []string{"Content-Length: 9"}, "12345678", 403},
		{"refused, a chunked body that never arrives", "no.example", []string{chunked}, "", 403},
		{"refused, chunks without a last one", "no.example", []string{chunked}, "3\r\nabc\r\n", 403},
		{"refused, a last chunk without its end", "no.example", []string{chunked}, "3\r\nabc\r\n0\r\n", 403},
		{"refused, invalid chunks", "no.example", []string{chunked}, "nonsense\r\n", 403},
		{"refused, a larger body than the proxy drains", "no.example", []string{"Content-Length: 1048576"}, mega, 403},
		{"refused, a larger chunked body than the proxy drains", "no.example", []string{chunked}, "100000\r\n" + mega + "\r\n0\r\n\r\n", 403},
		{"refused expectation", "no.example", []string{"Content-Length: 9", "Expect: 100-continue"}, "", 403},
		{"refused expectation of chunks", "no.example", []string{chunked, "Expect: 100-continue"}, "", 403},
		{"failed, a body that never arrives", "gone.example", []string{"Content-Length: 9"}, "", 502},
		{"failed, chunks without a last one", "gone.example", []string{chunked}, "3\r\nabc\r\n", 502},
		{"failed, a large body", "gone.example", []string{"Content-Length: 1048576"}, mega, 502},
		{"failed expectation", "gone.example", []string{"Content-Length: 9", "Expect: 100-continue"}, "", 502},
		{"early response, a body that never arrives", "early.example:8080", []string{"Content-Length: 9"}, "", 200},
		{"early response, chunks without the last one", "early.example:8080", []string{chunked}, "3\r\nabc\r\n", 200},
		{"early response, expectation", "early.example:8080", []string{"Content-Length: 9", "Expect: 100-continue"}, "", 200},
		{"no target, a body that never arrives", "a..example", []string{"Content-Length: 9"}, "", 400},
		{"broken chunks", "o.example", []string{chunked}, "nonsense\r\n", 400},
		{"no token, a body that never arrives", "no.example", []string{"Content-Length: 9", "Proxy-Authorization: Basic c2Vzc2lvbjp4"}, "", 0},
		{"a socket, a body that never arrives", "o.example", []string{"Content-Length: 9", "X-Unix-Socket: /run/x"}, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := l.dialHTTP(t)
			w.request("POST", "http://"+tt.target+"/", tt.fields...)
			w.send(tt.body)
			a := w.readResponse("POST")
			if tt.status != 0 && a.StatusCode != tt.status {
				t.Errorf("got %s", a.Status)
			}
			if !a.Close {
				t.Errorf("the response %s lacks Connection: close: got %v", a.Status, a.Header)
			}
			if rest := w.readAll(); rest != "" { // fails if the connection stays open
				t.Errorf("after the response: got %q, want the end", rest)
			}
		})
	}
}

// A refused client whose body arrives slightly later keeps its connection.
func TestRefusedBodyIsSkipped(t *testing.T) {
	t.Parallel()
	l := closingLab(t)
	for _, tt := range []struct{ name, header, body string }{
		{"at once", "Content-Length: 5\r\n\r\nhello", ""},
		{"a moment later", "Content-Length: 5\r\n\r\n", "hello"},
		{"in two pieces", "Content-Length: 5\r\n\r\nhe", "llo"},
		{"larger than the buffer", "Content-Length: 100000\r\n\r\n", strings.Repeat("x", 100_000)},
		{"chunked", "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"},
		{"chunked with trailers", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n", "\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// On a busy machine, the second piece may come too late.
			eventually(t, "the connection stays open", func() bool {
				w := l.dialHTTP(t)
				w.send("POST http://no.example/ HTTP/1.1\r\nHost: no.example\r\n" + tt.header)
				w.send(tt.body)
				a := w.readResponse("POST")
				if a.StatusCode != 403 {
					t.Fatalf("got %s, want 403", a.Status)
				}
				if a.Close {
					return false
				}
				w.request("POST", "http://o.example/", "Content-Length: 4")
				w.send("next")
				if a := w.readResponse("POST"); a.StatusCode != 200 || a.body != "next" {
					t.Errorf("the next request: got %s %q", a.Status, a.body)
				}
				return true
			})
		})
	}
}

// A client that sends a complete large body before it reads gets the refusal, not
// a reset.
func TestRefusalArrivesAfterLargeBody(t *testing.T) {
	t.Parallel()
	l := closingLab(t)
	w := l.dialHTTP(t)
	const size = 32 << 20
	w.request("POST", "http://no.example/", fmt.Sprint("Content-Length: ", size))
	if _, err := io.Copy(w.TCPConn, io.LimitReader(zeros{}, size)); err != nil {
		t.Fatal(err)
	}
	if a := w.readResponse("POST"); a.StatusCode != 403 || a.refusal(t).Reason != "not_allowed" || !a.Close {
		t.Errorf("got %s %s", a.Status, a.body)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Connections over the limit do not delay the responses to each other, even if
// they announce a body that never arrives.
func TestLimitConnectionsWithoutBody(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, fields string }{
		{"length", "Content-Length: 9\r\n"},
		{"chunked", "Transfer-Encoding: chunked\r\n"},
		{"expectation", "Content-Length: 9\r\nExpect: 100-continue\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := limited(t, allow("o.example"), networkproxy.Limits{Connections: 1})
			l.mapHost("o.example", 80, testnet.Echo(t).Addr())
			l.connectRaw(t, "o.example:80") // an idle connection would make room
			for range 64 {                  // the number of concurrent responses
				w := l.dialHTTP(t)
				w.send("POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\n" + test.fields + "\r\n")
				if a := w.readResponse("POST"); a.StatusCode != 503 || !a.Close {
					t.Fatalf("got %s, close: %t", a.Status, a.Close)
				}
			}
			eventually(t, "another connection gets a response", func() bool {
				w := l.dialHTTP(t)
				io.WriteString(w, "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n")
				a, err := http.ReadResponse(w.r, nil)
				return err == nil && a.StatusCode == 503
			})
		})
	}
}
