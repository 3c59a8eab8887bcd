// Tests of forwarded plain HTTP: the bytes that the origin server and the client
// get, and when they get them.

package networkproxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/networkproxy"
	"example.com/networkproxy/internal/testnet"
)

const emptyResponse = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// TestForwardedHeader compares every line of the request header that the origin
// server gets.
func TestForwardedHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		send string
		want []string // the lines of the header; all but the first in any order
	}{
		{
			"nothing is added", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET / HTTP/1.1", "Host: o.example"},
		},
		{
			"end-to-end fields", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\nUser-Agent: me\r\nAccept-Encoding: br\r\nCookie: a=b\r\nCookie: c=d\r\n" +
				"X-Forwarded-For: mine\r\nVia: 1.0 mine\r\nAuthorization: Basic eA==\r\nx-low: 1\r\n\r\n",
			[]string{"GET / HTTP/1.1", "Host: o.example", "User-Agent: me", "Accept-Encoding: br", "Cookie: a=b", "Cookie: c=d",
				"X-Forwarded-For: mine", "Via: 1.0 mine", "Authorization: Basic eA==", "x-low: 1"},
		},
		{
			"hop by hop", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\nConnection: keep-alive, X-Hop\r\nConnection: x-hop-2,,\r\nX-Hop: 1\r\nX-Hop-2: 2\r\n" +
				"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Secret: c2VjcmV0\r\nProxy-Anything: 1\r\nproxy-lower: 1\r\n" +
				"TE: deflate;q=0.5\r\nUpgrade: websocket\r\nTrailer: X-T\r\nX-Stays: 1\r\n\r\n",
			[]string{"GET / HTTP/1.1", "Host: o.example", "X-Stays: 1"},
		},
		{
			"TE: trailers is sent for the proxy itself", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\nTE: gzip, Trailers\r\nConnection: TE\r\n\r\n",
			[]string{"GET / HTTP/1.1", "Host: o.example", "TE: trailers"},
		},
		{
			"Connection cannot remove Host and framing", "POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\nConnection: host, content-length, transfer-encoding\r\nContent-Length: 3\r\n\r\nabc",
			[]string{"POST / HTTP/1.1", "Host: o.example", "Content-Length: 3"},
		},
		{
			"the target wins over Host", "GET http://O.example:80/ HTTP/1.1\r\nHost: denied.example\r\n\r\n",
			[]string{"GET / HTTP/1.1", "Host: o.example"},
		},
		{
			"HTTP/1.0", "GET http://o.example/x HTTP/1.0\r\n\r\n",
			[]string{"GET /x HTTP/1.1", "Host: o.example"},
		},
		{
			"query byte for byte", "GET http://o.example/?a=1&&b=%zz;c=+%20\"|{}&é HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET /?a=1&&b=%zz;c=+%20\"|{}&é HTTP/1.1", "Host: o.example"},
		},
		{
			"an empty query stays", "GET http://o.example/? HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET /? HTTP/1.1", "Host: o.example"},
		},
		{
			"path byte for byte", "GET http://o.example/a%2Fb//../%7Eé/{x}|\"^;p=1,[2] HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET /a%2Fb//../%7Eé/{x}|\"^;p=1,[2] HTTP/1.1", "Host: o.example"},
		},
		{
			"two slashes", "GET http://o.example//p.example/a%2Fb//c HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET //p.example/a%2Fb//c HTTP/1.1", "Host: o.example"},
		},
		{
			"a path of escapes", "GET http://o.example/%2f%2F%00%ff HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET /%2f%2F%00%ff HTTP/1.1", "Host: o.example"},
		},
		{
			"no path", "GET http://o.example?q HTTP/1.1\r\nHost: o.example\r\n\r\n",
			[]string{"GET /?q HTTP/1.1", "Host: o.example"},
		},
		{
			"OPTIONS of the server", "OPTIONS http://o.example HTTP/1.1\r\nHost: o.example\r\n\r\n", // RFC 9112 section 3.2.4
			[]string{"OPTIONS * HTTP/1.1", "Host: o.example"},
		},
		{
			"an extension method", "PROPFIND http://o.example/ HTTP/1.1\r\nHost: o.example\r\nDepth: 1\r\n\r\n",
			[]string{"PROPFIND / HTTP/1.1", "Host: o.example", "Depth: 1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			headers := l.scripted("o.example", emptyResponse)
			w := l.dialHTTP(t)
			w.send(tt.send)
			if a := w.readResponse("GET"); a.StatusCode != 200 {
				t.Fatalf("%s: got %s", a.Status, a.body)
			}
			got := strings.Split(strings.TrimSuffix(wait(t, headers, "the request"), "\r\n\r\n"), "\r\n")
			if !slices.Equal(got, tt.want) {
				t.Errorf("the origin server got\n%q, want\n%q", got, tt.want)
			}
		})
	}
}

