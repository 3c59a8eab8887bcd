// Tests that headers of requests and responses are forwarded unchanged, except
// for hop-by-hop fields.

package networkproxy_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"example.com/networkproxy"
)

// The paths of a forwarded request.
const (
	viaDirect   = "direct"
	viaUpstream = "through an upstream proxy"
	viaUpgrade  = "with an upgrade"
)

// startVia runs a proxy whose requests to o.example take one path, to an origin
// server or an upstream proxy that sends response. It returns the headers that
// arrive there.
func startVia(t *testing.T, via, response string) (*lab, <-chan string) {
	t.Helper()
	config := allow("o.example")
	config.AllowUpstreamProxy = via == viaUpstream
	l := start(t, config, func(b *networkproxy.Builder) { b.UpstreamEnviron([]string{"ALL_PROXY=proxy.example:80"}) })
	name := "o.example"
	if via == viaUpstream {
		name = "proxy.example"
	}
	return l, l.scripted(name, response)
}

func TestRequestTargetsPassUnchanged(t *testing.T) {
	t.Parallel()
	for _, path := range []string{
		"/100%", "/%", "/%zz", "/%2", "/a%2Fb%2fc", "//", "//x.example/a", "///x|y^`{}\"<>\\", "/é\xff", "/a;b,c=d'(!*)~[1]",
		"/%00%0d%0a", "/../a/./b", "/?", "/??", "/?%", "/?a=%zz&b=\"|{}", "/:80", "/a:b@c", "/x?http://y/?z", "/http://y/%", "/+%20+",
	} {
		for _, via := range []string{viaDirect, viaUpstream, viaUpgrade} {
			t.Run(fmt.Sprintf("%q, %s", path, via), func(t *testing.T) {
				t.Parallel()
				checkRequestTarget(t, path, via, "GET")
			})
			t.Run(fmt.Sprintf("%q, %s, body", path, via), func(t *testing.T) {
				t.Parallel()
				checkRequestTarget(t, path, via, "POST")
			})
		}
	}
}

// checkRequestTarget makes a request for path and checks the target in the request
// line that arrives. A POST has a body.
func checkRequestTarget(t *testing.T, path, via, method string) {
	l, headers := startVia(t, via, emptyResponse)
	fields, body := "", ""
	if method == "POST" {
		fields, body = "Transfer-Encoding: chunked\r\n", "0\r\n\r\n"
	}
	if via == viaUpgrade {
		fields += "Connection: Upgrade\r\nUpgrade: websocket\r\n"
	}
	w := l.dialHTTP(t)
	w.send(method + " http://o.example" + path + " HTTP/1.1\r\nHost: o.example\r\n" + fields + "\r\n" + body)
	if got := w.readResponse(method); got.StatusCode != 200 {
		t.Fatalf("got %s %s, want 200", got.Status, got.body)
	}
	want := path
	if via == viaUpstream {
		want = "http://o.example" + path
	}
	line, _, _ := strings.Cut(wait(t, headers, "the request"), "\r\n")
	if got := strings.Split(line, " "); len(got) != 3 || got[1] != want {
		t.Errorf("got the request line %q, want the target %q", line, want)
	}
}

