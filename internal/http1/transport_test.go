// Tests of the transport with net/http's server and with raw bytes.

package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestReuse(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/close":
			w.Header().Set("Connection", "close")
		case "/304":
			w.WriteHeader(304)
			return
		}
		io.Copy(w, r.Body)
		io.WriteString(w, r.URL.RequestURI())
	}))
	defer s.Close()
	d := newTestTransport(t)
	for _, test := range []struct {
		method, path, body, want string
		dials                    int32
	}{
		{"GET", "/a?b=%20c", "", "/a?b=%20c", 1},
		{"HEAD", "/a", "", "", 1},
		{"POST", "/p", "content", "content/p", 1},
		{"GET", "/304", "", "", 1},
		{"POST", "/empty", "", "/empty", 1},
		{"GET", "/close", "", "/close", 1},
		{"GET", "/after", "", "/after", 2},
	} {
		var body io.Reader
		if test.body != "" {
			body = strings.NewReader(test.body)
		}
		_, got, err := fetch(d, newTestRequest(t, test.method, s.URL+test.path, body))
		if err != nil || got != test.want || d.dials.Load() != test.dials {
			t.Errorf("%s %s: got %q, %v over %d connections, want %q over %d", test.method, test.path, got, err, d.dials.Load(), test.want, test.dials)
		}
	}
	d.CloseIdleConnections()
	if _, _, err := fetch(d, newTestRequest(t, "GET", s.URL, nil)); err != nil || d.dials.Load() != 3 {
		t.Errorf("after CloseIdleConnections: got %v over %d connections, want 3 connections", err, d.dials.Load())
	}
}

func TestStaleConnections(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	addr := startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
		if r, err := http.ReadRequest(br); err == nil {
			io.Copy(io.Discard, r.Body)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			c.Close()
			closed <- struct{}{}
		}
	})
	d := newTestTransport(t)
	for i := range 4 {
		var body io.Reader
		method := "GET"
		if i%2 == 1 {
			method, body = "POST", strings.NewReader("content")
		}
		if _, got, err := fetch(d, newTestRequest(t, method, "http://"+addr, body)); err != nil || got != "ok" {
			t.Fatalf("request %d: got %q, %v", i, got, err)
		}
		<-closed
	}
	if got := d.dials.Load(); got != 4 {
		t.Errorf("%d connections for 4 requests that each ended their own", got)
	}

	// A new connection that ends without a response is an error and is not retried.
	addr = startOrigin(t, func(int, net.Conn, *bufio.Reader) {})
	d = newTestTransport(t)
	if _, _, err := fetch(d, newTestRequest(t, "GET", "http://"+addr, nil)); err == nil || d.dials.Load() != 1 {
		t.Errorf("got error %v after %d connections, want one after 1", err, d.dials.Load())
	}
}

func TestMisbehavingOrigins(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"garbage":               "garbage\r\n\r\n",
		"cut in the header":     "HTTP/1.1 200 OK\r\nConte",
		"two lengths":           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"a bad length":          "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"an unknown coding":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
		"unasked switch":        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"endless informational": strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 50_000) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"an endless header":     "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 2<<20),
		"cut in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
		"cut in a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
		"a bad chunk":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc",
	} {
		if status, body, err := fetch(newTestTransport(t), newTestRequest(t, "GET", "http://"+startFixedOrigin(t, text), nil)); err == nil {
			t.Errorf("%s: got status %d, body %q, want an error", name, status, body)
		}
	}
	// Bytes after a response are not the response to the next request.
	d := newTestTransport(t)
	addr := startOrigin(t, func(n int, c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			text := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
			if n == 1 {
				text += "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
			}
			io.WriteString(c, text)
		}
	})
	for range 2 {
		if _, got, err := fetch(d, newTestRequest(t, "GET", "http://"+addr, nil)); err != nil || got != "ok" {
			t.Errorf("got %q, %v, want ok", got, err)
		}
	}
}

