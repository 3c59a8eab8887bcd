// Tests of the server with net/http's client and with raw bytes.

package http1

import (
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
	"testing"
	"time"
)

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
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
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
			t.Errorf("%s: got %q, %v, want %q", path, got, err, want)
		}
		if path == "/refuse" { // the server cannot know whether a body follows
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
			t.Errorf("the context of the request ended with %v, want %v", err, context.Canceled)
		}
	}
}

// A client that sends its next request during a slow response to the first gets
// both responses.
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
	// Wait until the watcher runs.
	timer := time.NewTimer(3 * watchDelay)
	<-timer.C
	io.WriteString(c, "GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	close(second)
	got, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(got), "/1;") || !strings.Contains(string(got), "/2;") {
		t.Errorf("got %q, %v, want two responses", got, err)
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
			t.Fatalf("echo of %q: got %q, %v", word, got, err)
		}
	}
	pw.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("after the last echo: got %q, %v, want the end", rest, err)
	}
	if fmt.Sprint(informational) != "[103early]" && fmt.Sprint(informational) != "[103 early]" {
		t.Errorf("informational responses: %q, want 103 with Link: early", informational)
	}
}

// A response without a body must not announce one. A client that believes it
// would take the next response, perhaps of another origin server, for the body
// (RFC 9110 section 8.6).
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
		t.Errorf("got\n%q\nwant\n%q", got, want)
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
			t.Errorf("%s: %q looks like a complete response", path, got)
		}
		resp.Body.Close()
	}
	if v := <-panicked; v != "oops" {
		t.Errorf("Panicked was called with %v, want oops", v)
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
		t.Errorf("reading from an idle connection after Shutdown: %v", err)
	}
	close(finish)
	if text := <-got; !strings.Contains(text, "Connection: close") || !strings.Contains(text, "done") {
		t.Errorf("got %q, want the whole response and Connection: close", text)
	}
}

// Handlers that ignore the body, read half of it, or respond before it arrives.
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
		t.Errorf("got %q, want 3 responses", got)
	}
	// After a body with broken framing, the start of the next request is not
	// known.
	addr = startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, err)
	})
	next := "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, body := range []string{"five\r\n", "5\r\nhello you\r\n0\r\n\r\n", "0\r\nno field\r\n\r\n"} {
		got := sendHalfClosed(t, addr, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body+next+next)
		if strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "Connection: close") {
			t.Errorf("after the body %q: got %q, want one response and Connection: close", body, got)
		}
	}
	// A body that is too long to drain ends the connection after the response. Its
	// rest is not taken for a request.
	addr = startServerFunc(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "unread") })
	long := strings.Repeat("x", drainBytes) + next + next
	got := sendHalfClosed(t, addr, fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(long), long))
	if strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "unread") {
		t.Errorf("long body: got %q, want one response", got)
	}
}
