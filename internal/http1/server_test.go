// The server against net/http's client and raw bytes.

package http1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"
)

// startServer serves handler on a loopback port and returns its address. Every
// connection is waited for at the end of the test.
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

// newTestClient is a net/http client of its own.
func newTestClient(t testing.TB) *http.Client {
	tr := &http.Transport{DisableCompression: true, ExpectContinueTimeout: time.Minute}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// sendHalfClosed sends bytes and the end of the stream, and returns all that comes back
// until the server closes.
func sendHalfClosed(t testing.TB, addr, text string) string {
	t.Helper()
	return exchangeBytes(t, addr, text, true)
}

// sendOpen is raw without the end of the stream.
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
		t.Fatalf("%.60q: %v after %q", text, err, got)
	}
	return string(got)
}

func TestMalformedHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, text, want string }{
		{"bare LF", "GET http://x/ HTTP/1.1\nHost: x\n\n", "LF alone"},
		{"bare LF in a header", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n", "LF alone"},
		{"bare CR in a value", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\rC: d\r\n\r\n", "control character"},
		{"NUL in a value", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\x00\r\n\r\n", "control character"},
		{"NUL in the target", "GET http://x/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "control character"},
		{"folded", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "folded"},
		{"folded first line", "GET http://x/ HTTP/1.1\r\n Host: x\r\n\r\n", "folded"},
		{"space before colon", "GET http://x/ HTTP/1.1\r\nHost : x\r\n\r\n", "white space before the colon"},
		{"no colon", "GET http://x/ HTTP/1.1\r\nHost: x\r\nabc\r\n\r\n", "no name"},
		{"empty name", "GET http://x/ HTTP/1.1\r\nHost: x\r\n: v\r\n\r\n", "no name"},
		{"odd name", "GET http://x/ HTTP/1.1\r\nHost: x\r\na b: v\r\n\r\n", ""},
		{"two spaces", "GET  http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "request line"},
		{"trailing space", "GET http://x/ HTTP/1.1 \r\nHost: x\r\n\r\n", "request line"},
		{"HTTP/0.9", "GET http://x/\r\n\r\n", "request line"},
		{"HTTP/1.2", "GET http://x/ HTTP/1.2\r\nHost: x\r\n\r\n", "version"},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "version"},
		{"lower-case version", "GET http://x/ http/1.1\r\nHost: x\r\n\r\n", "version"},
		{"no Host", "GET http://x/ HTTP/1.1\r\n\r\n", "no Host"},
		{"two Hosts", "GET http://x/ HTTP/1.1\r\nHost: x\r\nhost: x\r\n\r\n", "more than one Host"},
		{"two lengths", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "more than one Content-Length"},
		{"signed length", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\na", "not a number"},
		{"list of lengths", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na", "not a number"},
		{"huge length", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\na", ""},
		{"length and chunked", "POST http://x/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"},
		{"gzip, chunked", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "not known"},
		{"chunked twice", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "more than one Transfer-Encoding"},
		{"chunked in 1.0", "POST http://x/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "HTTP/1.0"},
		{"vertical tab coding", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "control character"},
		{"an unknown expectation", "GET http://x/ HTTP/1.1\r\nHost: x\r\nExpect: more\r\n\r\n", "expectation"},
		{"a Host that is none", "GET http://x/ HTTP/1.1\r\nHost: a b\r\n\r\n", "holds no host"},
		{"an endless method", strings.Repeat("A", 65) + " http://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "a method of 65 bytes"},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00", "TLS handshake"},
		{"cut short", "GET http://x/ HT", "left in the middle"},
		{"only line ends", "\r\n\r\n\r\n\r\n\r\n\r\n", "empty lines"},
		{"too large", "GET http://x/ HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("a", 70<<10) + "\r\n\r\n", "too large"},
		{"too many", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 20<<10) + "\r\n", "too large"},
		{"too many short fields", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A:\r\n", 256) + "\r\n", "more than 256 fields"},
		{"too many fields of the same name", "GET http://x/ HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("Via: a\r\n", 256) + "\r\n", "more than 256 fields"},
		{"too many trailers announced", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: a" + strings.Repeat(",a", 300) + "\r\n\r\n0\r\n\r\n", "more than 256 fields"},
		{"too many trailers announced in two fields", "POST http://x/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + strings.Repeat("Trailer: a"+strings.Repeat(",a", 128)+"\r\n", 2) + "\r\n0\r\n\r\n", "more than 256 fields"},
	}
	var mu sync.Mutex
	reported := make(map[string]bool)
	addr := startServer(t, &Server{
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") }),
		Malformed: func(_ net.Conn, err error) {
			mu.Lock()
			defer mu.Unlock()
			reported[err.Error()] = true
		},
	})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := sendHalfClosed(t, addr, test.text)
			want := "HTTP/1.1 400 "
			for prefix, status := range map[string]string{"too": "431", "HTTP/1.2": "505", "HTTP/2": "505", "gzip": "501", "an unknown": "417", "an endless": "501"} {
				if strings.HasPrefix(test.name, prefix) {
					want = "HTTP/1.1 " + status + " "
				}
			}
			if !strings.HasPrefix(got, want) || !strings.Contains(got, test.want) || strings.Count(got, want) > 1 {
				t.Errorf("%q", got)
			}
			_, text, _ := strings.Cut(got, "\r\n\r\n")
			why := strings.TrimPrefix(strings.TrimSpace(text), "networkproxy cannot carry this request: ")
			mu.Lock()
			defer mu.Unlock()
			if !reported[why] {
				t.Errorf("Malformed was not told %q", why)
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
			t.Errorf("%d: %.300q", n, got)
		}
	}

	// One byte at a time.
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
		t.Errorf("%q", got)
	}
}

func TestFraming(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/length":
			w.Header().Set("Content-Length", "3")
			io.WriteString(w, "abc")
		case "/chunked":
			io.WriteString(w, "abc")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "def")
		case "/empty":
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Content-Length", "7")
			w.WriteHeader(304)
		case "/trailers":
			w.Header().Set("Trailer", "A")
			io.WriteString(w, "x")
			w.Header().Set("A", "1")
			w.Header().Set(http.TrailerPrefix+"B", "2")
		case "/short":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "abc")
		case "/split":
			w.Header().Set("X", "a\r\nInjected: yes")
		}
	})
	const header11 = "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	tests := []struct{ name, request, want string }{
		{"length", fmt.Sprintf(header11, "/length"), "Content-Length: 3\r\n*\r\n\r\nabc"},
		{"chunked", fmt.Sprintf(header11, "/chunked"), "Transfer-Encoding: chunked\r\n*\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"},
		{"chunked for 1.0", "GET /chunked HTTP/1.0\r\n\r\n", "Connection: close\r\n\r\nabcdef"},
		{"nothing", fmt.Sprintf(header11, "/empty"), "Content-Length: 0\r\n*\r\n\r\n"},
		{"204", fmt.Sprintf(header11, "/204"), "HTTP/1.1 204 No Content\r\n*\r\n\r\n"},
		{"304", fmt.Sprintf(header11, "/304"), "Content-Length: 7\r\n*\r\n\r\n"},
		{"HEAD", strings.Replace(fmt.Sprintf(header11, "/length"), "GET", "HEAD", 1), "Content-Length: 3\r\n*\r\n\r\n"},
		{"trailers", fmt.Sprintf(header11, "/trailers"), "\r\n\r\n1\r\nx\r\n0\r\nB: 2\r\nA: 1\r\n\r\n"},
		{"short", fmt.Sprintf(header11, "/short"), "Content-Length: 10\r\n*\r\n\r\nabc"},
		{"no second header", fmt.Sprintf(header11, "/split"), "X: a  Injected: yes\r\n*"},
	}
	for _, test := range tests {
		got := sendHalfClosed(t, addr, test.request)
		from, to, wild := strings.Cut(test.want, "*")
		if !strings.Contains(got, from) || wild && !strings.HasSuffix(got, to) || !wild && !strings.HasSuffix(got, from) {
			t.Errorf("%s: %q", test.name, got)
		}
	}
}

func TestContinue(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(403)
			return
		}
		io.Copy(w, r.Body)
	})
	const header = "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	for path, want := range map[string]string{"/read": "HTTP/1.1 100 Continue\r\n\r\n", "/refuse": "HTTP/1.1 403 Forbidden\r\n"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprintf(c, header, path)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		if path == "/refuse" { // nobody can tell whether content follows
			if rest, err := io.ReadAll(c); err != nil || !bytes.Contains(rest, []byte("Connection: close")) && !bytes.HasSuffix(rest, []byte("\r\n\r\n")) {
				t.Errorf("after the refusal: %q, %v", rest, err)
			}
		}
	}
}