func TestResponseBeforeBodyEnds(t *testing.T) {
	t.Parallel()
	addr := startFixedOrigin(t, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
	pr, pw := io.Pipe()
	defer pw.Close()
	status, body, err := fetch(newTestTransport(t), newTestRequest(t, "POST", "http://"+addr, pr))
	if status != 413 || body != "no" || err != nil {
		t.Errorf("got status %d, body %q, %v, want 413 and no", status, body, err)
	}
}

func TestStreamingUpload(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.WriteHeader(200)
		rc.Flush()
		buf := make([]byte, 10)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			rc.Flush()
			if err != nil {
				fmt.Fprint(w, r.Trailer)
				return
			}
		}
	}))
	defer s.Close()
	pr, pw := io.Pipe()
	r := newTestRequest(t, "POST", s.URL, pr)
	r.Trailer = http.Header{"Sum": nil}
	resp, err := newTestTransport(t).RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"one", "two"} {
		io.WriteString(pw, word)
		got := make([]byte, len(word))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != word {
			t.Fatalf("echo of %q: got %q, %v", word, got, err)
		}
	}
	r.Trailer["Sum"] = []string{"6"}
	pw.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != "map[Sum:[6]]" {
		t.Errorf("trailer echoed by the origin: %q, %v", got, err)
	}
}

func TestClientBodyBreaks(t *testing.T) {
	t.Parallel()
	whole := make(chan error, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		whole <- err
	}))
	defer s.Close()
	pr, pw := io.Pipe()
	go func() {
		io.WriteString(pw, "part")
		pw.CloseWithError(errors.New("the client left"))
	}()
	if _, _, err := fetch(newTestTransport(t), newTestRequest(t, "POST", s.URL, pr)); err == nil {
		t.Error("no error after the client's body broke off")
	}
	if err := <-whole; err == nil {
		t.Error("the origin took part of the body for all of it")
	}

	// The body is shorter than its ContentLength and ends without an error.
	short := newTestRequest(t, "POST", s.URL, io.NopCloser(strings.NewReader("part")))
	short.ContentLength = 100
	if _, _, err := fetch(newTestTransport(t), short); err == nil {
		t.Error("no error for a body that is too short")
	}
	if err := <-whole; err == nil {
		t.Error("the origin took a body that is too short for a complete one")
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, first string
		sent        bool
	}{
		{"100", "HTTP/1.1 100 Continue\r\n\r\n", true},
		{"103, then 100", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", true},
		{"refused", "", false},
	} {
		read := make(chan string, 1)
		addr := startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.WriteString(c, test.first)
			if test.sent {
				b, _ := io.ReadAll(r.Body)
				read <- string(b)
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			if !test.sent {
				rest, _ := io.ReadAll(br)
				read <- string(rest)
			}
		})
		r := newTestRequest(t, "POST", "http://"+addr, strings.NewReader("content"))
		r.Header.Set("Expect", "100-continue")
		var informational []int
		d := newTestTransport(t)
		d.informational = func(r *Response) { informational = append(informational, r.Status) }
		if _, got, err := fetch(d, r); err != nil || got != "ok" {
			t.Errorf("%s: got %q, %v, want ok", test.name, got, err)
		}
		want := ""
		if test.sent {
			want = "content"
		}
		if got := <-read; got != want {
			t.Errorf("%s: the origin read %q, want %q", test.name, got, want)
		}
		if len(informational) != strings.Count(test.first, "HTTP/1.1") {
			t.Errorf("%s: informational responses %v", test.name, informational)
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	began := make(chan struct{})
	addr := startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		close(began)
		io.Copy(io.Discard, br)
		close(ended)
	})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-began
		cancel()
	}()
	_, _, err := fetch(newTestTransport(t), newTestRequest(t, "GET", "http://"+addr, nil).WithContext(ctx))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	<-ended
}

