// One request after the other on a connection, against each of them alone.

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

// The requests and the answers that TestSequences makes sequences of.
var (
	sequenceFields = []string{
		"Accept: */*", "Cookie: a=1", "Cookie: b=2", "Connection: keep-alive", "Connection: x-one, cookie",
		"Connection: host, content-length, transfer-encoding", "X-One: 1", "X-Two: 2", "TE: trailers", "TE: gzip, trailers",
		"Proxy-Secret: eDp5", "Proxy-Connection: keep-alive", "User-Agent: u", "Pragma: no-cache", "Keep-Alive: 5",
		"Expect: 100-continue", "x-lower: \xe9", "Range: bytes=0-1",
	}
	sequenceContents = []string{
		"\r\n", "\r\n", "\r\n",
		"Content-Length: 0\r\n\r\n",
		"Content-Length: 5\r\n\r\nhello",
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Else: 2\r\n\r\n",
	}
	sequenceAnswers = []string{
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

// sequenceOrigin answers a request for /n... by the n-th answer, and keeps
// what has reached it by the number behind that.
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
		content, err := io.ReadAll(r.Body)
		parts := strings.SplitN(r.URL.Path, "/", 4)
		n, _ := strconv.Atoi(parts[1])
		o.mu.Lock()
		o.got[parts[2]] += fmt.Sprintf("%s %s %s %v %q %v %v %v\n", r.Method, parts[3]+"?"+r.URL.RawQuery, r.Host, r.Header, content, err, r.TransferEncoding, r.Trailer)
		o.mu.Unlock()
		text := sequenceAnswers[n]
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

// Sequences of requests are answered as each of them is alone, and reach the
// origin as each does alone: nothing of one is found in another.
func TestSequences(t *testing.T) {
	t.Parallel()
	o := &sequenceOrigin{got: make(map[string]string)}
	l := start(t, allow("a.example", "b.example"), nil)
	l.serve("a.example", 80, o.serve)
	l.serve("b.example", 81, o.serve)
	rnd := rand.New(rand.NewPCG(7, 11))
	number := 0
	// ask sends requests at once and returns what was answered and what the
	// origin got, by request.
	ask := func(texts []string, methods []string) (answers, reached []string) {
		w := l.dialHTTP(t)
		first := number
		var b strings.Builder
		for _, text := range texts {
			b.WriteString(strings.Replace(text, "NUMBER", strconv.Itoa(number), 1))
			number++
		}
		all := b.String()
		go func() { // in pieces
			for len(all) > 0 {
				n := min(len(all), 1+rand.IntN(400))
				if _, err := io.WriteString(w.TCPConn, all[:n]); err != nil {
					return
				}
				all = all[n:]
			}
		}()
		for _, method := range methods {
			text := ""
			for {
				a, err := http.ReadResponse(w.r, &http.Request{Method: method})
				if err != nil {
					text += "no answer"
					break
				}
				content, err := io.ReadAll(a.Body)
				a.Header.Del("Date")
				text += fmt.Sprintf("%s %v %q %v %v\n", a.Status, a.Header, content, err, a.Trailer)
				if a.StatusCode >= 200 {
					break
				}
			}
			answers = append(answers, text)
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		for i := range texts {
			reached = append(reached, o.got[strconv.Itoa(first+i)])
		}
		w.Close()
		return answers, reached
	}
	for range scaled(150) {
		var texts, methods []string
		for range 2 + rnd.IntN(8) {
			method := []string{"GET", "GET", "GET", "HEAD", "POST", "PUT", "OPTIONS", "DELETE"}[rnd.IntN(8)]
			host := []string{"a.example", "b.example:81", "A.example:80", "denied.example"}[rnd.IntN(4)]
			path := fmt.Sprintf("/%d/NUMBER/%s", rnd.IntN(len(sequenceAnswers)), []string{"", "x?q=1", "x?", "%41", "a//b?c#d", "?\xff"}[rnd.IntN(6)])
			var fields []string
			for range rnd.IntN(6) {
				f := sequenceFields[rnd.IntN(len(sequenceFields))]
				if !strings.HasPrefix(f, "Expect") || !slices.Contains(fields, f) {
					fields = append(fields, f)
				}
			}
			texts = append(texts, method+" http://"+host+path+" HTTP/1.1\r\nHost: other.example\r\n"+lines(fields)+sequenceContents[rnd.IntN(len(sequenceContents))])
			methods = append(methods, method)
		}
		answers, reached := ask(texts, methods)
		for i := range texts {
			if i > 0 && answers[i] == "no answer" {
				break // the connection has ended with the answer before
			}
			alone, reachedAlone := ask(texts[i:i+1], methods[i:i+1])
			if answers[i] != alone[0] {
				t.Errorf("%d of\n%q\nwas answered\n%s\nand alone\n%s", i, texts, answers[i], alone[0])
			}
			if reached[i] != reachedAlone[0] {
				t.Errorf("%d of\n%q\nreached the origin as\n%s\nand alone as\n%s", i, texts, reached[i], reachedAlone[0])
			}
			if strings.Contains(answers[i], "forged") || strings.Contains(reached[i], "eDp5") {
				t.Errorf("%q was answered\n%s\nand reached the origin as\n%s", texts[i], answers[i], reached[i])
			}
		}
		if t.Failed() {
			return
		}
	}
}