func TestClientLeaves(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "content"} {
		left := make(chan error, 1)
		began := make(chan struct{})
		addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			close(began)
			<-r.Context().Done()
			left <- r.Context().Err()
		})
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		<-began
		c.Close()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// A client that sends its next request while the answer to the first takes
// its time loses neither.
func TestPipeliningWhileWatched(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/1" {
			<-second
		}
		io.WriteString(w, r.URL.Path+";")
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	// Past the delay, so that the watch is on.
	timer := time.NewTimer(3 * watchDelay)
	<-timer.C
	io.WriteString(c, "GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	close(second)
	got, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(got), "/1;") || !strings.Contains(string(got), "/2;") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestHijack(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(2 * watchDelay) // the watch is on
		<-timer.C
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		if r.Context().Err() != nil {
			t.Error("hijacking ended the request's context")
		}
		if _, ok := c.(*net.TCPConn); !ok {
			t.Errorf("hijacked a %T", c)
		}
		line, err := rw.ReadString('\n')
		fmt.Fprintf(c, "raw %s %v", line, err)
	})
	if got := sendOpen(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly\n"); got != "raw early\n <nil>" {
		t.Errorf("%q", got)
	}
}

func TestFullDuplexAndInformational(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "early")
		w.WriteHeader(103)
		w.Header().Del("Link")
		w.WriteHeader(200)
		rc := http.NewResponseController(w)
		rc.Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			if n > 0 {
				w.Write(bytes.ToUpper(buf[:n]))
				rc.Flush()
			}
			if err != nil {
				return
			}
		}
	})
	pr, pw := io.Pipe()
	var informational []string
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			informational = append(informational, fmt.Sprint(code, h.Get("Link")))
			return nil
		},
	})
	r, _ := http.NewRequestWithContext(ctx, "POST", "http://"+addr, pr)
	resp, err := newTestClient(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for _, word := range []string{"one", "two", "three"} {
		io.WriteString(pw, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != strings.ToUpper(word) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if fmt.Sprint(informational) != "[103early]" && fmt.Sprint(informational) != "[103 early]" {
		t.Errorf("interim answers %q", informational)
	}
}

// An answer that has no content, by its status, must not say that it has: a
// client that believes it takes the next answer, of another origin perhaps,
// for the content (RFC 9110 section 8.6).
func TestNoLengthWithoutBody(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Length", "44")
		h.Set("Transfer-Encoding", "chunked")
		h.Set("Date", "now")
		w.WriteHeader(103)
		w.WriteHeader(204)
	})
	want := "HTTP/1.1 103 Early Hints\r\nDate: now\r\n\r\nHTTP/1.1 204 No Content\r\nDate: now\r\nConnection: close\r\n\r\n"
	if got := sendHalfClosed(t, addr, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestAbortAndPanic(t *testing.T) {
	t.Parallel()
	panicked := make(chan any, 1)
	addr := startServer(t, &Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "part")
			http.NewResponseController(w).Flush()
			if r.URL.Path == "/abort" {
				panic(http.ErrAbortHandler)
			}
			panic("oops")
		}),
		Panicked: func(_ net.Conn, v any, _ []byte) { panicked <- v },
	})
	for _, path := range []string{"/abort", "/panic"} {
		resp, err := newTestClient(t).Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("%s: %q arrived as if it were whole", path, got)
		}
		resp.Body.Close()
	}
	if v := <-panicked; v != "oops" {
		t.Errorf("told of %v", v)
	}
}