// Field names keep their case and order, values keep their inner spaces, and the
// reason phrase of the origin server is kept.
func TestHeadersPassUnchanged(t *testing.T) {
	t.Parallel()
	const fields = "soapaction: x\r\nX-B: 2\r\nx-a: 1\r\nX-B: 3\r\nETag: W/\"1\"\r\nContent-MD5: \r\nPragma: no-cache\r\nx-A: a,  b\tc\r\nWWW-X: é\r\n"
	for _, via := range []string{viaDirect, viaUpstream, viaUpgrade} {
		for _, test := range []struct {
			name, send, sent  string // of the request, after its Host
			response, relayed string
		}{
			{name: "fields", send: fields, sent: fields, response: "HTTP/1.1 404 No Such  Widget\r\ncontent-length: 0\r\n" + fields},
			{name: "no reason", response: "HTTP/1.1 200 \r\nContent-Length: 0\r\n"},
			{name: "no space", response: "HTTP/1.1 299\r\nContent-Length: 0\r\n", relayed: "HTTP/1.1 299 \r\nContent-Length: 0\r\n"},
			{name: "a reason with a control character", response: "HTTP/1.1 404 a\x1b[2J\r\nContent-Length: 0\r\n", relayed: "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"},
			{name: "Pragma", send: "PRAGMA: no-cache\r\n", sent: "PRAGMA: no-cache\r\n", response: "HTTP/1.1 200 OK\r\nContent-Length: 0\r\npragma: no-cache\r\n"},
			{
				name: "folded", response: "HTTP/1.1 200 OK\r\nX-A: a\r\n\t b\r\n  c\r\nContent-Length: 0\r\n",
				relayed: "HTTP/1.1 200 OK\r\nX-A: a b c\r\nContent-Length: 0\r\n",
			},
			{
				name: "white space before a colon", response: "HTTP/1.1 200 OK\r\nX-Legacy : yes\r\nContent-Length\t : 0\r\nX-Proxy-Error : x\r\nKeep-Alive : x\r\n",
				relayed: "HTTP/1.1 200 OK\r\nX-Legacy: yes\r\nContent-Length: 0\r\n",
			},
			{
				name: "lines that end with LF", response: "HTTP/1.1 200 OK\nx-a: 1\nContent-Length: 0\r\n",
				relayed: "HTTP/1.1 200 OK\r\nx-a: 1\r\nContent-Length: 0\r\n",
			},
			{
				name: "for one connection", send: "cOnnection: close, x-HOP , Te\r\nx-Hop: 1\r\nKEEP-alive: 1\r\nproxy-x: 1\r\nX-Unix-Socket-Not: 1\r\nPROXY-authorization: x\r\ntrailer: a\r\n",
				sent:     "X-Unix-Socket-Not: 1\r\n",
				response: "HTTP/1.1 200 OK\r\nCONNECTION: x-hop, content-length\r\nX-HOP: 1\r\ncontent-LENGTH: 0\r\nproxy-x: 1\r\nUPGRADE: h2c\r\nx-PROXY-error: x\r\nhttp2-settings: x\r\n",
				relayed:  "HTTP/1.1 200 OK\r\ncontent-LENGTH: 0\r\n",
			},
			{name: "no length without a body", send: "content-length: 0\r\n", sent: "content-length: 0\r\n", response: "HTTP/1.1 204 Nothing\r\nX-A: 1\r\n"},
		} {
			t.Run(test.name+", "+via, func(t *testing.T) {
				t.Parallel()
				l, headers := startVia(t, via, test.response+"\r\n")
				w := l.dialHTTP(t)
				upgrade, host := "", "http://o.example"
				switch via {
				case viaUpgrade:
					upgrade, host = "Connection: Upgrade\r\nUpgrade: websocket\r\n", ""
				case viaDirect:
					host = ""
				}
				w.send("GET http://o.example/ HTTP/1.1\r\nHost: o.example\r\n" + test.send + upgrade + "\r\n")
				want := "GET " + host + "/ HTTP/1.1\r\nHost: o.example\r\n" + test.sent + upgrade + "\r\n"
				if got := wait(t, headers, "the request"); got != want {
					t.Errorf("the origin server got\n%q, want\n%q", got, want)
				}
				if want = test.relayed; want == "" {
					want = test.response
				}
				if strings.Contains(strings.ToLower(test.send), "close") {
					want += "Connection: close\r\n"
				}
				if got := readHeader(w.r); got != want+"\r\n" {
					t.Errorf("the client got\n%q, want\n%q", got, want)
				}
			})
		}
	}
}

// A request with white space before a colon is refused, because readers disagree
// about its meaning.
func TestSpaceBeforeTheColonOfARequest(t *testing.T) {
	t.Parallel()
	l, _ := startVia(t, viaDirect, emptyResponse)
	w := l.dialHTTP(t)
	w.get("http://o.example/", "X-A : 1")
	if got := w.readResponse("GET"); got.StatusCode != 400 {
		t.Errorf("got %s, want 400", got.Status)
	}
}

// Every informational response is forwarded, regardless of their number.
func TestManyInformationalResponses(t *testing.T) {
	t.Parallel()
	const many = 300
	l, _ := startVia(t, viaDirect, strings.Repeat("HTTP/1.1 102 Still At It\r\nx-step: 1\r\n\r\n", many)+emptyResponse)
	w := l.dialHTTP(t)
	w.get("http://o.example/")
	for i := range many {
		if got := readHeader(w.r); got != "HTTP/1.1 102 Still At It\r\nx-step: 1\r\n\r\n" {
			t.Fatalf("response %d: %q", i, got)
		}
	}
	if got := w.readResponse("GET"); got.StatusCode != 200 {
		t.Errorf("final response: got %s", got.Status)
	}
}