// TestResponseHeader compares every line of the response header that the client
// gets.
func TestResponseHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, method, response, want string }{
		{
			"nothing is added", "GET", "HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi",
			"HTTP/1.1 299 Whatever\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nhi",
		},
		{
			"hop by hop", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Hop, content-length\r\nX-Hop: 1\r\nKeep-Alive: timeout=1\r\n" +
				"Proxy-Authenticate: Basic realm=x\r\nProxy-Connection: close\r\nUpgrade: h2c\r\nX-B: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-B: 1\r\n\r\n",
		},
		{
			"an origin server cannot imitate the proxy", "GET", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nX-Proxy-Error: blocked-by-allowlist\r\nx-proxy-error: x\r\n\r\n",
			"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
		},
		{
			"other fields pass", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: now\r\nContent-Encoding: gzip\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\nDate: now\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
		},
		{
			"HEAD keeps the length", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 123\r\n\r\n",
		},
		{
			"HEAD of a stream", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
			"HTTP/1.1 200 OK\r\n\r\n",
		},
		{
			"204", "GET", "HTTP/1.1 204 No Content\r\nX-C: 1\r\n\r\n",
			"HTTP/1.1 204 No Content\r\nX-C: 1\r\n\r\n",
		},
		{
			"304", "GET", "HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\nEtag: \"x\"\r\n\r\n",
		},
		{
			"to the end of the connection", "GET", "HTTP/1.0 200 OK\r\nX-D: 1\r\n\r\nall of it",
			"HTTP/1.1 200 OK\r\nX-D: 1\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n",
		},
		{
			"a 401 passes to the client", "GET", "HTTP/1.1 401 Unauthorized\r\nWww-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nWww-Authenticate: Basic\r\n\r\n",
		},
		{
			"a 301 is not followed", "GET", "HTTP/1.1 301 Moved Permanently\r\nLocation: http://denied.example/\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\nLocation: http://denied.example/\r\n\r\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			l.scripted("o.example", tt.response)
			w := l.dialHTTP(t)
			w.request(tt.method, "http://o.example/")
			// A malformed second request makes the proxy close after the response.
			got := w.readN(len(tt.want))
			if sortedHeader(got) != sortedHeader(tt.want) {
				t.Errorf("the client got\n%q, want\n%q", got, tt.want)
			}
			w.send("END\r\n\r\n")
			if rest := w.readAll(); !strings.HasPrefix(rest, "HTTP/1.1 400") {
				t.Errorf("after the response: got %.100q, want a 400", rest)
			}
		})
	}
}

// sortedHeader returns a header with its fields sorted.
func sortedHeader(s string) string {
	header, body, _ := strings.Cut(s, "\r\n\r\n")
	fields := strings.Split(header, "\r\n")
	slices.Sort(fields[1:])
	return strings.Join(fields, "\r\n") + "\r\n\r\n" + body
}

