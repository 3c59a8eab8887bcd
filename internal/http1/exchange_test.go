// Reuse of memory by the requests of a connection.

package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A context whose Done was called ends with its request and is not used again.
// Another context may be used for the next request, and has not ended then.
func TestRequestContexts(t *testing.T) {
	t.Parallel()
	type key struct{}
	var before, child context.Context
	ended := make(chan struct{}, 1)
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		ctx := r.Context()
		if ctx.Err() != nil {
			t.Errorf("%s: the context has ended before the request", r.URL.Path)
		}
		if before != nil && (ctx == before || before.Err() == nil || child.Err() == nil) {
			t.Errorf("%s: the previous context was reused or has not ended: its error is %v, its child's %v", r.URL.Path, before.Err(), child.Err())
		}
		before = nil
		switch r.URL.Path {
		case "/waits":
			before = ctx
			child = context.WithValue(ctx, key{}, 1)
			context.AfterFunc(ctx, func() { ended <- struct{}{} })
		case "/awaited":
			<-ended
		}
	})
	var b strings.Builder
	for _, path := range []string{"/", "/", "/waits", "/awaited", "/", "/waits", "/awaited"} {
		b.WriteString("GET http://x" + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	if got := sendHalfClosed(t, addr, b.String()); strings.Count(got, "HTTP/1.1 200 ") != 7 {
		t.Errorf("not 7 responses with status 200: %q", got)
	}
}

// Nothing of a request shows up in the next one.
func TestRequestsAreIndependent(t *testing.T) {
	t.Parallel()
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/first" {
			w.Header().Set("X-First", "1")
			r.Header.Set("X-Own", "1")
			r.URL.Opaque, r.Close, r.Trailer, r.TransferEncoding = "x", false, http.Header{"A": nil}, []string{"chunked"}
			return
		}
		if len(r.Header) != 0 || r.Close || r.URL.Opaque != "" || r.URL.RawQuery != "" || r.ContentLength != 0 ||
			len(body) != 0 || r.Trailer != nil || r.TransferEncoding != nil {
			t.Errorf("the second request has parts of the first: URL %v, header %v, body %q", r.URL, r.Header, body)
		}
	})
	second := "GET http://x/second HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, first := range []string{
		"GET http://x/first?q HTTP/1.1\r\nHost: x\r\nA: b\r\nA: c\r\n\r\n",
		"POST http://x/first HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"POST http://x/first HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: B\r\n\r\n1\r\na\r\n0\r\nB: c\r\n\r\n",
	} {
		got := sendHalfClosed(t, addr, first+second)
		if _, after, _ := strings.Cut(got, "X-First"); strings.Count(got, "HTTP/1.1 200 ") != 2 || strings.Contains(after, "X-First") {
			t.Errorf("the second response has parts of the first, or is missing: %q", got)
		}
	}
	// Changes that a handler makes to a request do not override the client's Connection: close.
	if got := sendHalfClosed(t, addr, "GET http://x/first HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"+second); strings.Count(got, "HTTP/1.1") != 1 || !strings.Contains(got, "Connection: close") {
		t.Errorf("the connection did not end after the first response: %q", got)
	}
}

// Each response belongs to its request, and one connection to the origin serves them all.
func TestResponsesMatchRequests(t *testing.T) {
	t.Parallel()
	from := startOrigin(t, echoPaths)
	tr := newTestTransport(t)
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		out := r.Clone(r.Context())
		out.URL.Host, out.RequestURI = from, ""
		resp, err := tr.RoundTrip(out.WithContext(r.Context()))
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		io.Copy(w, resp.Body)
	})
	var b strings.Builder
	for _, path := range []string{"/a", "/bb", "/none", "/c", "/a"} {
		b.WriteString("GET http://x" + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	got := sendHalfClosed(t, addr, b.String())
	var bodies []string
	for part := range strings.SplitSeq(got, "HTTP/1.1 200 OK\r\n") {
		if _, body, ok := strings.Cut(part, "\r\n\r\n"); ok {
			bodies = append(bodies, body)
		}
	}
	if strings.Join(bodies, "|") != "/a|/bb||/c|/a" {
		t.Errorf("bodies of the responses: %q in %q", bodies, got)
	}
	if n := tr.dials.Load(); n != 1 {
		t.Errorf("%d connections for five successive requests, want 1", n)
	}
}

// If the client disconnects while the origin is working, the round trip ends.
func TestClientLeavesWhileOriginWorks(t *testing.T) {
	t.Parallel()
	began, closed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	from := startOrigin(t, func(_ int, c net.Conn, br *bufio.Reader) {
		http.ReadRequest(br)
		close(began)
		br.Peek(1)
		close(closed)
	})
	tr := newTestTransport(t)
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		r.URL.Host = from
		_, err := tr.RoundTrip(r)
		ended <- err
	})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n")
	<-began
	c.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("RoundTrip returned %v, want %v", err, context.Canceled)
	}
	<-closed
}

// The memory of a large request or response is not kept for the next request,
// because an idle connection would hold it.
func TestLargeExchangesAreNotKept(t *testing.T) {
	t.Parallel()
	var before http.ResponseWriter
	addr := startServerFunc(t, func(w http.ResponseWriter, r *http.Request) {
		again := r.URL.Path == "/again"
		if before != nil && (w == before) != again {
			t.Errorf("%.40s: uses the memory of the previous request: %t, want %t", r.URL, w == before, again)
		}
		before = w
		if r.URL.RawQuery == "response" {
			for i := range usualFields + 1 {
				w.Header().Set(fmt.Sprint("X-", i), "")
			}
		}
	})
	get := func(path string, fields string) string {
		return "GET http://x" + path + " HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n"
	}
	got := sendHalfClosed(t, addr, get("/", "")+get("/again", "")+
		get("/again", strings.Repeat("X:\r\n", usualFields))+
		get("/", "")+get("/again", "X: "+strings.Repeat("x", bufferSize)+"\r\n")+
		get("/", "")+get("/again?response", "")+
		get("/", "")+get("/again", ""))
	if n := strings.Count(got, "HTTP/1.1 200 "); n != 9 {
		t.Errorf("%d responses with status 200, want 9", n)
	}
}