func TestShutdownLetsResponseFinish(t *testing.T) {
	t.Parallel()
	began, finish := make(chan struct{}), make(chan struct{})
	s := &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-finish
		io.WriteString(w, "done")
	})}
	addr := startServer(t, s)
	idle, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	got := make(chan string, 1)
	go func() { got <- sendHalfClosed(t, addr, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }()
	<-began
	s.Shutdown()
	if _, err := io.ReadAll(idle); err != nil && !isReset(err) {
		t.Errorf("an idle connection: %v", err)
	}
	close(finish)
	if text := <-got; !strings.Contains(text, "Connection: close") || !strings.Contains(text, "done") {
		t.Errorf("%q", text)
	}
}

func isReset(err error) bool { return strings.Contains(err.Error(), "reset") }

// Handlers that ignore content, read half of it, or answer before it has come.
func TestUnreadBody(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			io.CopyN(io.Discard, r.Body, 500)
		}
		io.WriteString(w, r.URL.Path+";")
	})
	body := strings.Repeat("x", 1000)
	var b strings.Builder
	for _, path := range []string{"/none", "/half", "/last"} {
		fmt.Fprintf(&b, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n%s", path, body)
	}
	if got := sendHalfClosed(t, addr, b.String()); strings.Count(got, "HTTP/1.1 200") != 3 {
		t.Errorf("%q", got)
	}
	// Behind content that is not framed as it says, nobody knows where a next
	// request would start.
	addr = startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, err)
	})
	next := "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, body := range []string{"five\r\n", "5\r\nhello you\r\n0\r\n\r\n", "0\r\nno field\r\n\r\n"} {
		got := sendHalfClosed(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body+next+next)
		if strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "Connection: close") {
			t.Errorf("%q: %q", body, got)
		}
	}
	// Too much to read for nothing: the connection ends behind the answer, and
	// what stands further on in the content is no request.
	addr = startServerFunc(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "unread") })
	long := strings.Repeat("x", drainBytes) + next + next
	got := sendHalfClosed(t, addr, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(long), long))
	if strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "unread") {
		t.Errorf("long content: %q", got)
	}
}