// TestPooling checks that connections are reused on both sides.
func TestPooling(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example", "p.example"), nil)
	origin := l.serve("o.example", 80, func(c *net.TCPConn) {
		r := bufio.NewReader(c)
		for readHeader(r) != "" {
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	l.mapHost("p.example", 80, origin.Addr())
	for range 3 {
		w := l.dialHTTP(t)
		for range 5 {
			w.get("http://o.example/")
			if a := w.readResponse("GET"); a.body != "ok" {
				t.Fatalf("got %s %q", a.Status, a.body)
			}
		}
	}
	if n := origin.Accepted(); n != 1 {
		t.Errorf("%d connections for 15 requests in turn, want 1", n)
	}
	// The same address under another name has its own pool, because the verdict
	// on one name says nothing about another.
	w := l.dialHTTP(t)
	w.get("http://p.example/")
	w.readResponse("GET")
	if n := origin.Accepted(); n != 2 {
		t.Errorf("%d connections for two names of one address, want 2", n)
	}
	if q := l.dns.Queries(); !slices.Equal(q, []string{"o.example", "p.example"}) {
		t.Errorf("DNS queries %q, want one for each connection", q)
	}
}

// TestEventsArriveUnbuffered reads a stream of events. The origin server sends
// the next event only after the client has read the last one, and the first only
// after the client has read the header.
func TestEventsArriveUnbuffered(t *testing.T) {
	t.Parallel()
	for _, length := range []string{"", "30"} {
		t.Run("length "+length, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			next := make(chan struct{})
			l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				if length != "" {
					w.Header().Set("Content-Length", length)
				}
				rc := http.NewResponseController(w)
				rc.Flush()
				for i := range 3 {
					select {
					case <-next:
					case <-r.Context().Done():
						return
					}
					fmt.Fprintf(w, "data: %d\n\n\n", i)
					rc.Flush()
				}
			})
			w := l.dialHTTP(t)
			w.get("http://o.example/")
			a := w.readHeader("GET") // before any event is sent
			if ct := a.Header.Get("Content-Type"); ct != "text/event-stream" {
				t.Errorf("got the Content-Type %q", ct)
			}
			for i := range 3 {
				next <- struct{}{}
				b := make([]byte, 10)
				if _, err := io.ReadFull(a.Body, b); err != nil || string(b) != fmt.Sprintf("data: %d\n\n\n", i) {
					t.Fatalf("event %d: got %q, %v", i, b, err)
				}
			}
		})
	}
}

// TestFullDuplex alternates between the body of a request and the body of its
// response.
func TestFullDuplex(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			io.WriteString(w, strings.ToUpper(string(buf[:n])))
			rc.Flush()
			if err != nil {
				return
			}
		}
	})
	w := l.dialHTTP(t)
	w.request("POST", "http://o.example/", "Transfer-Encoding: chunked")
	a := w.readHeader("POST")
	for _, ping := range []string{"one", "two", "three"} {
		w.send(fmt.Sprintf("%x\r\n%s\r\n", len(ping), ping))
		pong := make([]byte, len(ping))
		if _, err := io.ReadFull(a.Body, pong); err != nil || string(pong) != strings.ToUpper(ping) {
			t.Fatalf("after %q: got %q, %v", ping, pong, err)
		}
	}
	w.send("0\r\n\r\n")
	if rest, err := io.ReadAll(a.Body); err != nil || len(rest) != 0 {
		t.Errorf("at the end of the response: got %q, %v", rest, err)
	}
}