// A request on a reused connection that ends without a response is sent again if
// its method is idempotent, and only then (RFC 9110 section 9.2.2).
func TestRetries(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int32{"GET": 2, "HEAD": 2, "OPTIONS": 2, "DELETE": 2, "PUT": 2, "POST": 1, "PATCH": 1, "X-PAY": 1} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			var taken atomic.Int32
			addr := startOrigin(t, func(n int, c net.Conn, br *bufio.Reader) {
				for {
					r, err := http.ReadRequest(br)
					if err != nil || r.URL.Path == "/it" && taken.Add(1) == 1 {
						return
					}
					io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			})
			d := newTestTransport(t)
			if _, _, err := fetch(d, newTestRequest(t, "GET", "http://"+addr+"/before", nil)); err != nil {
				t.Fatal(err)
			}
			_, _, err := fetch(d, newTestRequest(t, method, "http://"+addr+"/it", nil))
			if (err == nil) != (want == 2) || taken.Load() != want {
				t.Errorf("the origin got the request %d times, want %d; error %v", taken.Load(), want, err)
			}
		})
	}
}

// Bytes that an origin sends on an idle connection are not the response to the
// next request (RFC 9112 section 9.2). An origin may for example send the body of
// a response to HEAD, whose text an attacker may have stored there.
func TestUnsolicitedResponse(t *testing.T) {
	t.Parallel()
	forged := make(chan struct{})
	forge := make(chan struct{})
	addr := startOrigin(t, func(n int, c net.Conn, br *bufio.Reader) {
		for first := n == 1; ; first = false {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			if first {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n")
				<-forge
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
				close(forged)
				continue
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ntrue")
		}
	})
	d := newTestTransport(t)
	if _, _, err := fetch(d, newTestRequest(t, "HEAD", "http://"+addr, nil)); err != nil {
		t.Fatal(err)
	}
	close(forge)
	<-forged // on loopback, written bytes have arrived
	if _, got, err := fetch(d, newTestRequest(t, "GET", "http://"+addr, nil)); err != nil || got != "true" || d.dials.Load() != 2 {
		t.Errorf("got %q, %v over %d connections, want the response of a second connection", got, err, d.dials.Load())
	}
}

func TestIdleConnectionsExpire(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	addr := startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, br)
		close(ended)
	})
	d := newTestTransport(t)
	d.IdleTimeout = 20 * time.Millisecond
	if _, _, err := fetch(d, newTestRequest(t, "GET", "http://"+addr, nil)); err != nil {
		t.Fatal(err)
	}
	<-ended
}

// The number of idle connections does not grow with the number of hosts.
func TestIdleConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	const limit = 3
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		mu.Lock()
		defer mu.Unlock()
		switch state {
		case http.StateNew:
			open[c] = true
		case http.StateClosed:
			delete(open, c)
		}
	}
	s.Start()
	defer s.Close()
	tr := &testTransport{Transport: &Transport{MaxIdle: limit}, dialAddr: s.Listener.Addr().String()}
	defer tr.CloseIdleConnections()
	dialed := func() int {
		tr.pool.mu.Lock()
		defer tr.pool.mu.Unlock()
		n := 0
		for _, l := range tr.pool.byAddr {
			for range l.all {
				n++
			}
		}
		if counted := tr.pool.idle.Load(); int64(n) != counted {
			t.Errorf("%d connections are in the pool, but the counter is %d", n, counted)
		}
		return n
	}
	for i := range 20 {
		if _, _, err := fetch(tr, newTestRequest(t, "GET", fmt.Sprintf("http://h%d.example/", i%7), nil)); err != nil {
			t.Fatal(err)
		}
		if n := dialed(); n != min(i+1, limit) {
			t.Errorf("after %d requests: %d idle connections, want %d", i+1, n, min(i+1, limit))
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		mu.Lock()
		n := len(open)
		mu.Unlock()
		if n <= limit {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are open at the origin", n)
		}
		runtime.Gosched()
	}
}