// The bound on fields is exact, in the header and in the trailer section, and
// the trailer section has the bounds in bytes and the grammar of a header.
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
		{"a folded first trailer", chunked + "\r\n1\r\nx\r\n0\r\n A: 1\r\n\r\n", "folded"},
		{"a trailer with a space before its colon", chunked + "\r\n1\r\nx\r\n0\r\nA : 1\r\n\r\n", "0 x <nil> []"},
		{"a trailer that is no field", chunked + "\r\n1\r\nx\r\n0\r\nA\r\n\r\n", "no name"},
		{"trailers cut short", chunked + "\r\n1\r\nx\r\n0\r\nA: 1\r\n", "unexpected EOF"},
		{"no end", chunked + "\r\n1\r\nx\r\n0\r\n", "unexpected EOF"},
		{"a long chunk extension", chunked + "\r\n1;" + strings.Repeat("e", 5000) + "\r\nx\r\n0\r\n\r\n", "too long"},
		{"long chunk extensions", chunked + "\r\n" + strings.Repeat("1;"+strings.Repeat("e", 3000)+"\r\nx\r\n", 10) + "0\r\n\r\n", "too much non-data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := sendHalfClosed(t, addr, tt.request); !strings.Contains(got, tt.want) {
				t.Errorf("%.300q, want %q", got, tt.want)
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
		t.Errorf("%q, %v", got, err)
	}
}

func TestDetach(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request, want string
	}{
		{"nothing early", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\"\""},
		{"early bytes", "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly", "\"early\""},
		{"content", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcearly", "\"early\" abc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				c, early, err := w.(Detacher).Detach(nil)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if _, ok := c.(*net.TCPConn); !ok {
					t.Errorf("detached a %T", c)
				}
				if _, _, err := w.(Detacher).Detach(nil); err != http.ErrHijacked {
					t.Errorf("a second time: %v, want %v", err, http.ErrHijacked)
				}
				if _, err := w.Write([]byte("x")); err != http.ErrHijacked {
					t.Errorf("writing an answer: %v, want %v", err, http.ErrHijacked)
				}
				fmt.Fprintf(c, "%q %s", early, body)
			})
			if got := strings.TrimSpace(sendOpen(t, addr, tt.request)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestDetachedBuffers: what was early stays what it was when the buffers serve
// other connections, and a request with content keeps its own.
func TestDetachedBuffers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, request string
		reused        bool
	}{
		{"no content", "GET / HTTP/1.1\r\nHost: x\r\n\r\nearly", true},
		{"content", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcearly", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			defer ours.Close()
			go io.WriteString(theirs, tt.request)
			c := &conn{server: new(Server), Conn: ours, br: bufio.NewReaderSize(ours, bufferSize), bw: bufio.NewWriterSize(ours, bufferSize)}
			c.watcher.init(c)
			x := newExchange(t.Context(), nil, nil)
			r, err := c.readRequest(x)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadAll(r.Body)
			br := c.br
			w := &x.writer
			w.init(c, r)
			_, early, err := w.Detach(nil)
			if err != nil {
				t.Fatal(err)
			}
			br.Reset(strings.NewReader(strings.Repeat("x", bufferSize)))
			if br.Peek(bufferSize); string(early) != "early" {
				t.Errorf("early is %q once the buffer is used again", early)
			}
			if c.br != nil || c.bw != nil {
				t.Error("the connection keeps its buffers")
			}
			// A pool may drop what it is given, so that only one way is certain.
			if got := c.server.readers.Get(); got != nil && !tt.reused {
				t.Error("the buffers of a request with content are used again")
			}
		})
	}
}