// A Content-Length next to Transfer-Encoding is ignored and not forwarded, even
// if the response has no body to frame.
func TestContentLengthBesideTransferEncoding(t *testing.T) {
	t.Parallel()
	const framing = "\r\nTransfer-Encoding: chunked\r\nContent-Length: -5, abc\r\n\r\n"
	for _, test := range []struct{ method, response, want string }{
		{"HEAD", "HTTP/1.1 200 OK" + framing, "HTTP/1.1 200 OK\r\n\r\n"},
		{"GET", "HTTP/1.1 304 Not Modified" + framing, "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"GET", "HTTP/1.1 200 OK" + framing + "0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
	} {
		for _, via := range []string{viaDirect, viaUpstream, viaUpgrade} {
			t.Run(test.method+", "+test.response[:len("HTTP/1.1 200")]+", "+via, func(t *testing.T) {
				t.Parallel()
				l, _ := startVia(t, via, test.response)
				w := l.dialHTTP(t)
				if via == viaUpgrade {
					w.request(test.method, "http://o.example/", "Connection: Upgrade", "Upgrade: websocket")
				} else {
					w.request(test.method, "http://o.example/")
				}
				if got := readHeader(w.r); got != test.want {
					t.Errorf("got %q, want %q", got, test.want)
				}
			})
		}
	}
}

// The number of fields in a response is limited regardless of their length,
// because each takes memory.
func TestResponseFieldsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 256
	fields := func(n int) string { return strings.Repeat("0:\r\n", n) }
	for _, test := range []struct {
		name, response string
		cut            bool // the response is cut after its header
		ok             bool
	}{
		{"as many as may come", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields(limit-1) + "\r\n", false, true},
		{"one more", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + fields(limit) + "\r\n", false, false},
		{"without an end", "HTTP/1.1 200 OK\r\n" + fields(100_000) + "\r\n", false, false},
		{"folded lines", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: b\r\n" + strings.Repeat(" c\r\n", limit) + "\r\n", false, false},
		{"nameless lines", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + strings.Repeat(":\r\n", limit) + "\r\n", false, false},
		{"as many names in Connection as may come", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a" + strings.Repeat(",a", limit-2) + "\r\n\r\n", false, true},
		{"one name more", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a" + strings.Repeat(",a", limit-1) + "\r\n\r\n", false, false},
		{"names in Connection and Trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: a" + strings.Repeat(",a", limit/2) +
			"\r\nTrailer: b" + strings.Repeat(",b", limit/2) + "\r\n\r\n0\r\n\r\n", false, false},
		{"names in Connection of a 1xx response", "HTTP/1.1 103 Early Hints\r\nConnection: a" + strings.Repeat(",a", limit) + "\r\n\r\n" + emptyResponse, false, false},
		{"a 1xx response", "HTTP/1.1 103 Early Hints\r\n" + fields(limit+1) + "\r\n" + emptyResponse, false, false},
		{"trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + fields(limit+1) + "\r\n", true, false},
		{"as many trailers as may come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + fields(limit) + "\r\n", true, true},
	} {
		for _, via := range []string{viaDirect, viaUpstream, viaUpgrade} {
			t.Run(test.name+", "+via, func(t *testing.T) {
				t.Parallel()
				l, _ := startVia(t, via, test.response)
				w := l.dialHTTP(t)
				if via == viaUpgrade {
					w.get("http://o.example/", "Connection: Upgrade", "Upgrade: websocket")
				} else {
					w.get("http://o.example/")
				}
				a := w.readHeader("GET")
				_, err := io.ReadAll(a.Body)
				switch {
				case test.cut && (a.StatusCode != 200 || (err == nil) != test.ok):
					t.Errorf("got %s, %v", a.Status, err)
				case !test.cut && test.ok && a.StatusCode != 200, !test.cut && !test.ok && a.StatusCode != 502:
					t.Errorf("got %s", a.Status)
				}
			})
		}
	}
}

// The rest of a response's header has a time limit once it has begun.
func TestResponseHeaderTimeout(t *testing.T) {
	t.Parallel()
	l := start(t, allow("o.example"), func(b *networkproxy.Builder) { b.Limits(networkproxy.Limits{HeaderTimeout: 50 * time.Millisecond}) })
	l.serve("o.example", 80, func(c *net.TCPConn) {
		io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A")
		io.Copy(io.Discard, c)
	})
	w := l.dialHTTP(t)
	w.get("http://o.example/")
	if got := w.readResponse("GET"); got.StatusCode != 504 || !strings.Contains(got.body, `"reason":"timeout"`) {
		t.Errorf("got %s %s", got.Status, got.body)
	}
}