func TestBody(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 7
	l := start(t, allow("o.example"), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
		sink := testnet.NewSink()
		if _, err := io.Copy(sink, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Received", fmt.Sprintf("%d %x", r.ContentLength, sink.Sum()))
		if r.URL.Query().Has("length") {
			w.Header().Set("Content-Length", strconv.Itoa(size))
		}
		io.Copy(w, testnet.NewSource(2, size))
	})
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("length known %t", known), func(t *testing.T) {
			t.Parallel()
			up, url, length := testnet.NewSource(1, size), "http://o.example/", int64(-1)
			if known {
				url, length = url+"?length", size
			}
			r, err := http.NewRequest("PUT", url, up)
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			a, err := l.client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Body.Close()
			if got, want := a.Header.Get("X-Received"), fmt.Sprintf("%d %x", length, up.Sum()); got != want {
				t.Errorf("sent %s, received %s", want, got)
			}
			if a.ContentLength != length {
				t.Errorf("the response has the length %d, want %d", a.ContentLength, length)
			}
			down, sink := testnet.NewSource(2, size), testnet.NewSink()
			io.Copy(io.Discard, down)
			if _, err := io.Copy(sink, a.Body); err != nil || sink.Sum() != down.Sum() {
				t.Errorf("the client got %d bytes of the response, %v", sink.Len(), err)
			}
		})
	}
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	t.Run("of a response", func(t *testing.T) {
		t.Parallel()
		for _, test := range []struct{ name, response string }{
			{"announced", "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Other\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n"},
			{"not announced", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n"},
			{"in part", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n"},
			{"with others", "HTTP/1.1 200 OK\r\nTrailer: X-Sum, X-Gone\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n"},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				l := start(t, allow("o.example"), nil)
				// Trailers must not carry fields that are removed from headers.
				l.scripted("o.example", test.response+"X-Proxy-Error: blocked-by-policy\r\nConnection: close\r\nContent-Length: 5\r\nProxy-Authenticate: x\r\n\r\n")
				w := l.dialHTTP(t)
				w.get("http://o.example/", "TE: trailers")
				a := w.readResponse("GET")
				if a.body != "ok" || a.Trailer.Get("X-Sum") != "1" || a.Trailer.Get("X-Other") != "2" {
					t.Errorf("got body %q and trailers %v", a.body, a.Trailer)
				}
				for _, name := range []string{"X-Proxy-Error", "Connection", "Content-Length", "Proxy-Authenticate"} {
					if v, ok := a.Trailer[name]; ok {
						t.Errorf("the trailer %s: %q was forwarded", name, v)
					}
				}
			})
		}
	})
	t.Run("of a request", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		got := make(chan string, 1)
		l.serve("o.example", 80, func(c *net.TCPConn) {
			r := bufio.NewReader(c)
			var b strings.Builder
			for !strings.HasSuffix(b.String(), "\r\n0\r\n") {
				line, err := r.ReadString('\n')
				b.WriteString(line)
				if err != nil {
					break
				}
			}
			got <- b.String() + readHeader(r)
			io.WriteString(c, emptyResponse)
		})
		w := l.dialHTTP(t)
		w.request("POST", "http://o.example/", "Trailer: X-Sum", "Transfer-Encoding: chunked")
		w.send("2\r\nhi\r\n0\r\nX-Sum: 7\r\nProxy-Authorization: secret\r\nX-Unix-Socket: /x\r\nContent-Length: 5\r\nConnection: close\r\n\r\n")
		if a := w.readResponse("POST"); a.StatusCode != 200 {
			t.Errorf("got %s, want 200", a.Status)
		}
		want := "POST / HTTP/1.1\r\nHost: o.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
		if s := wait(t, got, "the request"); s != want {
			t.Errorf("the origin server got\n%q, want\n%q", s, want)
		}
	})
}

func TestInformationalResponses(t *testing.T) {
	t.Parallel()
	const response = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nX-Proxy-Error: x\r\nConnection: x\r\n\r\n" +
		"HTTP/1.1 102 Processing\r\n\r\n" +
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Final: 1\r\n\r\nok"
	l := start(t, allow("o.example"), nil)
	l.scripted("o.example", response)
	t.Run("HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		w := l.dialHTTP(t)
		w.get("http://o.example/", "Connection: close")
		want := "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" +
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Final: 1\r\nConnection: close\r\n\r\nok"
		got := w.readAll()
		final := strings.LastIndex(got, "HTTP/1.1")
		if got[:max(final, 0)] != want[:strings.LastIndex(want, "HTTP/1.1")] || sortedHeader(got[max(final, 0):]) != sortedHeader(want[strings.LastIndex(want, "HTTP/1.1"):]) {
			t.Errorf("the client got\n%q, want\n%q", got, want)
		}
	})
	t.Run("not to HTTP/1.0", func(t *testing.T) { // RFC 9110 section 15.2
		t.Parallel()
		w := l.dialHTTP(t)
		w.send("GET http://o.example/ HTTP/1.0\r\n\r\n")
		if got := w.readAll(); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
			t.Errorf("the HTTP/1.0 client got\n%q, want the final response only", got)
		}
	})
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	t.Run("the origin server wants the body", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, r.Body) // the first Read sends 100 Continue
		})
		w := l.dialHTTP(t)
		w.request("POST", "http://o.example/", "Expect: 100-continue", "Content-Length: 5")
		if s := w.readLine() + w.readLine(); s != "HTTP/1.1 100 Continue" {
			t.Fatalf("before the body: got %q, want 100 Continue", s)
		}
		w.send("hello")
		if a := w.readResponse("POST"); a.body != "hello" {
			t.Errorf("got %s %q", a.Status, a.body)
		}
	})
	t.Run("the origin server refuses the body", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusRequestEntityTooLarge) })
		w := l.dialHTTP(t)
		w.request("POST", "http://o.example/", "Expect: 100-continue", "Content-Length: 5")
		if s := w.readLine(); s != "HTTP/1.1 413 Request Entity Too Large" {
			t.Errorf("instead of 100 Continue: got %q", s)
		}
	})
	t.Run("the policy refuses the request", func(t *testing.T) {
		t.Parallel()
		l := start(t, allow("o.example"), nil)
		w := l.dialHTTP(t)
		w.request("POST", "http://other.example/", "Expect: 100-continue", "Content-Length: 5")
		if s := w.readLine(); s != "HTTP/1.1 403 Forbidden" {
			t.Errorf("instead of 100 Continue: got %q", s)
		}
	})
}

