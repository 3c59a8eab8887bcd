// Test of sequences of requests on one connection.

package networkproxy_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// The parts of the requests and responses of TestSequences.
var (
	sequenceFields = []string{
		"Accept: */*", "Cookie: a=1", "Cookie: b=2", "Connection: keep-alive", "Connection: x-one, cookie",
		"Connection: host, content-length, transfer-encoding", "X-One: 1", "X-Two: 2", "TE: trailers", "TE: gzip, trailers",
		"Proxy-Secret: eDp5", "Proxy-Connection: keep-alive", "User-Agent: u", "Pragma: no-cache", "Keep-Alive: 5",
		"Expect: 100-continue", "x-lower: \xe9", "Range: bytes=0-1",
	}
	sequenceBodies = []string{
		"\r\n", "\r\n", "\r\n",
		"Content-Length: 0\r\n\r\n",
		"Content-Length: 5\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Else: 2\r\n\r\n",
	}
	sequenceResponses = []string{
		"200 OK\r\nContent-Length: 2\r\n\r\nok",
		"200 OK\r\nContent-Length: 2\r\nX-One: 1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok",
		"200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"200 OK\r\nContent-Length: 3\r\nConnection: x-hop, keep-alive\r\nX-Hop: 1\r\nX-Proxy-Error: x\r\nProxy-Y: 1\r\n\r\nabc",
		"404 Not Found\r\nContent-Length: 1\r\nDate: then\r\nContent-Type: a/b\r\n\r\n4",
		"204 No Content\r\nX-Two: 2\r\n\r\n",
		"304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
		"103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n2\r\nok\r\n0\r\nX-End: 1\r\nX-Also: 2\r\n\r\n",
		"200 OK\r\nConnection: close\r\n\r\nto the end",
		"200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
		"200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
	}
)

// sequenceOrigin responds to a request for /n/NUMBER/... with response n, and
// records the request under NUMBER.
type sequenceOrigin struct {
	mu  sync.Mutex
	got map[string]string
}

func (o *sequenceOrigin) serve(c *net.TCPConn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if r.Header.Get("Expect") != "" {
			io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
		}
		body, err := io.ReadAll(r.Body)
		parts := strings.SplitN(r.URL.Path, "/", 4)
		n, _ := strconv.Atoi(parts[1])
		o.mu.Lock()
		o.got[parts[2]] += fmt.Sprintf("%s %s %s %v %q %v %v %v\n", r.Method, parts[3]+"?"+r.URL.RawQuery, r.Host, r.Header, body, err, r.TransferEncoding, r.Trailer)
		o.mu.Unlock()
		text := sequenceResponses[n]
		if r.Method == "HEAD" {
			text, _, _ = strings.Cut(text, "\r\n\r\n")
			text += "\r\n\r\n"
			if strings.HasPrefix(text, "103") {
				text += "HTTP/1.1 200 OK\r\n\r\n"
			}
		}
		io.WriteString(c, "HTTP/1.1 "+text)
		if strings.Contains(text, "Connection: close") {
			return
		}
	}
}

// sequenceRequest is a request of a sequence. NUMBER in its text stands for its
// number.
type sequenceRequest struct{ method, text string }

// randomRequest returns a request to one of the hosts, for one of the responses.
func randomRequest(rnd *rand.Rand) sequenceRequest {
	method := []string{"GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"}[rnd.IntN(8)]
	host := []string{"a.example", "b.example:81", "A.example:80", "denied.example"}[rnd.IntN(4)]
	path := fmt.Sprintf("/%d/NUMBER/%s", rnd.IntN(len(sequenceResponses)), []string{"", "x?q=1", "x?", "%41", "a//b?c#d", "?\xff"}[rnd.IntN(6)])
	var fields []string
	for range rnd.IntN(6) {
		f := sequenceFields[rnd.IntN(len(sequenceFields))]
		if !strings.HasPrefix(f, "Expect") || !slices.Contains(fields, f) {
			fields = append(fields, f)
		}
	}
	body := sequenceBodies[rnd.IntN(len(sequenceBodies))]
	return sequenceRequest{method, method + " http://" + host + path + " HTTP/1.1\r\nHost: other.example\r\n" + lines(fields) + body}
}

// sequenceResult is the client's response to a request, and the request as the
// origin server got it.
type sequenceResult struct{ response, reached string }

const noResponse = "no response"

// send sends the requests at once, in random pieces. first is the number of the
// first request.
func (o *sequenceOrigin) send(t *testing.T, l *lab, first int, requests []sequenceRequest) []sequenceResult {
	w := l.dialHTTP(t)
	defer w.Close()
	var b strings.Builder
	for i, r := range requests {
		b.WriteString(strings.Replace(r.text, "NUMBER", strconv.Itoa(first+i), 1))
	}
	all := b.String()
	go func() {
		for len(all) > 0 {
			n := min(len(all), 1+rand.IntN(400))
			if _, err := io.WriteString(w.TCPConn, all[:n]); err != nil {
				return
			}
			all = all[n:]
		}
	}()
	results := make([]sequenceResult, len(requests))
	for i, r := range requests {
		results[i].response = w.describeResponse(r.method)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range results {
		results[i].reached = o.got[strconv.Itoa(first+i)]
	}
	return results
}

// describeResponse reads a response, and the informational responses before it, and
// returns everything in them but their dates.
func (w *rawConn) describeResponse(method string) string {
	text := ""
	for {
		a, err := http.ReadResponse(w.r, &http.Request{Method: method})
		if err != nil {
			return text + noResponse
		}
		body, err := io.ReadAll(a.Body)
		a.Header.Del("Date")
		text += fmt.Sprintf("%s %v %q %v %v\n", a.Status, a.Header, body, err, a.Trailer)
		if a.StatusCode >= 200 {
			return text
		}
	}
}

// TestSequences checks that each request of a pipelined sequence has the same
// response, and reaches the origin server in the same form, as if it were the only
// request on its connection.
func TestSequences(t *testing.T) {
	t.Parallel()
	o := &sequenceOrigin{got: make(map[string]string)}
	l := start(t, allow("a.example", "b.example"), nil)
	l.serve("a.example", 80, o.serve)
	l.serve("b.example", 81, o.serve)
	rnd := rand.New(rand.NewPCG(7, 11))
	number := 0
	send := func(requests []sequenceRequest) []sequenceResult {
		first := number
		number += len(requests)
		return o.send(t, l, first, requests)
	}
	for range scaled(150) {
		var requests []sequenceRequest
		for range 2 + rnd.IntN(8) {
			requests = append(requests, randomRequest(rnd))
		}
		for i, got := range send(requests) {
			if i > 0 && got.response == noResponse {
				break // the connection ended with the response before
			}
			want := send(requests[i : i+1])[0]
			if got.response != want.response {
				t.Fatalf("response to request %d of\n%q:\ngot\n%s\nwant\n%s", i, requests, got.response, want.response)
			}
			if got.reached != want.reached {
				t.Fatalf("request %d of\n%q at the origin server:\ngot\n%s\nwant\n%s", i, requests, got.reached, want.reached)
			}
			if strings.Contains(got.response, "forged") || strings.Contains(got.reached, "eDp5") {
				t.Fatalf("request %q: a forged response or a secret field passed:\n%s\n%s", requests[i].text, got.response, got.reached)
			}
		}
	}
}