// TestOriginMisbehaves sends malformed responses from the origin server. The
// proxy must respond 502 to each.
func TestOriginMisbehaves(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, response string }{
		{"nothing", ""},
		{"garbage", "garbage\r\n\r\n"},
		{"half a status line", "HTTP/1.1 20"},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-Le"},
		{"no status", "HTTP/1.1 \r\n\r\n"},
		{"a status of words", "HTTP/1.1 abc OK\r\n\r\n"},
		{"a status below 100", "HTTP/1.1 099 No\r\nContent-Length: 0\r\n\r\n"},
		{"status 0", "HTTP/1.1 000 No\r\nContent-Length: 0\r\n\r\n"},
		{"another version", "HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"length of words", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na"},
		{"unknown transfer coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
		{"chunked twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
		{"no colon", "HTTP/1.1 200 OK\r\nContent-Length 0\r\n\r\n"},
		{"space in a name", "HTTP/1.1 200 OK\r\nContent Length: 0\r\n\r\n"},
		{"NUL in a field", "HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n"},
		{"an unwanted switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nbytes"},
		{"a header without end", "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 2<<20) + "\r\n\r\n"},
		{"endless 1xx", strings.Repeat("HTTP/1.1 103 Early Hints\r\nX-A: "+strings.Repeat("a", 1000)+"\r\n\r\n", 3000)},
		{"HTTP/2", "\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"},
		{"TLS", "\x15\x03\x01\x00\x02\x02\x46"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			l.scripted("o.example", test.response)
			w := l.dialHTTP(t)
			w.get("http://o.example/")
			a := w.readHeader("GET")
			for a.StatusCode == http.StatusEarlyHints {
				a = w.readHeader("GET")
			}
			if a.StatusCode != http.StatusBadGateway {
				t.Fatalf("got %s, want %d", a.Status, http.StatusBadGateway)
			}
			body, err := io.ReadAll(a.Body)
			if err != nil {
				t.Fatal(err)
			}
			f := rawResponse{a, string(body)}.refusal(t)
			if f.Status != "error" || f.Reason != "upstream_error" || f.Host != "o.example" {
				t.Errorf("got %+v", f)
			}
			if a.Header.Get("x-proxy-error") != "" || len(l.Blocked()) != 0 {
				t.Error("a failure is reported as a refusal")
			}
			if log := l.log.String(); strings.Contains(log, "panic") {
				t.Errorf("the log has a panic: %s", log)
			}
		})
	}
}

// TestResponseCutShort checks that a truncated response does not look complete.
func TestResponseCutShort(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, response string }{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"},
		{"chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf"},
		{"between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\nmore\r\n0\r\n\r\n"},
		{"bad trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nno colon\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), nil)
			l.scripted("o.example", test.response)
			w := l.dialHTTP(t)
			w.get("http://o.example/")
			a := w.readHeader("GET")
			body, err := io.ReadAll(a.Body)
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix("half", string(body)) {
				t.Errorf("got %s with body %q, %v; want %v", a.Status, body, err, io.ErrUnexpectedEOF)
			}
		})
	}
}

// TestClientLeaves checks that the connection to the origin server ends when the
// client closes its own.
func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		response string
		send     string
	}{
		{"before the response", "", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n"},
		{"during the response", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nsome", "GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n\r\n"},
		{"during the request", "", "POST http://o.example/ HTTP/1.1\r\nHost: o.example\r\nContent-Length: 1000000\r\n\r\nsome"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if testing.Short() && tt.name == "during the response" {
				t.Skip("waits ten seconds for a client that may have closed one direction only")
			}
			l := start(t, allow("o.example"), nil)
			got, gone := make(chan string, 1), make(chan error, 1)
			l.serve("o.example", 80, func(c *net.TCPConn) {
				r := bufio.NewReader(c)
				got <- readHeader(r)
				io.WriteString(c, tt.response)
				_, err := io.Copy(io.Discard, r)
				gone <- err
			})
			w := l.dialHTTP(t)
			w.send(tt.send)
			wait(t, got, "the request")
			if tt.response != "" {
				w.readHeader("GET")
				w.readN(len("some"))
			}
			w.Close()
			wait(t, gone, "the end of the origin server's connection")
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	silent := func(b *networkproxy.Builder) {
		networkproxy.SetConnect(b, func(ctx context.Context, _ netip.AddrPort) (*net.TCPConn, error) {
			return nil, &net.OpError{Op: "dial", Err: timeoutError{}}
		})
	}
	for _, tt := range []struct {
		name    string
		dns     testnet.Answer
		change  func(*networkproxy.Builder)
		status  int
		reason  string
		message string
	}{
		{"no such name", testnet.NXDomain(), nil, 502, "dns_failure", "no such host"},
		{"name server fails", testnet.ServFail(), nil, 502, "dns_failure", "server misbehaving"},
		{"no address", testnet.Addrs(), nil, 502, "dns_failure", "no such host"},
		{"refused", testnet.Addrs(publicAddr), nil, 502, "connect_failure", "connection refused"},
		{"time-out", testnet.Addrs(publicAddr), silent, 504, "timeout", "too slow"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := start(t, allow("o.example"), tt.change)
			l.dns.Set("o.example", tt.dns)

			w := l.dialHTTP(t)
			w.get("http://o.example/")
			a := w.readResponse("GET")
			f := a.refusal(t)
			if a.StatusCode != tt.status || f.Status != "error" || f.Reason != tt.reason || !strings.Contains(f.Message, tt.message) {
				t.Errorf("GET: got %s %+v", a.Status, f)
			}

			w.get("http://o.example/", "Connection: Upgrade", "Upgrade: websocket") // on the same connection
			a = w.readResponse("GET")
			if f := a.refusal(t); a.StatusCode != tt.status || f.Reason != tt.reason {
				t.Errorf("Upgrade: got %s %+v", a.Status, f)
			}

			w.request("CONNECT", "o.example:443")
			a = w.readResponse("CONNECT!")
			if a.StatusCode != tt.status || !strings.Contains(a.body, tt.message) || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
				t.Errorf("CONNECT: got %s %q", a.Status, a.body)
			}
			if n := len(l.Blocked()); n != 0 {
				t.Errorf("%d failures are recorded as refusals", n)
			}
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string { return "too slow" }
func (timeoutError) Timeout() bool { return true }

// TestConcurrentRequests sends many requests at once and reads every response.
func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	l.origin("o.example", 80, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
	c := l.client()
	errs := make(chan error)
	const n = 100
	for i := range n {
		go func() {
			path := "/" + strconv.Itoa(i)
			a, err := c.Get("http://o.example" + path)
			if err == nil {
				var b []byte
				b, err = io.ReadAll(a.Body)
				a.Body.Close()
				if string(b) != path {
					err = errors.Join(err, fmt.Errorf("%s: %q", path, b))
				}
			}
			errs <- err
		}()
	}
	for range n {
		if err := wait(t, errs, "a response"); err != nil {
			t.Error(err)
		}
	}
}

func TestLargeHeader(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), nil)
	w := l.dialHTTP(t)
	w.send("GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\nX-Large: " + strings.Repeat("a", 80<<10) + "\r\n\r\n")
	if s := w.readLine(); s != "HTTP/1.1 431 Request Header Fields Too Large" {
		t.Errorf("got %q", s)
	}
	l.waitLogged(t, "malformed request")
}
